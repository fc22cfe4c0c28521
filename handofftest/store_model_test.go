package handofftest //nolint:testpackage // the model is not exported

import (
	"fmt"
	"slices"
	"testing"

	"github.com/brillconsulting/handoff"
)

// TestTheContractKeepsItsPromises tests that the model, and so the table of
// handoff.Store, gives what the fence promises. It looks only at the results of
// calls. Without it, TestStore could enforce a wrong contract.
func TestTheContractKeepsItsPromises(t *testing.T) {
	t.Parallel()
	all := historiesOf(6)
	all = append(all, everyOrder(3)...)
	for _, steps := range all {
		w := witness{attempts: map[[2]int]int{}}
		m := model{found: found{state: "absent"}}
		for n, s := range steps {
			if err := w.see(s, m.next(s)); err != nil {
				t.Fatalf("%v, after %v", err, steps[:n+1])
			}
		}
	}
	t.Logf("%d histories", len(all))
}

// everyOrder returns all sequences of length steps.
func everyOrder(length int) (all [][]step) {
	all = [][]step{nil}
	for range length {
		var longer [][]step
		for _, path := range all {
			m := model{found: found{state: "absent"}}
			for _, s := range path {
				m.next(s)
			}
			for _, s := range m.possible() {
				longer = append(longer, append(slices.Clip(path), s))
			}
		}
		all = longer
	}
	return all
}

// witness knows what the callers of a store know. It does not know the record.
type witness struct {
	running  string // the owner that may run the work, or "" after a release
	crashed  bool   // and the lease of running has expired
	ending   bool
	closed   bool           // the work was done
	dead     int            // one more than the redrives of the work that died; 0: it is not dead
	lowest   [2]int         // the lowest rank that may run
	attempts map[[2]int]int // how many attempts of each rank count
	memo     string
}

func (w *witness) see(s step, a expectation) error {
	l := s.lease("")
	rank := [2]int{l.Redrives, l.Generation}
	switch {
	case s.verb == stepCrash:
		w.crashed = true
	case s.verb == stepClaim || s.verb == stepFreed:
		return w.seeClaim(l, rank, a)
	case a.lost:
		if l.Owner == w.running {
			return fmt.Errorf("%s lost a lease that no other owner took", l.Owner)
		}
	case l.Owner != w.running:
		// A repeat must change nothing. The steps that follow test that.
	case s.verb == "keep":
		w.memo = "memo of " + l.Owner
	case s.verb == "end":
		w.ending = true
	case s.verb == "release uncounted":
		w.running = ""
		if !w.ending {
			w.attempts[rank]--
		}
	case s.verb == "release counted":
		w.running = ""
	default:
		w.finish(s)
	}
	return nil
}

func (w *witness) finish(s step) {
	w.running, w.ending = "", false
	next := [2]int{w.lowest[0], w.lowest[1] + 1}
	switch s.verb {
	case "complete":
		w.closed = true
	case "complete as dead":
		w.dead = w.lowest[0] + 1
	case "open":
		w.lowest, w.attempts[next] = next, 0
	case "continue":
		w.attempts[next] = w.attempts[w.lowest]
		w.lowest = next
	case "open uncounted":
		w.attempts[next] = w.attempts[w.lowest] - 1
		w.lowest = next
	}
}

func (w *witness) seeClaim(l handoff.Lease, rank [2]int, a expectation) error {
	switch a.claim.Status {
	case handoff.ClaimDone:
		if !w.closed {
			return fmt.Errorf("%s got ClaimDone for work that is not done", l.Owner)
		}
	case handoff.ClaimSuperseded:
		if !less(rank, w.lowest) {
			return fmt.Errorf("%s was superseded, and nothing ranks above it", l.Owner)
		}
	case handoff.ClaimEnding:
		if !w.ending || w.running != "" && w.running != l.Owner && !w.crashed {
			return fmt.Errorf("%s got ClaimEnding for work that is not ending, or that another owner runs", l.Owner)
		}
		w.running, w.crashed = l.Owner, false
	case handoff.ClaimAcquired:
		return w.seeAcquired(l, rank, a.claim)
	}
	return nil
}

func (w *witness) seeAcquired(l handoff.Lease, rank [2]int, c handoff.Claim) error {
	freed := w.dead > 0 && l.Freed != "" && rank[0] < w.dead
	switch {
	case w.closed:
		return fmt.Errorf("%s runs work that is done", l.Owner)
	case w.ending:
		return fmt.Errorf("%s runs work that is ending", l.Owner)
	case w.dead > 0 && rank[0] < w.dead && !freed:
		return fmt.Errorf("%s runs work that is dead", l.Owner)
	case less(rank, w.lowest) && !freed:
		return fmt.Errorf("%s runs work that a higher rank has superseded", l.Owner)
	case w.running != "" && w.running != l.Owner && !w.crashed:
		return fmt.Errorf("%s runs at the same time as %s", l.Owner, w.running)
	}
	want := w.attempts[rank] + 1
	if w.running == l.Owner {
		want-- // the result of its first claim
	}
	if freed {
		want, w.memo = 1, ""
	}
	if c.Attempt != want {
		return fmt.Errorf("%s has attempt %d, want %d", l.Owner, c.Attempt, want)
	}
	if string(c.Memo) != w.memo {
		return fmt.Errorf("%s has memo %q, want %q", l.Owner, c.Memo, w.memo)
	}
	w.running, w.crashed, w.dead, w.lowest, w.attempts[rank] = l.Owner, false, 0, rank, c.Attempt
	return nil
}

func less(a, b [2]int) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }
