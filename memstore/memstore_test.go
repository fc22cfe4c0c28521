package memstore_test

import (
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/memstore"
)

func TestStore(t *testing.T) {
	t.Setenv("HANDOFF_HISTORY_DEPTH", "6") // takes less than a second
	handofftest.TestStore(t, func(*testing.T) handoff.Store { return memstore.New() })
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	handofftest.TestDeadLetterStore(t, func(*testing.T) handoff.DeadLetterStore { return memstore.NewDeadLetters() })
}
