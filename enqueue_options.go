package handoff

import (
	"errors"
	"fmt"
	"time"

	"github.com/brillconsulting/handoff/internal/create"
)

// Option says how one call enqueues. It wins over the payload's Policy and
// the client's. A wrong value is an error of the call.
type Option func(*call)

// call is what the options of one call come to.
type call struct {
	policy   Policy
	in       time.Duration
	at       time.Time
	key      string
	name     string
	every    time.Duration
	header   map[string]string
	retarget bool
	drafting bool // the task may be due further ahead than the service takes
	problem  error
}

func newCall(opts []Option) (*call, error) {
	c := new(call)
	for _, opt := range opts {
		opt(c)
	}
	switch {
	case c.in != 0 && !c.at.IsZero():
		c.fail(errors.New("handoff: In and At are both given; one decides when the task is due"))
	case c.key != "" && c.name != "":
		c.fail(errors.New("handoff: Key and Name are both given; Key names the task by its own hash"))
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
	return at.Truncate(time.Microsecond), true, nil // all that the service keeps
}

// In delays the task: it is due d from now. d must be positive and at most
// 720 h, the service's 30 days
// (https://cloud.google.com/tasks/docs/quotas).
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

// Key makes this work happen once (an order, an invoice): of all tasks with this
// key, of one kind and one project, on whichever queue, only one runs. A kind
// counts under its oldest name, the last of its Aliases. For an [EnqueueRequest],
// method and URL count in place of the kind. The key is kept for at least 24 h
// after the work is done; meanwhile the service may refuse a second create too,
// which is [Receipt].Duplicate and no error. For work that recurs, put its
// period in the key, or add [Every].
//
// The key itself never leaves the process: the task is named by a hash of it,
// since sequential names slow the service down
// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks/create).
// A payload with a method IdempotencyKey() string needs no Key.
func Key(key string) Option {
	return func(c *call) {
		if c.key = key; key == "" {
			c.fail(errors.New("handoff: Key is empty, so all work without a key would be one"))
		}
	}
}

// Every allows one task for each key and window of d, by the time it is due:
// a throttle. Windows begin at multiples of d since the Unix epoch, so those
// of 24 h begin at midnight UTC. It needs a [Key] or IdempotencyKey. d is at
// least one second.
//
// The window is part of the task's name and of what the fence remembers, for
// at least d. Nothing relies on how long the service keeps names reserved,
// which is "up to 24 hours" (https://cloud.google.com/tasks/docs/quotas).
func Every(d time.Duration) Option {
	return func(c *call) {
		if c.every = d; d < time.Second || d > longest {
			c.fail(fmt.Errorf("handoff: Every(%s) is not between a second and 10 years", d))
		}
	}
}

// Name gives the task this ID, verbatim, for the service's own deduplication:
// a create is refused while a task of this name exists, and up to 24 h longer
// (https://cloud.google.com/tasks/docs/quotas), which is [Receipt].Duplicate and
// no error. 1 to 500 letters, digits, '-' and '_'. Sequential names slow the whole queue down;
// use [Key] unless somebody else needs to know the name.
func Name(id string) Option {
	return func(c *call) {
		c.name = id
		if err := create.TaskID(id); err != nil {
			c.fail(fmt.Errorf("handoff: Name: %w", err))
		}
	}
}

// OnQueue puts the task on the queue with this ID: 1 to 100 letters, digits
// and '-'.
func OnQueue(id string) Option {
	return func(c *call) {
		c.policy.Queue = id
		if err := create.QueueID(id); err != nil {
			c.fail(fmt.Errorf("handoff: OnQueue: %w", err))
		}
	}
}

// Header adds a header to the delivery. The last of one name wins. Names that
// handoff or the service sets (Handoff-*, X-CloudTasks-*, X-AppEngine-*,
// X-Google-*, Host, Content-Length, User-Agent) are refused, and so are
// Content-Type and Content-Encoding of a typed payload. All headers together
// must be under 80 KiB.
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

// TTL is [Policy].TTL for this task: how long after it is due it may still
// run, or [NoTTL].
func TTL(d time.Duration) Option {
	return func(c *call) {
		if c.policy.TTL = d; d <= 0 && d != NoTTL || d > longest {
			c.fail(fmt.Errorf("handoff: TTL(%s) is neither NoTTL nor positive and at most 10 years", d))
		}
	}
}

// Retarget lets [Client.Redrive] send a letter to the client's target although
// its task was enqueued for another.
func Retarget() Option {
	return func(c *call) { c.retarget = true }
}
