package handoff

import (
	"errors"
	"fmt"
	"time"

	"github.com/brillconsulting/handoff/internal/create"
)

// Option sets how one call enqueues. It overrides the payload's Policy and that of
// the client. The call returns an error for an invalid value.
type Option func(*call)

// call holds the options of one call.
type call struct {
	policy   Policy
	in       time.Duration
	at       time.Time
	key      string
	name     string
	every    time.Duration
	header   map[string]string
	retarget bool
	drafting bool // the task may be due later than the service's limit
	problem  error
}

func newCall(opts []Option) (*call, error) {
	c := new(call)
	for _, opt := range opts {
		opt(c)
	}
	switch {
	case c.in != 0 && !c.at.IsZero():
		c.fail(errors.New("handoff: In and At are both given; remove one"))
	case c.key != "" && c.name != "":
		c.fail(errors.New("handoff: Key and Name are both given; remove one, because Key decides the task's name"))
	}
	return c, c.problem
}

func (c *call) fail(err error) { c.problem = errors.Join(c.problem, err) }

// due returns when the task is to run, and whether that is later than now.
func (c *call) due(now time.Time) (time.Time, bool, error) {
	if c.in == 0 && c.at.IsZero() {
		return now, false, nil
	}
	at := c.at
	if c.in != 0 {
		at = now.Add(c.in)
	}
	ahead := at.Sub(now)
	switch {
	case ahead <= 0:
		return at, false, fmt.Errorf("At(%s) is %s in the past; leave it out to run the task at once", at.Format(time.RFC3339Nano), -ahead)
	case ahead > create.MaxAhead && !c.drafting:
		return at, false, fmt.Errorf("due at %s, which is %s ahead; the limit is %s (30 days)", at.Format(time.RFC3339), ahead.Round(time.Second), create.MaxAhead)
	}
	return at.Truncate(time.Microsecond), true, nil // the service keeps microseconds
}

// In makes the task due d from now. d must be positive and at most 720 h, the
// service's limit (https://cloud.google.com/tasks/docs/quotas). Without In and
// [At], the task is due at once.
func In(d time.Duration) Option {
	return func(c *call) {
		if c.in = d; d <= 0 {
			c.fail(fmt.Errorf("handoff: In(%s) is not positive; leave it out to run the task at once", d))
		}
	}
}

// At makes the task due at t, which must be in the future and at most 720 h
// ahead. The service keeps microseconds.
func At(t time.Time) Option {
	return func(c *call) {
		if c.at = t; t.IsZero() {
			c.fail(errors.New("handoff: At was given the zero time"))
		}
	}
}

// Key names a piece of work, such as an order or an invoice, that must run once.
// All tasks of one project and kind with the same key, on any queue, are the same
// work. A kind counts by its oldest name, the last of its Aliases. For
// [Client.EnqueueRequest], method and URL count instead of the kind. The service
// may refuse to create a second task, which is [Receipt].Duplicate and not an
// error. For recurring work, put its period in the key, or add [Every].
//
// The fence remembers the key while the work waits, and for at least 24 h after
// it is done; later, the work may run again. While the work is dead, its letter
// holds the key. A renamed type keeps its keys only if its Aliases name the old
// kind. A task that another producer created without a key has that of the
// payload's IdempotencyKey, and the same as ours if [RouterConfig].Project is the
// client's project.
//
// The key itself does not leave the process. The task's name is a hash of it,
// because sequential names slow the service down
// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks/create).
//
// A payload with a method IdempotencyKey() string needs no Key. Key overrides it.
// The method is called when the task is enqueued, and when a task arrives without
// a key, as one that another producer created.
func Key(key string) Option {
	return func(c *call) {
		if c.key = key; key == "" {
			c.fail(errors.New("handoff: Key is empty; all work with an empty key would be the same work"))
		}
	}
}

// Every runs the work of a key once in each period of d, by the time that its
// tasks are due. Periods begin at multiples of d since the Unix epoch, so those of
// 24 h begin at midnight UTC. Every needs a [Key] or an IdempotencyKey. d is 1 s to
// 10 years.
//
// The period is part of the task's name and of the fence key, which is remembered
// for at least d. Every does not rely on how long the service keeps names
// reserved, which is "up to 24 hours"
// (https://cloud.google.com/tasks/docs/quotas).
func Every(d time.Duration) Option {
	return func(c *call) {
		if c.every = d; d < time.Second || d > longest {
			c.fail(fmt.Errorf("handoff: Every(%s) is not between a second and 10 years", d))
		}
	}
}

// Name sets the ID of the task: 1 to 500 letters, digits, '-' and '_'. The service
// refuses to create a second task while one with this ID exists, and for up to
// 24 h after (https://cloud.google.com/tasks/docs/quotas), which is
// [Receipt].Duplicate and not an error. Sequential IDs slow the queue down. Use
// [Key] unless another program needs the ID.
func Name(id string) Option {
	return func(c *call) {
		c.name = id
		if err := create.TaskID(id); err != nil {
			c.fail(fmt.Errorf("handoff: Name: %w", err))
		}
	}
}

// OnQueue sets the ID of the task's queue: 1 to 100 letters, digits and '-'. It
// overrides [Policy].Queue.
func OnQueue(id string) Option {
	return func(c *call) {
		c.policy.Queue = id
		if err := create.QueueID(id); err != nil {
			c.fail(fmt.Errorf("handoff: OnQueue: %w", err))
		}
	}
}

// Header adds a header to the delivery. A later Header of the same name replaces
// it. Names that handoff or the service sets are errors: Handoff-*,
// X-CloudTasks-*, X-AppEngine-*, X-Google-*, Host, Content-Length and User-Agent.
// So are Content-Type and Content-Encoding for a typed payload. All headers
// together must be under 80 KiB
// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks).
func Header(name, value string) Option {
	return func(c *call) {
		canonical, err := create.Header(name, value)
		if err != nil {
			c.fail(fmt.Errorf("handoff: Header: %w", err))
			return
		}
		if c.header == nil {
			c.header = make(map[string]string)
		}
		c.header[canonical] = value
	}
}

// Deadline is [Policy].Deadline for this task.
func Deadline(d time.Duration) Option {
	return func(c *call) {
		if c.policy.Deadline = d; d <= 0 {
			c.fail(fmt.Errorf("handoff: Deadline(%s) is not positive", d))
		}
	}
}

// TTL is [Policy].TTL for this task: how long after it is due it may run. It is at
// most 10 years, or [NoTTL].
func TTL(d time.Duration) Option {
	return func(c *call) {
		if c.policy.TTL = d; d <= 0 && d != NoTTL || d > longest {
			c.fail(fmt.Errorf("handoff: TTL(%s) is neither NoTTL nor positive and at most 10 years", d))
		}
	}
}

// Retarget lets [Client.Redrive] deliver to the client's target even if the task
// of the letter was enqueued for another.
func Retarget() Option {
	return func(c *call) { c.retarget = true }
}
