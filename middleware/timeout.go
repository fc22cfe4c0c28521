package middleware

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/labstack/echo/v4"
)

// TimeoutConfig configures [TimeoutWithConfig].
type TimeoutConfig struct {
	_ [0]func()

	// Skipper leaves out the requests it is true for. Defaults to none.
	Skipper Skipper

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
// A handler that ignores its context runs on, and its task is neither retried
// nor answered until it returns; to give up on it any earlier would let a
// second attempt run beside the first. It panics at start-up if timeout is not
// positive.
func Timeout(timeout time.Duration) echo.MiddlewareFunc {
	return TimeoutWithConfig(TimeoutConfig{Timeout: timeout})
}

// TimeoutWithConfig is [Timeout] with a configuration.
func TimeoutWithConfig(config TimeoutConfig) echo.MiddlewareFunc { return must(config.ToMiddleware()) }

// ToMiddleware returns the middleware, or an error if there is no timeout or
// one is not positive.
func (config TimeoutConfig) ToMiddleware() (echo.MiddlewareFunc, error) {
	var errs []error
	if config.Timeout == 0 && len(config.Kinds) == 0 {
		errs = append(errs, errors.New("middleware: TimeoutConfig.Timeout and Kinds are both empty; one must say how long a task may run"))
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
	return wrap(config.Skipper, func(c echo.Context, next echo.HandlerFunc) error {
		kind, err := claimedKind(c, "Timeout")
		if err != nil {
			return err
		}
		timeout, ok := kinds[kind]
		if !ok {
			timeout = config.Timeout
		}
		if timeout == 0 {
			return next(c)
		}
		return within(timeout, c, next)
	}), nil
}

// within says in the error whose deadline it was, which the error of a context
// does not.
func within(timeout time.Duration, c echo.Context, next echo.HandlerFunc) error {
	over := fmt.Errorf("middleware: the handler took longer than %s", timeout)
	ctx, cancel := context.WithTimeoutCause(c.Request().Context(), timeout, over)
	defer cancel()
	c.SetRequest(c.Request().WithContext(ctx))
	err := next(c)
	if err != nil && errors.Is(context.Cause(ctx), over) {
		return fmt.Errorf("%w: %w", over, err)
	}
	return err
}
