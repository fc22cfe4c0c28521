package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"time"
)

// Payload is the data of a task: a type that producer and worker share. It is
// encoded as JSON, so its exported fields are the contract between them.
//
// Not all JSON is taken, because decoders disagree about some of it. Refused, by
// the enqueue and by the router alike, are: bytes that are not UTF-8, which
// encoding/json would replace by U+FFFD, and halves of surrogate pairs; two members
// of an object with one name, or that set one field because their names differ in
// case only; arrays and objects that nest deeper than 1,000 levels; numbers of more
// than 4,096 bytes or with an exponent over 9,999. A field of type any holds numbers
// as float64, which has 53 bits; use json.Number for larger ones.
//
// Kind names the type on the wire. It is the last path segment of the delivery
// URL, must match ^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$, and must be constant:
// it must not depend on the payload's fields.
//
// A payload may also have any of these methods:
//
//	Policy() Policy          // how tasks of this kind behave
//	Aliases() []string       // kinds this type had before, the oldest last: Handle serves them too
//	IdempotencyKey() string  // as the option Key, for every task of this type, from any producer
//	Validate() error         // checked at enqueue and again at receive
//
// To rename a kind while tasks are in flight, first deploy workers whose type
// returns the new name from Kind and the old one from Aliases, then producers.
// Keep the oldest name as the last of the aliases: it is part of the keys of
// keyed work, which would be other work without it.
//
// Methods may have pointer receivers, also where payloads are enqueued as values.
// A panic in one is an error of the enqueue.
type Payload interface {
	Kind() string
}

// Policy is how tasks of one kind behave, wherever they are enqueued. For each
// field, an option of the call overrides the type's Policy, which overrides
// [ClientConfig.Policy]; a zero field is unset.
//
// Of a task that another producer created without a stamp, the router uses TTL and
// Retry.MaxAttempts as far as the type's Policy sets them, without their defaults.
// The rest is the queue's.
type Policy struct {
	// Queue is the ID of the queue, such as "emails". There is no default: without
	// a queue Enqueue fails.
	Queue string

	// TTL is how long after its scheduled time a task may run. The router buries an
	// older task without running it. Defaults to 24 h; [NoTTL] turns it off. If a
	// queue is paused for longer than the TTL, its tasks are expired when it
	// resumes. For a task that Enqueue did not create, it counts from the first
	// delivery.
	TTL time.Duration

	// Deadline is the longest that one attempt may take before Cloud Tasks closes
	// the connection. Defaults to the service's 10 min. It may be 15 s to 30 min
	// for HTTP targets and 15 s to 24 h 15 s for App Engine
	// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks).
	Deadline time.Duration

	// Retry is how often a failed task is retried, and with which backoff.
	Retry Retry
}

// NoTTL as a [Policy].TTL lets a task run at any age. The service itself deletes
// tasks after 31 days (https://cloud.google.com/tasks/docs/quotas).
const NoTTL = time.Duration(-1)

// Unlimited as Retry.MaxAttempts retries a task until it expires.
const Unlimited = -1

// NoDoublings as Retry.MaxDoublings makes the backoff grow linearly from the
// first retry.
const NoDoublings = -1

// Retry is a retry policy in the service's terms: the backoff starts at
// MinBackoff, doubles MaxDoublings times, then grows linearly up to MaxBackoff
// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues#RetryConfig).
type Retry struct {
	MaxAttempts  int           // including the first; default 5; Unlimited
	MinBackoff   time.Duration // default 1 s
	MaxBackoff   time.Duration // default 1 h
	MaxDoublings int           // default 16; NoDoublings for none
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

type keyed interface{ IdempotencyKey() string }

func isKeyed(p any) bool {
	_, ok := p.(keyed)
	return ok
}

// idempotencyKey returns the key of a payload that has one.
func idempotencyKey(p any) (string, error) {
	var key string
	err := guard("IdempotencyKey", func() error { key = p.(keyed).IdempotencyKey(); return nil })
	if err == nil && key == "" {
		err = errors.New("IdempotencyKey is empty, so all payloads without a key would be one piece of work")
	}
	return key, err
}

func validate(p any) error {
	if with, ok := p.(validator); ok {
		return with.Validate()
	}
	return nil
}

// maxKind is the maximum length of a kind, as kindPattern has it.
const maxKind = 64

var kindPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)

func checkKind(kind string) error {
	if !kindPattern.MatchString(kind) {
		return fmt.Errorf("handoff: kind %q does not match %s", kind, kindPattern)
	}
	return nil
}

// Info describes the task that is running. A handler or middleware gets it by
// [InfoFromContext].
type Info struct {
	ID    string // the handoff ID: the same for every task that carries this piece of work; empty for a foreign task
	Kind  string
	Queue string // queue ID
	Task  string // task ID

	Attempt      int    // of this execution, from 1
	MaxAttempts  int    // Unlimited, or 0 if the limit of a foreign task is unknown
	Snoozes      int    // how often it was snoozed before
	Step         string // the step that runs or ran last, if the handler uses package steps
	FencingToken int64  // grows with every claim of the same work; store it with the effect, and refuse a smaller one

	ScheduledAt time.Time // when this attempt was due; zero if the service did not say
	EnqueuedAt  time.Time // zero for a foreign task
	ExpiresAt   time.Time // zero: never
	Deadline    time.Time // when the handler's context ends

	// Header holds the headers that the producer set on the task, without
	// credentials and the headers of the service, of handoff and of proxies. All
	// calls for one delivery share it: do not modify it.
	Header http.Header

	Caller           Caller
	RetryCount       int // earlier dispatches, including those that reached no handler
	PreviousResponse int // status of the previous dispatch; 0: none
}

// LastAttempt reports whether the task is buried instead of retried if this
// attempt fails.
func (i Info) LastAttempt() bool {
	return i.MaxAttempts > 0 && i.Attempt >= i.MaxAttempts
}

// InfoFromContext returns the Info of the task that runs with ctx, or the zero
// Info if ctx does not come from a [Router].
func InfoFromContext(ctx context.Context) Info {
	if run, ok := ctx.Value(infoKey{}).(*delivery); ok {
		return run.info()
	}
	return Info{}
}

// PayloadFromContext returns the decoded payload of the task that runs with ctx,
// for middleware: for [Router.Raw], the body as a []byte. It returns nil if ctx does
// not come from a [Router].
func PayloadFromContext(ctx context.Context) any {
	if run, ok := ctx.Value(infoKey{}).(*delivery); ok {
		return reflect.ValueOf(run.payload).Elem().Interface()
	}
	return nil
}
