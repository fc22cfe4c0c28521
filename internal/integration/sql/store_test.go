package sql_test

import (
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	handofftest.TestStore(t, func(t *testing.T) handoff.Store {
		db, _ := postgres(t)
		return db.Store()
	})
}
