package sqlstore_test

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/sqlstore"
)

// TestConfig: every problem comes back at once. The rest of the package is tried
// on real databases in internal/integration/sql, where the drivers are.
func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := sqlstore.New(nil, sqlstore.Config{Schema: "a$1", Isolation: sql.LevelSnapshot})
	for _, want := range []string{"the pool is nil", "Config.Dialect", "Config.Schema", "Config.Isolation"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s in %v", want, err)
		}
	}
	_, err = sqlstore.New(new(sql.DB), sqlstore.Config{Dialect: sqlstore.SQLite, Isolation: sql.LevelReadCommitted})
	if err == nil || !strings.Contains(err.Error(), "with SQLite it must be Serializable") {
		t.Errorf("an isolation level that SQLite has not: %v", err)
	}
	_, err = sqlstore.New(new(sql.DB), sqlstore.Config{Dialect: sqlstore.Postgres})
	assert.NoError(t, err)
}
