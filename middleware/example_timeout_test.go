package middleware_test

import (
	"context"
	"fmt"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/middleware"
)

func ExampleTimeout() {
	router := newRouter()
	defer router.Shutdown(context.Background())
	timeout, err := middleware.Timeout(middleware.TimeoutConfig{Timeout: 10 * time.Millisecond})
	if err != nil {
		panic(err)
	}
	router.Use(timeout)
	handoff.Handle(router, func(ctx context.Context, e WelcomeEmail) error {
		select {
		case <-time.After(time.Hour): // a mail server that does not respond
			return nil
		case <-ctx.Done():
			fmt.Println(context.Cause(ctx))
			return ctx.Err()
		}
	})

	fmt.Println(deliver(router, "t1"))

	// Output:
	// middleware: the handler took longer than 10ms
	// 500
}
