package handoff

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Outcome is how a delivery ended. It decides the status of the response: a 2xx
// deletes the task, any other status makes Cloud Tasks retry it
// (https://pkg.go.dev/cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb#HttpRequest).
type Outcome int

// The outcomes of a delivery, with their statuses.
const (
	Done            Outcome = iota + 1 // 200: the handler returned nil
	Duplicate                          // 208: the work was done or buried before, or a later generation or redrive of it exists
	Dropped                            // 204: the handler returned Drop
	Snoozed                            // 202: the handler returned Snooze or BusyFor, and the copy for later is enqueued
	Retried                            // 202: the handler returned RetryIn, and the copy for later is enqueued
	Continued                          // 202: the handler returned Continue, and the copy that continues is enqueued
	Dead                               // 205: the task was buried
	Failed                             // 500: the attempt failed; retried with backoff
	Busy                               // 409: the same work is running, or there is no room; retried with backoff, not counted
	Lost                               // 409: the lease was lost while the handler ran; the delivery that holds it now decides
	Throttled                          // 503 and Retry-After: retried, and the whole queue slows down
	Interrupted                        // 500: the router is shutting down; retried, not counted
	Unavailable                        // 503: the Store, the dead-letter store or the keys could not be reached; retried
	Unauthenticated                    // 401: no token, or one that is not valid
	Forbidden                          // 403: a valid token of a caller who is not listed
	Malformed                          // 400: not a Cloud Tasks delivery
	UnknownKind                        // 404: no handler is registered for the kind
	TooLarge                           // 413: the body is over RouterConfig.MaxBody
)

