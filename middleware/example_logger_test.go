package middleware_test

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/middleware"
)

func ExampleLogger() {
	// Leave out what differs between runs. A service needs none of this: the zero
	// LoggerConfig writes to slog.Default.
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "duration_seconds" {
				return slog.Attr{}
			}
			return a
		},
	}))

	observer, err := middleware.Logger(middleware.LoggerConfig{Logger: log})
	if err != nil {
		panic(err)
	}
	router := newRouter(observer) // RouterConfig.Observers
	defer router.Shutdown(context.Background())
	handoff.Handle(router, func(ctx context.Context, e WelcomeEmail) error {
		if handoff.InfoFromContext(ctx).Attempt == 1 {
			return errors.New("smtp: connection refused")
		}
		return nil
	})

	deliver(router, "t1")
	deliver(router, "t1", "X-CloudTasks-TaskRetryCount", "1")

	// Output:
	// level=WARN msg="handoff: delivery" outcome=failed status=500 kind=welcome-email queue=emails task=t1 attempt=1 error="smtp: connection refused"
	// level=INFO msg="handoff: delivery" outcome=done status=200 kind=welcome-email queue=emails task=t1 attempt=2
}
