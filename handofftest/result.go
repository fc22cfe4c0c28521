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
	// Delivery is what the router made of it. It has no Outcome if no delivery
	// reached the router.
	handoff.Delivery

	// Retry says whether Cloud Tasks delivers the task again.
	Retry bool

	// Settled says what became of the claim on the work.
	Settled Settled

	// Others are the deliveries that were made beside or before this one of
	// the same task.
	Others []Result
}

// String says it in a line, for the messages of tests.
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

// Settled is what became of a claim. [Kit.Step] and [Kit.Drain] see it in the
// Store; [Deliver], which does not know the router's, takes the outcome's word
// for it.
type Settled string

// What can become of a claim.
const (
	NotClaimed Settled = "not claimed" // the delivery ended before, or the work was not free
	Completed  Settled = "completed"   // nothing runs the work again
	Buried     Settled = "buried"      // the same, and its dead letter is kept
	Counted    Settled = "counted"     // released: the next attempt follows
	Uncounted  Settled = "uncounted"   // released, as if it had not begun
	LeaseLost  Settled = "lost"        // somebody else's by now
	StillHeld  Settled = "still held"  // the Store could not be told: the lease runs out by itself
)

// settledBy is what an outcome says of the claim.
func settledBy(d handoff.Delivery) Settled {
	switch d.Outcome {
	case handoff.Done, handoff.Dropped, handoff.Snoozed:
		return Completed
	case handoff.Dead:
		return Buried
	case handoff.Failed, handoff.Throttled:
		if d.Reason != "" { // for what the payload is, not for what the handler did
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

// ran says whether the handler ran.
func (r Result) ran() bool { return !r.Started.IsZero() }

// merge makes one result of several deliveries: the one that ran the handler
// last, or else the last, with the others in it.
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

// sight is what is seen of one delivery. It is the delivery's until ended.
type sight struct {
	delivery handoff.Delivery
	ended    atomic.Bool
	settled  Settled // by the Store of a Kit
	buried   bool    // End succeeded
}

type sightKey struct{}

// watched serves a router, and fills in the sight that a request's context has.
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
