package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	gax "github.com/googleapis/gax-go/v2"
)

// Action is what Ensure does to a queue.
type Action int

// The actions.
const (
	Unchanged Action = iota
	Create
	Update
)

// String returns the action in lower case.
func (a Action) String() string {
	switch a {
	case Unchanged:
		return "unchanged"
	case Create:
		return "create"
	case Update:
		return "update"
	}
	return fmt.Sprintf("Action(%d)", int(a))
}

// Change is the difference between a queue and its configuration.
type Change struct {
	Queue  string // ID
	Action Action
	Fields []FieldChange // for a queue to create, all fields

	// Applied reports whether the service applied the change. It is false in a dry
	// run, for [Unchanged], and after an error. After a network error the service
	// may have applied it; ensure again to find out.
	Applied bool
}

// FieldChange is the difference in one setting.
type FieldChange struct {
	Field    string // the key of the setting in a file, such as "max_attempts"
	From, To any    // values of a [QueueConfig]'s fields; From is nil for a queue to create
}

// String returns the change in one line, without values that may be secret.
func (c Change) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "queue %s: %s", c.Queue, c.Action)
	for i, f := range c.Fields {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(" " + f.String())
	}
	return b.String()
}

// String returns the difference, without values that may be secret.
func (f FieldChange) String() string {
	if f.From == nil {
		return f.Field + " " + text(f.To)
	}
	return f.Field + " " + text(f.From) + " → " + text(f.To)
}

// Ensure creates a queue, or updates the settings that differ from config. It is
// idempotent. After creating a queue it waits until the service finds it, which
// may take a minute or more; it waits until ctx ends, or for 2 minutes if ctx
// has no deadline.
//
// Errors: [ErrInvalid] before any call, with every problem, or after one if the
// service changed a setting; [ErrTombstoned]; [ErrPermission]. Change.Applied
// reports whether the change was applied before the error.
func (q *Queues) Ensure(ctx context.Context, config QueueConfig) (Change, error) {
	config = resolve(config)
	if err := config.check(); err != nil {
		return Change{Queue: config.ID}, err
	}
	live, err := q.live(ctx, &config)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Change{Queue: config.ID}, err
	}
	p := plan(&config, live)
	err = q.apply(ctx, p)
	return p.change, err
}

// EnsureAll ensures many queues. It lists the location once, and changes the
// queues that differ, several at a time. The changes are in the order of
// configs. A failure does not stop the others; the error holds all failures.
// When ctx ends no more changes begin, and the error counts those that did not.
//
// Errors are those of [Queues.Ensure], and [ErrInvalid] for two configurations
// of one queue.
func (q *Queues) EnsureAll(ctx context.Context, configs []QueueConfig) ([]Change, error) {
	plans, err := q.planAll(ctx, configs)
	if err != nil {
		return nil, err
	}
	err = q.applyAll(ctx, plans)
	return changesOf(plans), err
}

// Diff is the dry run of [Queues.EnsureAll]: it returns what that would change,
// and changes nothing.
func (q *Queues) Diff(ctx context.Context, configs []QueueConfig) ([]Change, error) {
	plans, err := q.planAll(ctx, configs)
	if err != nil {
		return nil, err
	}
	return changesOf(plans), nil
}

// planned is the change of one queue that Ensure plans.
type planned struct {
	config *QueueConfig // resolved and checked
	differ []setting
	change Change
}

func changesOf(plans []*planned) []Change {
	changes := make([]Change, len(plans))
	for i, p := range plans {
		changes[i] = p.change
	}
	return changes
}

// plan compares a queue, nil if it does not exist, with its configuration.
func plan(config, live *QueueConfig) *planned {
	p := &planned{config: config, change: Change{Queue: config.ID}}
	if live == nil {
		p.change.Action = Create
		for _, s := range differing(new(QueueConfig), config) {
			p.change.Fields = append(p.change.Fields, FieldChange{Field: s.key, To: s.value(config)})
		}
		return p
	}
	p.differ = differing(live, config)
	for _, s := range p.differ {
		p.change.Action = Update
		p.change.Fields = append(p.change.Fields, FieldChange{s.key, s.value(live), s.value(config)})
	}
	return p
}

