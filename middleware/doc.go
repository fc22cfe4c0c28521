// Package middleware watches and limits the deliveries of a handoff router:
// logs, traces, metrics, concurrency, timeouts. Nothing in it is needed for
// safety; a router without any of it authenticates, fences and buries all the
// same.
//
// All of it is ordinary [echo.MiddlewareFunc], in one of two places. What
// watches goes on the echo group, where it sees every delivery, refused ones
// included. What limits goes to [handoff.Router.Use], where the task is
// claimed, decoded and under its deadline:
//
//	group := e.Group("/tasks", middleware.Logger(), middleware.Tracing(), middleware.Metrics())
//	router.Use(middleware.Concurrency(8), middleware.Timeout(time.Minute))
//	router.Mount(group)
//
//	Logger ( Tracing ( Metrics ( verify, …, claim, Concurrency ( Timeout ( handler )), settle, status )))
//
// The order on the group is free, and other echo middleware fits in anywhere.
//
// The enqueueing side is [Instrument], for [handoff.ClientConfig].
//
// Each middleware comes in three forms, as echo's own do: X() with defaults,
// XWithConfig(config), which panics at start-up if config is wrong, and
// config.ToMiddleware(), which returns the error instead. All are safe for
// concurrent use, return the errors they meet and write no response. Tokens
// and payloads never reach a log line, an attribute or a label.
package middleware

import "github.com/labstack/echo/v4"

// Skipper says which requests a middleware leaves alone. Those of echo's own
// middleware package fit.
type Skipper = func(c echo.Context) bool

// wrap is a middleware from what it does around next, where skip does not leave
// it out. Echo makes the chain anew for each request, so it holds little.
func wrap(skip Skipper, around func(c echo.Context, next echo.HandlerFunc) error) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if skip != nil && skip(c) {
				return next(c)
			}
			return around(c, next)
		}
	}
}

// must is the start-up panic of the XWithConfig forms: a configuration that
// cannot work is a mistake in the program.
func must[T any](made T, err error) T {
	if err != nil {
		panic(err)
	}
	return made
}
