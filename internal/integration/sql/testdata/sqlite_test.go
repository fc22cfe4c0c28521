package simulate_test

import (
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/brillconsulting/handoff/sqlstore/sqlitetest"
)

func init() {
	newStores = func(t *testing.T) (handoff.Store, handoff.DeadLetterStore) {
		db, _ := sqlitetest.New(t, ":memory:", sqlstore.Config{})
		return db.Store(), db.DeadLetters()
	}
}
