package handofftest_test

import (
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/memstore"
)

// newStore stands in for the constructor of your store.
func newStore(*testing.T) handoff.Store { return memstore.New() }

func newDeadLetters(*testing.T) handoff.DeadLetterStore { return memstore.NewDeadLetters() }

// Put this into a test file of your store's package, as TestMyStore.
func ExampleTestStore() {
	_ = func(t *testing.T) {
		handofftest.TestStore(t, newStore)
	}
}

func ExampleTestDeadLetterStore() {
	_ = func(t *testing.T) {
		handofftest.TestDeadLetterStore(t, newDeadLetters)
	}
}
