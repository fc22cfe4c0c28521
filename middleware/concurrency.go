package middleware

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/brillconsulting/handoff"
)

// ConcurrencyConfig configures [Concurrency]. Limit or Kinds must be set.
type ConcurrencyConfig struct {
	_ [0]func()

	// Limit is the max number of tasks of one kind that run at a time in this
	// process. It applies to each kind that Kinds does not name. Defaults to no
	// limit.
	Limit int

	// Kinds has the limits of single kinds, instead of Limit. The tasks of an
	// alias count as those of its kind. Defaults to none.
	Kinds map[string]int
}

// Concurrency returns a middleware for [handoff.Router.Use] that limits how many
// tasks of each kind run at a time in this process. A task above the limit fails
// with [handoff.ErrBusy]: Cloud Tasks retries it with backoff, the attempt does not
// count, and the queue is not slowed. The task does not wait for room, because
// waiting would use up its deadline.
//
// Use it to protect a resource of the process, such as memory or a connection
// pool. To limit the work of all processes, set maxConcurrentDispatches on the
// queue, which then makes no dispatch above the limit.
//
// It returns an error if a limit is not positive, or if no limit is set. The
// middleware is safe for concurrent use.
func Concurrency(config ConcurrencyConfig) (handoff.Middleware, error) {
	var errs []error
	if config.Limit == 0 && len(config.Kinds) == 0 {
		errs = append(errs, errors.New("middleware: ConcurrencyConfig.Limit and Kinds are both empty; set one to the number of tasks that may run"))
	}
	if config.Limit < 0 {
		errs = append(errs, fmt.Errorf("middleware: ConcurrencyConfig.Limit is %d; it must be positive", config.Limit))
	}
	for kind, limit := range config.Kinds {
		if limit <= 0 {
			errs = append(errs, fmt.Errorf("middleware: ConcurrencyConfig.Kinds[%q] is %d; it must be positive", kind, limit))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	r := &running{limit: config.Limit, kinds: maps.Clone(config.Kinds), count: make(map[string]int)}
	return func(next handoff.Handler) handoff.Handler {
		return func(ctx context.Context) error {
			kind, err := claimedKind(ctx, "Concurrency")
			if err != nil {
				return err
			}
			if limit, ok := r.enter(kind); !ok {
				return fmt.Errorf("middleware: %d %s tasks are running: %w", limit, kind, handoff.ErrBusy)
			}
			defer r.leave(kind)
			return next(ctx)
		}
	}, nil
}

// claimedKind returns the kind of the task that runs; for an alias, the kind that it
// stands for. It returns an error outside of Router.Use.
func claimedKind(ctx context.Context, middleware string) (string, error) {
	if payload, ok := handoff.PayloadFromContext(ctx).(handoff.Payload); ok {
		return payload.Kind(), nil
	}
	if kind := handoff.InfoFromContext(ctx).Kind; kind != "" { // of Router.Raw
		return kind, nil
	}
	return "", fmt.Errorf("middleware: %s runs only in Router.Use", middleware)
}

type running struct {
	limit int // 0: unlimited
	kinds map[string]int

	mu    sync.Mutex
	count map[string]int
}

func (r *running) enter(kind string) (limit int, ok bool) {
	limit, ok = r.kinds[kind]
	if !ok {
		limit = r.limit
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if limit > 0 && r.count[kind] >= limit {
		return limit, false
	}
	r.count[kind]++
	return limit, true
}

func (r *running) leave(kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count[kind]--
}
