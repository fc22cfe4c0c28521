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

	// Timeout is how long one attempt at a task may take, for each kind that
	// Kinds does not name. Defaults to no bound beside the task's own dispatch
	// deadline and RouterConfig.MaxRun, which hold in any case.
	Timeout time.Duration

	// Kinds has the timeouts of single kinds. Aliases have that of the kind
	// they stand for. Defaults to none.
	Kinds map[string]time.Duration
}

// Timeout returns a middleware for [handoff.Router.Use] that ends the
// handler's context after a time, if nothing has ended it before. What the
// handler makes of it is its own affair: an error fails the attempt, nil is
// done.
//
// A handler that ignores its context runs on, and its task is not settled
// until it returns; to give up on it any earlier would let a second attempt
// run beside the first.
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

// within names in the error whose deadline it was, which the error of a context
// does not.
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
