package handoff

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Outcome is how a delivery ended. Each has one status, which is all that
// Cloud Tasks reads: 2xx deletes the task, everything else retries it.
type Outcome int

// The outcomes of a delivery, with the status each is answered by.
const (
	Done            Outcome = iota + 1 // 200: the handler returned nil
	Duplicate                          // 208: this work already completed or was buried, or a newer generation exists
	Dropped                            // 204: the handler returned Drop
	Snoozed                            // 202: a copy for later is safely enqueued
	Dead                               // 205: it will never succeed, and the dead-letter store has it
	Failed                             // 500: retried with backoff
	Busy                               // 409: another delivery of the same task is running; retried with backoff
	Lost                               // 409: the lease was lost while running; the newer claim decides
	Throttled                          // 503 and Retry-After: retried, and the whole queue slows down
	Interrupted                        // 500: shutting down; retried, not counted
	Unavailable                        // 503: Redis, the dead-letter store or the keys are out of reach; not counted
	Unauthenticated                    // 401: no token, or a bad one
	Forbidden                          // 403: a good token of somebody else
	Malformed                          // 400: not a Cloud Tasks delivery
	UnknownKind                        // 404: no handler here, or not yet
	TooLarge                           // 413: the body is over the limit
)

var outcomes = [...]struct {
	name   string
	status int
}{
	Done:            {"done", http.StatusOK},
	Duplicate:       {"duplicate", http.StatusAlreadyReported},
	Dropped:         {"dropped", http.StatusNoContent},
	Snoozed:         {"snoozed", http.StatusAccepted},
	Dead:            {"dead", http.StatusResetContent},
	Failed:          {"failed", http.StatusInternalServerError},
	Busy:            {"busy", http.StatusConflict},
	Lost:            {"lost", http.StatusConflict},
	Throttled:       {"throttled", http.StatusServiceUnavailable},
	Interrupted:     {"interrupted", http.StatusInternalServerError},
	Unavailable:     {"unavailable", http.StatusServiceUnavailable},
	Unauthenticated: {"unauthenticated", http.StatusUnauthorized},
	Forbidden:       {"forbidden", http.StatusForbidden},
	Malformed:       {"malformed", http.StatusBadRequest},
	UnknownKind:     {"unknown-kind", http.StatusNotFound},
	TooLarge:        {"too-large", http.StatusRequestEntityTooLarge},
}

func (o Outcome) valid() bool { return o >= Done && int(o) < len(outcomes) }

// String returns the outcome's name as logs and metrics show it.
func (o Outcome) String() string {
	if !o.valid() {
		return fmt.Sprintf("outcome(%d)", int(o))
	}
	return outcomes[o].name
}

// Status returns the HTTP status that answers the outcome, unless
// [RouterConfig.Statuses] says otherwise. An invalid outcome is answered 500,
// which loses nothing.
func (o Outcome) Status() int {
	if !o.valid() {
		return http.StatusInternalServerError
	}
	return outcomes[o].status
}

// Final says whether the outcome ends the task: Cloud Tasks deletes it.
func (o Outcome) Final() bool {
	s := o.Status()
	return s >= 200 && s <= 299
}

// Reason says in one word, from a closed set, why a delivery was refused or
// buried. It is safe as a metric label.
type Reason string

// Why a delivery could not be taken now.
const (
	ReasonStore           Reason = "store"             // the Store is out of reach
	ReasonDeadLetterStore Reason = "dead-letter-store" // it refused a letter
)

// Why a task was buried.
const (
	ReasonPermanent   Reason = "permanent"   // the handler returned Permanent
	ReasonExhausted   Reason = "exhausted"   // the last attempt failed
	ReasonCrashed     Reason = "crashed"     // the last attempt ended with its worker
	ReasonExpired     Reason = "expired"     // past its TTL before it could run
	ReasonUndecodable Reason = "undecodable" // the body is not the kind's JSON
	ReasonInvalid     Reason = "invalid"     // Validate refused the payload
	ReasonDeadBefore  Reason = "dead-before" // its key is that of dead work, and no dead-letter store says more
)

