package middleware_test

import (
	"context"
	"fmt"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/middleware"
)

// The response to a task above the limit is 409. Cloud Tasks retries it later, the
// attempt does not count, and the queue is not slowed.
func ExampleConcurrency() {
	router := newRouter()
	defer router.Shutdown(context.Background())
	limit, err := middleware.Concurrency(middleware.ConcurrencyConfig{Limit: 1})
	if err != nil {
		panic(err)
	}
	router.Use(limit)

	handoff.Handle(router, func(ctx context.Context, _ WelcomeEmail) error {
		if handoff.InfoFromContext(ctx).Task == "t1" {
			fmt.Println("t2 while t1 runs:", deliver(router, "t2"))
		}
		return nil
	})

	fmt.Println("t1:", deliver(router, "t1"))
	fmt.Println("t2 after t1:", deliver(router, "t2"))

	// Output:
	// t2 while t1 runs: 409
	// t1: 200
	// t2 after t1: 200
}
