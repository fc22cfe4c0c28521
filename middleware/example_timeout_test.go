package middleware_test

import (
	"context"
	"fmt"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/middleware"
)

func ExampleTimeout() {
	router := newRouter()
	defer router.Shutdown(context.Background())
	router.Use(middleware.Timeout(10 * time.Millisecond))
	handoff.Handle(router, func(ctx context.Context, e WelcomeEmail) error {
		select {
		case <-time.After(time.Hour): // a mail server that does not answer
			return nil
		case <-ctx.Done():
			fmt.Println(context.Cause(ctx))
			return ctx.Err()
		}
	})

	e := echo.New()
	router.Mount(e.Group("/tasks"))
	fmt.Println(deliver(e, "t1"))

	// Output:
	// middleware: the handler took longer than 10ms
	// 500
}