// Errors that a handler, its middleware, a [Verifier] or a [Store] returns,
// alone or wrapped with %w at any depth, to say what should happen.
var (
	// ErrBusy from middleware given to [Router.Use] says that there is no
	// room for this task just now: it is retried with backoff, the attempt
	// does not count, and the queue is not slowed.
	ErrBusy = errors.New("handoff: busy")

	// ErrLeaseLost is the cause of a handler's cancelled context after its
	// lease was lost: another delivery may be running the same work by now.
	// Stores return it for a lease that is no longer held.
	ErrLeaseLost = errors.New("handoff: lease lost")

	// ErrInterrupted is the cause of a handler's cancelled context after
	// [Router.Shutdown] ran out of patience.
	ErrInterrupted = errors.New("handoff: interrupted by shutdown")

	// ErrUnauthenticated from a Verifier is answered 401. It is also what any
	// error of a Verifier that names none of these three means.
	ErrUnauthenticated = errors.New("handoff: unauthenticated")

	// ErrForbidden from a Verifier is answered 403: a good token of somebody
	// who is not on the list.
	ErrForbidden = errors.New("handoff: forbidden")

	// ErrUnavailable from a Verifier is answered 503: the keys cannot be had
	// now, so nothing can be said of the token.
	ErrUnavailable = errors.New("handoff: unavailable")
)

// intent is an error that says what should become of the task.
type intent struct {
	outcome Outcome
	wait    time.Duration
	err     error
}

func (e *intent) Error() string {
	what := e.outcome.String()
	if e.wait > 0 {
		what += " for " + e.wait.String()
	}
	if e.err == nil {
		return "handoff: " + what
	}
	return "handoff: " + what + ": " + e.err.Error()
}

func (e *intent) Unwrap() error { return e.err }

// Permanent says that running this task again can never succeed. Cloud Tasks
// knows no such answer, so the task is buried in the dead-letter store and
// then acknowledged with a 2xx. A nil err is allowed.
func Permanent(err error) error { return &intent{outcome: Dead, err: err} }

// Drop says that the task is not wanted any more and nobody needs to know: it
// is acknowledged without a dead letter. A nil err is allowed.
func Drop(err error) error { return &intent{outcome: Dropped, err: err} }

// Snooze says that it is too early: a copy of the task is enqueued for d from
// now, under the same ID and fence key, with fresh attempts. It needs
// [RouterConfig.Client] and a typed task; without them the attempt is failed
// and the log says why. [Info].Snoozes lets a handler give up. The longest
// snooze is the service's 30 days; anything under a second is one second.
func Snooze(d time.Duration) error { return &intent{outcome: Snoozed, wait: max(d, time.Second)} }

// RetryAfter fails the attempt and asks Cloud Tasks to slow down: it answers
// 503 with Retry-After. This slows the whole queue, on purpose. Return a plain
// error for one task's own trouble.
func RetryAfter(err error, d time.Duration) error {
	return &intent{outcome: Throttled, wait: max(d, time.Second), err: err}
}

// OutcomeOf returns the outcome that an error returned by a handler leads to,
// before attempts and lease are looked at: [Done] for nil, [Failed] for an
// error that says nothing else.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Done
	}
	if in, ok := errors.AsType[*intent](err); ok {
		return in.outcome
	}
	switch {
	case errors.Is(err, ErrAlreadyDone):
		return Duplicate
	case errors.Is(err, ErrLeaseLost):
		return Lost
	case errors.Is(err, ErrInterrupted):
		return Interrupted
	case errors.Is(err, ErrBusy):
		return Busy
	}
	return Failed
}

// rejectionOutcome maps an error of a Verifier: whatever it does not name is
// refused.
func rejectionOutcome(err error) Outcome {
	switch {
	case errors.Is(err, ErrForbidden):
		return Forbidden
	case errors.Is(err, ErrUnavailable),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Unavailable
	}
	return Unauthenticated
}
