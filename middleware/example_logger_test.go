package middleware_test

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/middleware"
)

func ExampleLogger() {
	// Without what changes from run to run. A service leaves all this out:
	// middleware.Logger() writes to slog.Default.
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "duration" {
				return slog.Attr{}
			}
			return a
		},
	}))

	router := newRouter()
	defer router.Shutdown(context.Background())
	handoff.Handle(router, func(ctx context.Context, e WelcomeEmail) error {
		if handoff.InfoFromContext(ctx).Attempt == 1 {
			return errors.New("smtp: connection refused")
		}
		return nil
	})

	e := echo.New()
	router.Mount(e.Group("/tasks", middleware.LoggerWithConfig(middleware.LoggerConfig{Logger: log})))

	deliver(e, "t1")
	deliver(e, "t1", "X-CloudTasks-TaskRetryCount", "1")

	// Output:
	// level=WARN msg="handoff: delivery" outcome=failed status=500 kind=welcome-email queue=emails task=t1 attempt=1 error="smtp: connection refused"
	// level=INFO msg="handoff: delivery" outcome=done status=200 kind=welcome-email queue=emails task=t1 attempt=2
}
