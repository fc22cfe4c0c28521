package sql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/brillconsulting/handoff/internal/pgtest"
	"github.com/brillconsulting/handoff/sqlstore"
	_ "github.com/jackc/pgx/v5/stdlib"
)

// server is shared by all tests; each has a schema of its own.
var server *pgtest.Server

func TestMain(m *testing.M) {
	if os.Getenv(envService) != "" {
		if err := serve(); err != nil {
			log.Fatal(err)
		}
		return
	}
	var err error
	server, err = pgtest.New("-c", "max_connections=300")
	if err != nil && (os.Getenv("HANDOFF_REQUIRE_POSTGRES") == "1" || !errors.Is(err, pgtest.ErrNotInstalled)) {
		log.Fatal(err)
	}
	code := m.Run()
	if server != nil {
		server.Close()
	}
	os.Exit(code)
}

var schemas atomic.Int64

// postgres returns a new schema's DB, with its tables, and the pool behind it.
func postgres(t testing.TB) (*sqlstore.DB, *sql.DB) {
	t.Helper()
	pool := connect(t)
	db := inSchema(t, pool, newSchema())
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db, pool
}

func newSchema() string { return fmt.Sprintf(`odd "schema" %d`, schemas.Add(1)) }

func inSchema(t testing.TB, pool *sql.DB, schema string) *sqlstore.DB {
	t.Helper()
	db, err := sqlstore.New(pool, sqlstore.Config{Dialect: sqlstore.Postgres, Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// connect returns a pool on the shared server.
func connect(t testing.TB) *sql.DB {
	t.Helper()
	if server == nil {
		t.Skip("needs PostgreSQL")
	}
	pool, err := sql.Open("pgx", server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}

func exec(t testing.TB, pool *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := pool.ExecContext(context.WithoutCancel(t.Context()), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func quoted(schema string) string { return `"` + strings.ReplaceAll(schema, `"`, `""`) + `"` }
