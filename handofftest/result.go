package handofftest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/watch"
)

// Result is how one dispatch of a task ended.
type Result struct {
	// Delivery is how the delivery to the router ended. Its Outcome is zero if the
	// dispatch did not reach the router.
	handoff.Delivery

	// Retry reports whether Cloud Tasks retries the task.
	Retry bool

	// Settled is what became of the claim of the work.
	Settled Settled

	memo []byte // of the work, after the delivery; by the Store of a Kit

	// Others are the other deliveries of the same task: those of [Attempt],
	// [Again], [Twice] and the faults of a [Kit].
	Others []Result
}

// String returns the result in one line, for test messages.
func (r Result) String() string {
	s := fmt.Sprintf("%s on queue %s: ", r.Info.Kind, r.Info.Queue)
	if r.Outcome == 0 {
		s += "no delivery"
	} else {
		s += fmt.Sprintf("attempt %d %s (%d), claim %s", r.Info.Attempt, r.Outcome, r.Status, r.Settled)
	}
	if r.Retry {
		s += ", to be retried"
	}
	if r.Err != nil {
		s += ": " + r.Err.Error()
	}
	return s
}

// Settled is what became of a claim. [Kit.Step] and [Kit.Drain] observe it in the
// Store. [Deliver] does not know the router's Store, and derives it from the
// outcome.
type Settled string

// The values of Settled.
const (
	NotClaimed Settled = "not claimed" // the delivery ended before the claim, or the claim was refused
	Completed  Settled = "completed"   // the work will not run again, unless in a copy for later
	Buried     Settled = "buried"      // the same, and its dead letter is stored
	Counted    Settled = "counted"     // released, and the attempt counts
	Uncounted  Settled = "uncounted"   // released, and the attempt does not count
	LeaseLost  Settled = "lost"        // another claim has taken the lease
	StillHeld  Settled = "still held"  // the Store could not be reached: the claim ends with its lease
)

// settledBy derives from the outcome what became of the claim.
func settledBy(d handoff.Delivery) Settled {
	switch d.Outcome {
	case handoff.Done, handoff.Dropped, handoff.Snoozed, handoff.Retried, handoff.Continued:
		return Completed
	case handoff.Dead:
		return Buried
	case handoff.Failed, handoff.Throttled:
		if d.Reason != "" { // the payload was refused before the handler ran
			return Uncounted
		}
		return Counted
	case handoff.Lost:
		return LeaseLost
	case handoff.Interrupted, handoff.Busy, handoff.Unavailable:
		if d.Started.IsZero() && d.Reason != handoff.ReasonDeadLetterStore {
			return NotClaimed
		}
		return Uncounted
	}
	return NotClaimed
}

// ran reports whether the handler ran.
func (r Result) ran() bool { return !r.Started.IsZero() }

// merge returns the last delivery that ran the handler, with the others in its
// Others. If none ran the handler, it returns the last delivery.
func merge(results []Result) Result {
	at := len(results) - 1
	for i, r := range results {
		if r.ran() {
			at = i
		}
	}
	result := results[at]
	result.Others = slices.Delete(slices.Clone(results), at, at+1)
	return result
}

// sight records what is observed of one delivery. Until ended is true, only the
// goroutines of the delivery may use it.
type sight struct {
	delivery handoff.Delivery
	ended    atomic.Bool
	settled  Settled // by the Store of a Kit
	buried   bool    // End succeeded
	memo     []byte  // of the work
	kept     int     // number of times that the delivery changed memo
}

type sightKey struct{}

// watched wraps a router with a handler that fills in the sight in the context of
// each request.
func watched(router http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := r.Context().Value(sightKey{}).(*sight)
		ended := func(d handoff.Delivery) {
			seen.delivery = d
			seen.ended.Store(true)
		}
		router.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), watch.Key{}, ended)))
	})
}
