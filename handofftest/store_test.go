package handofftest_test

import (
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
)

func TestMemoryStore(t *testing.T) {
	t.Parallel()
	handofftest.TestStore(t, func(*testing.T) handoff.Store { return handoff.NewMemoryStore() })
}

func TestMemoryDeadLetters(t *testing.T) {
	t.Parallel()
	handofftest.TestDeadLetterStore(t, func(*testing.T) handoff.DeadLetterStore { return handoff.NewMemoryDeadLetters() })
}
