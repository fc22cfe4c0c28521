package sql_test

import (
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
)

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	handofftest.TestDeadLetterStore(t, func(t *testing.T) handoff.DeadLetterStore {
		db, _ := postgres(t)
		return db.DeadLetters()
	})
}
