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

	// Limit is how many tasks of one kind may run at a time in this process,
	// for each kind that Kinds does not name. Defaults to no limit.
	Limit int

	// Kinds has the limits of single kinds. Aliases count as the kind that
	// they stand for. Defaults to none.
	Kinds map[string]int
}

// Concurrency returns a middleware for [handoff.Router.Use] that lets at most
// so many tasks of each kind run at a time in this process. One too many is
// refused with [handoff.ErrBusy]: Cloud Tasks tries it again with backoff, its
// attempt does not count, and the queue is not slowed. Nothing waits here,
// since a waiting task would use up its deadline.
//
// It is for what one process can bear, such as memory or a pool of
// connections. To pace the work as a whole, set the queue's own
// maxConcurrentDispatches: it holds across processes and dispatches nothing in
// vain.
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

// claimedKind is the kind of the task that runs, under its present name. There
// is none outside of Router.Use.
func claimedKind(ctx context.Context, middleware string) (string, error) {
	payload, ok := handoff.PayloadFromContext(ctx).(handoff.Payload)
	if !ok {
		return "", fmt.Errorf("middleware: %s runs only in Router.Use", middleware)
	}
	return payload.Kind(), nil
}

type running struct {
	limit int // 0: none
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
