package handofftest

import (
	"fmt"

	"github.com/brillconsulting/handoff/steps"
)

// Piece is one attempt of a handler that uses package steps.
type Piece struct {
	Result
	steps.Progress // of the work, after the attempt
}

// String returns the piece in one line, for test messages.
func (p Piece) String() string {
	text := fmt.Sprintf("%s; steps done: %q", p.Result, p.Done)
	if p.Step != "" {
		text += fmt.Sprintf(", %s at %s", p.Step, p.Position)
	}
	return text
}

// Pieces runs handlers that use package steps piece by piece. It is like
// [Kit.Drain], but after a handler has finished n steps or saved n positions, the
// time of its attempt seems to be up: the next step or Cursor.Save returns
// steps.ErrContinue, and the work continues in another task, which is the next
// piece. n is at least 1. A piece that fails is followed by its retry.
func (k *Kit) Pieces(n int) []Piece {
	k.t.Helper()
	if n < 1 {
		k.t.Fatalf("handofftest: Pieces(%d): a piece needs one step or position at least", n)
	}
	k.setMost(n)
	defer k.setMost(0)
	var pieces []Piece
	for _, r := range k.Drain() {
		progress, err := steps.ParseProgress(r.memo)
		if err != nil {
			k.t.Fatalf("handofftest: Pieces: %s: %v", r, err)
		}
		pieces = append(pieces, Piece{r, progress})
	}
	return pieces
}

func (k *Kit) setMost(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.maxMemos = n
}
