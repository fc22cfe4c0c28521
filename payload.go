package handoff

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"time"
)

// Payload is the work that a task carries: a type that both services share.
// It travels as JSON, so its exported fields are the contract between them.
//
// Kind names the work on the wire. It is the last path segment of the
// delivery URL and must match ^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$, be
// constant, and not depend on the payload's fields.
//
// A payload may also have any of these methods:
//
//	Policy() Policy          // how tasks of this kind behave
//	Aliases() []string       // kinds this type had before: Handle serves them too
//	IdempotencyKey() string  // as the option Key, for every task of this type
//	Validate() error         // checked at enqueue and again at receive
//
// To rename a kind while tasks are in flight, first deploy workers whose type
// returns the new name from Kind and the old one from Aliases, then producers.
type Payload interface {
	Kind() string
}

// Policy is how tasks of one kind behave wherever they are enqueued. A call's
// options win over the type's Policy, and that over [ClientConfig.Policy],
// field by field; a zero field leaves the decision to the next.
type Policy struct {
	// Queue is the ID of the queue, such as "emails". There is no default:
	// if no one names a queue, Enqueue fails.
	Queue string

	// TTL bounds the age at which a task is still worth running, counted from
	// its scheduled time. The router buries an older one without running it.
	// Defaults to 24 h; [NoTTL] turns it off. A queue that is paused for
	// longer than the TTL finds its tasks expired on resume.
	TTL time.Duration

	// Deadline is the time that one attempt may take before Cloud Tasks hangs
	// up. Defaults to the service's 10 min. Its limits are 15 s to 30 min for
	// HTTP targets and 15 s to 24 h 15 s for App Engine
	// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks).
	Deadline time.Duration

	// Retry is how often and at what pace a failed task is tried again.
	Retry Retry
}

// NoTTL as a [Policy].TTL lets a task run however old it is. The service
// itself deletes tasks at 31 days (https://cloud.google.com/tasks/docs/quotas).
const NoTTL = time.Duration(-1)

// Unlimited as Retry.MaxAttempts tries until the task expires.
const Unlimited = -1

// NoDoublings as Retry.MaxDoublings lets the backoff grow linearly from the
// first retry.
const NoDoublings = -1

// Retry is a retry policy in the service's own terms: the wait starts at
// MinBackoff, doubles MaxDoublings times, then grows linearly, and stays at
// MaxBackoff
// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues#RetryConfig).
type Retry struct {
	MaxAttempts  int           // executions begun, the first included; default 5; Unlimited
	MinBackoff   time.Duration // default 1 s
	MaxBackoff   time.Duration // default 1 h
	MaxDoublings int           // default 16; NoDoublings
}

// The defaults of [Policy] and [Retry].
const (
	defaultTTL          = 24 * time.Hour
	defaultDeadline     = 10 * time.Minute // the service's own for HTTP targets (docs/cloud-tasks.md#8.5)
	defaultMaxAttempts  = 5
	defaultMinBackoff   = time.Second
	defaultMaxBackoff   = time.Hour
	defaultMaxDoublings = 16
)

// over returns p with its zero fields taken from base.
func (p Policy) over(base Policy) Policy {
	return Policy{
		Queue:    cmp.Or(p.Queue, base.Queue),
		TTL:      cmp.Or(p.TTL, base.TTL),
		Deadline: cmp.Or(p.Deadline, base.Deadline),
		Retry: Retry{
			MaxAttempts:  cmp.Or(p.Retry.MaxAttempts, base.Retry.MaxAttempts),
			MinBackoff:   cmp.Or(p.Retry.MinBackoff, base.Retry.MinBackoff),
			MaxBackoff:   cmp.Or(p.Retry.MaxBackoff, base.Retry.MaxBackoff),
			MaxDoublings: cmp.Or(p.Retry.MaxDoublings, base.Retry.MaxDoublings),
		},
	}
}

var defaultPolicy = Policy{
	TTL: defaultTTL,
	Retry: Retry{
		MaxAttempts:  defaultMaxAttempts,
		MinBackoff:   defaultMinBackoff,
		MaxBackoff:   defaultMaxBackoff,
		MaxDoublings: defaultMaxDoublings,
	},
}

func policyOf(p any) Policy {
	if with, ok := p.(interface{ Policy() Policy }); ok {
		return with.Policy()
	}
	return Policy{}
}

type validator interface{ Validate() error }

func validate(p any) error {
	if with, ok := p.(validator); ok {
		return with.Validate()
	}
	return nil
}

var kindPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)

func checkKind(kind string) error {
	if !kindPattern.MatchString(kind) {
		return fmt.Errorf("handoff: kind %q does not match %s", kind, kindPattern)
	}
	return nil
}

// Info is what is known of the task being run. Get it in a handler or in
// middleware given to [Router.Use] with [InfoFromContext].
type Info struct {
	ID    string // the handoff ID: the same for every task that carries this piece of work; empty for a foreign task
	Kind  string
	Queue string // queue ID
	Task  string // task ID

	Attempt      int   // executions begun, this one included; 1 at first
	MaxAttempts  int   // Unlimited, or 0 if the limit of a foreign task is unknown
	Snoozes      int   // how often it was snoozed before
	FencingToken int64 // grows with every claim of the same work: pass it on to what you write to

	ScheduledAt time.Time // when this attempt was due; zero if the service did not say
	EnqueuedAt  time.Time // zero for a foreign task
	ExpiresAt   time.Time // zero: never
	Deadline    time.Time // when the handler's context ends

	// Header holds the headers that the producer put on the task: a copy, made
	// once for the delivery and shared by everybody who asks. Credentials and
	// the headers of the service, of handoff and of proxies are left out.
	Header http.Header

	Caller           Caller
	RetryCount       int // dispatches before this one, also those that reached no handler
	PreviousResponse int // status that the previous dispatch was answered with; 0: none
}

// LastAttempt says whether a failure of this attempt exhausts the task, so
// that it is buried and not retried.
func (i Info) LastAttempt() bool {
	return i.MaxAttempts > 0 && i.Attempt >= i.MaxAttempts
}

// InfoFromContext returns what is known of the task that ctx runs. It is the
// zero Info in a context that does not come from a [Router].
func InfoFromContext(ctx context.Context) Info {
	if run, ok := ctx.Value(infoKey{}).(*delivery); ok {
		return run.info()
	}
	return Info{}
}

// PayloadFromContext returns the decoded payload of the task that ctx runs,
// for middleware given to [Router.Use]; nil elsewhere.
func PayloadFromContext(ctx context.Context) any {
	if run, ok := ctx.Value(infoKey{}).(*delivery); ok {
		return reflect.ValueOf(run.payload).Elem().Interface()
	}
	return nil
}