var outcomes = [...]struct {
	name   string
	status int
}{
	Done:            {"done", http.StatusOK},
	Duplicate:       {"duplicate", http.StatusAlreadyReported},
	Dropped:         {"dropped", http.StatusNoContent},
	Snoozed:         {"snoozed", http.StatusAccepted},
	Retried:         {"retried", http.StatusAccepted},
	Continued:       {"continued", http.StatusAccepted},
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

// MarshalText returns the outcome's name, so that it is a word in JSON too.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Status returns the HTTP status of the outcome. [RouterConfig.Statuses] can
// replace it in a router. It is 500 for an invalid outcome, so that the task is
// retried.
func (o Outcome) Status() int {
	if !o.valid() {
		return http.StatusInternalServerError
	}
	return outcomes[o].status
}

// Final reports whether the outcome ends the task, so that Cloud Tasks deletes it.
func (o Outcome) Final() bool {
	s := o.Status()
	return s >= 200 && s <= 299
}

// Reason is why a delivery was refused or its task buried. There are few, fixed
// reasons, so a Reason can be a metric label.
type Reason string

// The reasons of an [Unavailable] delivery.
const (
	ReasonStore           Reason = "store"             // the Store returned an error
	ReasonDeadLetterStore Reason = "dead-letter-store" // the DeadLetterStore returned an error
)

// The reasons why a task was buried.
const (
	ReasonPermanent   Reason = "permanent"   // the handler returned Permanent
	ReasonExhausted   Reason = "exhausted"   // the last attempt failed
	ReasonCrashed     Reason = "crashed"     // the worker died during the last attempt
	ReasonExpired     Reason = "expired"     // the TTL passed before the task could run
	ReasonUndecodable Reason = "undecodable" // the body is not the kind's JSON
	ReasonInvalid     Reason = "invalid"     // Validate refused the payload
	ReasonDeadBefore  Reason = "dead-before" // the work was buried before, and RouterConfig.DeadLetters is not set
)

// ReasonResponseSent means that code around the router wrote the response: a
// status before the router was called, which is then not run (Failed), or a 2xx,
// after which a task that failed is not retried and is buried instead.
const ReasonResponseSent Reason = "response-sent"

// Errors that a handler, its middleware, a [Verifier] or a [Store] returns,
// alone or wrapped with %w at any depth. Each leads to an [Outcome].
var (
	// ErrBusy means that there is no room for the task now. Middleware given
	// to [Router.Use] returns it. The task is retried with backoff, the
	// attempt does not count, and the queue does not slow down. [BusyFor]
	// says when there will be room.
	ErrBusy = errors.New("handoff: busy")

	// ErrLeaseLost is the cause of a handler's cancelled context after its
	// lease was lost. Another delivery may be running the same work by then.
	// A Store returns it for a lease that is no longer held.
	ErrLeaseLost = errors.New("handoff: lease lost")

	// ErrInterrupted is the cause of a handler's cancelled context after the
	// context of [Router.Shutdown] ended.
	ErrInterrupted = errors.New("handoff: interrupted by shutdown")

	// ErrUnauthenticated from a Verifier leads to status 401: there is no
	// token, or it is not valid. So does every error of a Verifier that is
	// neither ErrForbidden nor ErrUnavailable nor that of an ended context.
	ErrUnauthenticated = errors.New("handoff: unauthenticated")

	// ErrForbidden from a Verifier leads to status 403: the token is valid,
	// and its caller is not listed.
	ErrForbidden = errors.New("handoff: forbidden")

	// ErrUnavailable from a Verifier leads to status 503: the token cannot be
	// verified now, because the keys cannot be fetched.
	ErrUnavailable = errors.New("handoff: unavailable")
)

// intent is an error that carries the outcome of a delivery.
type intent struct {
	outcome Outcome
	wait    time.Duration
	opens   Opening // what the copy for later opens
	err     error
}

func (e *intent) Error() string {
	what := e.outcome.String()
	switch {
	case e.outcome == Retried:
		what += " in " + e.wait.String()
	case e.wait > 0:
		what += " for " + e.wait.String()
	}
	if e.err == nil {
		return "handoff: " + what
	}
	return "handoff: " + what + ": " + e.err.Error()
}

func (e *intent) Unwrap() error { return e.err }

// Permanent returns an error that buries the task, because no further attempt
// can succeed. Cloud Tasks has no such status, so the router stores the task in
// [RouterConfig.DeadLetters] and then responds with a 2xx. err may be nil.
func Permanent(err error) error { return &intent{outcome: Dead, err: err} }

// Drop returns an error that deletes the task without a dead letter, because it
// is no longer needed. err may be nil.
func Drop(err error) error { return &intent{outcome: Dropped, err: err} }

// Snooze returns an error that postpones the task, because it is too early. A
// copy of the task is enqueued, due d from now. It has the same ID and fence key,
// and its attempts count from one. d is at least 1 s, smaller values are raised,
// and at most 720 h, the service's limit
// (https://cloud.google.com/tasks/docs/quotas).
//
// Snooze needs [RouterConfig.Client] and a typed task that handoff enqueued.
// Without them, or with a longer d, the attempt fails and the reason is logged.
// The TTL counts from the new due time. A handler can limit its snoozes by
// [Info].Snoozes.
func Snooze(d time.Duration) error {
	return &intent{outcome: Snoozed, wait: max(d, time.Second), opens: OpensNext}
}

// RetryIn returns an error that fails the attempt and retries the task in d,
// instead of after its backoff. Use it if a third party says when to try again, as
// by Retry-After; the queue does not slow down, unlike after [RetryAfter]. A copy
// of the task is enqueued, due d from now, with the same ID and fence key. Its
// attempts continue the count, and its expiry is unchanged: after the last attempt
// the task is buried, as after any other error. d is at least 1 s, smaller values
// are raised, and at most 720 h.
//
// RetryIn needs [RouterConfig.Client] and a typed task that handoff enqueued.
// Without them the task is retried with its backoff, and the router logs the
// reason once. With a longer d the attempt fails and is retried with its backoff.
func RetryIn(err error, d time.Duration) error {
	return &intent{outcome: Retried, wait: max(d, time.Second), opens: OpensContinued, err: err}
}

// BusyFor returns an error that wraps [ErrBusy] and retries the task in d, when
// there will be room for it. It is for limiters that know when that is: a task
// that is [Busy] is retried with its backoff, which may have grown long. A copy of
// the task is enqueued as for [RetryIn], but the attempt does not count. The
// delivery is [Snoozed], although [Info].Snoozes does not count it.
//
// Without [RouterConfig.Client], or if handoff did not enqueue the task, the
// delivery is [Busy], and the router logs the reason once.
func BusyFor(d time.Duration) error {
	return &intent{outcome: Snoozed, wait: max(d, time.Second), opens: OpensUncounted, err: ErrBusy}
}

// Continue returns an error that ends the attempt and continues the work at once in
// a new task, for work that is longer than the deadline of one attempt. A copy of
// the task is enqueued, with the same ID, fence key and memo; its attempts and its
// TTL start again. Package steps does all this.
//
// The attempt must have made progress: the memo that [Held.Keep] stored last must
// differ from that of the attempt before. Otherwise the attempt fails, so that work
// which makes no progress ends after its last attempt; during a shutdown it is
// [Interrupted].
//
// Continue needs [RouterConfig.Client] and a typed task that handoff enqueued.
// Without them the attempt fails, and the router logs the reason once.
func Continue() error { return &intent{outcome: Continued, opens: OpensNext} }

// RetryAfter returns an error that fails the attempt and slows the whole queue
// down: the response is 503 with Retry-After, in whole seconds, at least one. Use
// it when what all tasks depend on is overloaded, and a plain error when only
// this task failed
// (https://pkg.go.dev/cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb#HttpRequest).
func RetryAfter(err error, d time.Duration) error {
	return &intent{outcome: Throttled, wait: max(d, time.Second), err: err}
}

// OutcomeOf returns the outcome that a handler's error leads to: [Done] for nil,
// and [Failed] for an error that this package does not know. The router may end
// the delivery otherwise: it buries a task after its last attempt, and reports
// [Lost] if the lease was lost. Of several errors in an [errors.Join], the first
// that a function of this package made decides.
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

// rejectionOutcome returns the outcome of a Verifier's error. An error that it
// does not know is Unauthenticated.
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
