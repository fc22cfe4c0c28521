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
	// Delivery is how the router ended it. Its Outcome is zero if no delivery
	// reached the router.
	handoff.Delivery

	// Retry reports whether Cloud Tasks retries the task.
	Retry bool

	// Settled is what became of the claim on the work.
	Settled Settled

	// Others are other deliveries of the same task, made at the same time or
	// before.
	Others []Result
}

// String returns the result in one line, for messages of tests.
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
// Store; [Deliver], which does not know the router's Store, derives it from the
// outcome.
type Settled string

// What can become of a claim.
const (
	NotClaimed Settled = "not claimed" // the delivery ended before the claim, or the claim was refused
	Completed  Settled = "completed"   // the work will not run again
	Buried     Settled = "buried"      // the same, and its dead letter is stored
	Counted    Settled = "counted"     // released, and the attempt counts
	Uncounted  Settled = "uncounted"   // released, and the attempt does not count
	LeaseLost  Settled = "lost"        // another claim has taken the lease
	StillHeld  Settled = "still held"  // the Store could not be reached: the claim ends with its lease
)

// settledBy derives what became of the claim from the outcome.
func settledBy(d handoff.Delivery) Settled {
	switch d.Outcome {
	case handoff.Done, handoff.Dropped, handoff.Snoozed:
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

// merge returns the delivery that ran the handler last, or else the last one,
// with the others in its Others.
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

// sight records what is seen of one delivery. Only the delivery may use it until
// ended is true.
type sight struct {
	delivery handoff.Delivery
	ended    atomic.Bool
	settled  Settled // by the Store of a Kit
	buried   bool    // End succeeded
}

type sightKey struct{}

// watched serves a router, and fills in the sight in a request's context.
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
