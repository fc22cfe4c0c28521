package middleware

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/brillconsulting/handoff"
)

// TimeoutConfig configures [Timeout]. Timeout or Kinds must be set.
type TimeoutConfig struct {
	_ [0]func()

	// Timeout is how long one attempt may take. It applies to each kind that Kinds
	// does not name. Defaults to none. The task's dispatch deadline and
	// RouterConfig.MaxRun apply in any case.
	Timeout time.Duration

	// Kinds has the timeouts of single kinds, instead of Timeout. An alias has the
	// timeout of its kind. Defaults to none.
	Kinds map[string]time.Duration
}

// Timeout returns a middleware for [handoff.Router.Use] that cancels the handler's
// context after a time. What the handler then returns still decides the outcome: an
// error fails the attempt, nil makes the task done.
//
// A handler that ignores its context runs on, and its task is settled only when it
// returns. To settle it earlier would let a second attempt run at the same time.
//
// Timeout returns an error if a timeout is not positive, or if none is set. The
// middleware is safe for concurrent use.
func Timeout(config TimeoutConfig) (handoff.Middleware, error) {
	var errs []error
	if config.Timeout == 0 && len(config.Kinds) == 0 {
		errs = append(errs, errors.New("middleware: TimeoutConfig.Timeout and Kinds are both empty; set one to the time that a task may run"))
	}
	if config.Timeout < 0 {
		errs = append(errs, fmt.Errorf("middleware: TimeoutConfig.Timeout is %s; it must be positive", config.Timeout))
	}
	for kind, timeout := range config.Kinds {
		if timeout <= 0 {
			errs = append(errs, fmt.Errorf("middleware: TimeoutConfig.Kinds[%q] is %s; it must be positive", kind, timeout))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	kinds := maps.Clone(config.Kinds)
	return func(next handoff.Handler) handoff.Handler {
		return func(ctx context.Context) error {
			kind, err := claimedKind(ctx, "Timeout")
			if err != nil {
				return err
			}
			timeout, ok := kinds[kind]
			if !ok {
				timeout = config.Timeout
			}
			if timeout == 0 {
				return next(ctx)
			}
			return within(ctx, timeout, next)
		}
	}, nil
}

// within runs next with a timeout. If the timeout ends it, the error says so, which
// context.DeadlineExceeded alone does not.
func within(ctx context.Context, timeout time.Duration, next handoff.Handler) error {
	over := fmt.Errorf("middleware: the handler took longer than %s", timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, over)
	defer cancel()
	err := next(ctx)
	if err != nil && errors.Is(context.Cause(ctx), over) {
		return fmt.Errorf("%w: %w", over, err)
	}
	return err
}