func (q *Queues) planAll(ctx context.Context, configs []QueueConfig) ([]*planned, error) {
	all, err := checkAll(configs)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	beta := false
	for _, c := range all {
		beta = beta || c.beta()
	}
	listing := q.List(ctx, ListQueues{})
	if beta {
		listing = q.listBeta(ctx, "", false)
	}
	live := make(map[string]*QueueConfig)
	for queue, err := range listing {
		if err != nil {
			return nil, err
		}
		live[queue.Config.ID] = &queue.Config
	}
	plans := make([]*planned, len(all))
	for i := range all {
		plans[i] = plan(&all[i], live[all[i].ID])
	}
	return plans, nil
}

// atOnce is how many queues are changed, or tasks deleted, concurrently.
const atOnce = 8

func (q *Queues) applyAll(ctx context.Context, plans []*planned) error {
	errs := make([]error, len(plans))
	begun := len(plans)
	var workers sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, p := range plans {
		if p.change.Action == Unchanged {
			continue
		}
		slots <- struct{}{}
		if ctx.Err() != nil {
			begun = i
			break
		}
		workers.Go(func() {
			errs[i] = q.apply(ctx, p)
			<-slots
		})
	}
	workers.Wait()
	left := 0
	for _, p := range plans[begun:] {
		if p.change.Action != Unchanged {
			left++
		}
	}
	err := errors.Join(errs...)
	if left > 0 {
		err = errors.Join(err, fmt.Errorf("admin: %d changes were not begun: %w", left, context.Cause(ctx)))
	}
	return err
}

// apply applies a plan, and records the result in it.
func (q *Queues) apply(ctx context.Context, p *planned) error {
	switch p.change.Action {
	case Create:
		_, err := q.create(ctx, p.config)
		if errors.Is(err, ErrAlreadyExists) {
			return q.applyToFound(ctx, p)
		}
		if err != nil {
			return err
		}
		p.change.Applied = true
		live, err := q.awaitQueue(ctx, p.config)
		if err != nil {
			return err
		}
		return p.verify(live)
	case Update:
		updated, err := q.update(ctx, p.config, p.differ)
		if err != nil {
			return err
		}
		p.change.Applied = true
		return p.verify(&updated.Config)
	case Unchanged:
	}
	return nil
}

// applyToFound updates a queue that was not found but exists: the service may
// not find a new queue for a while.
func (q *Queues) applyToFound(ctx context.Context, p *planned) error {
	live, err := q.awaitQueue(ctx, p.config)
	if err != nil {
		return err
	}
	*p = *plan(p.config, live)
	return q.apply(ctx, p)
}

// verify returns an error for settings that the service has changed.
func (p *planned) verify(live *QueueConfig) error {
	var errs []error
	for _, s := range differing(live, p.config) {
		errs = append(errs, fmt.Errorf("admin: ensure queue %q: %w", p.config.ID, &InvalidError{
			Field: "QueueConfig." + s.field,
			Value: s.value(p.config),
			Want:  "what the service can keep: it made it " + text(s.value(live)),
		}))
	}
	return errors.Join(errs...)
}

// live reads the configuration of a queue, by the version of the API that has
// all settings of c.
func (q *Queues) live(ctx context.Context, c *QueueConfig) (*QueueConfig, error) {
	get := q.Get
	if c.beta() {
		get = func(ctx context.Context, id string) (Queue, error) { return q.getBeta(ctx, id, false) }
	}
	queue, err := get(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	return &queue.Config, nil
}

// newQueueWait is the longest wait for a new queue. The service says "at least a
// minute" (docs/cloud-tasks.md#12.1).
const newQueueWait = 2 * time.Minute

// awaitQueue reads a new queue until the service finds it.
func (q *Queues) awaitQueue(ctx context.Context, c *QueueConfig) (*QueueConfig, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, newQueueWait)
		defer cancel()
	}
	pause := gax.Backoff{Initial: 250 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2}
	for {
		live, err := q.live(ctx, c)
		if err == nil || !errors.Is(err, ErrNotFound) && ctx.Err() == nil {
			return live, err
		}
		if ended := gax.Sleep(ctx, pause.Pause()); ended != nil {
			return nil, fmt.Errorf("admin: ensure queue %q: created, but not found when the wait for it ended (%w); if a queue of this name was deleted in the last 7 days, the service only appears to create it: %w", c.ID, ended, err)
		}
	}
}
