package middleware_test

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/trace"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/middleware"
)

// The handler runs in the trace of the call that enqueued its task.
func ExampleTracing() {
	observer, err := middleware.Tracing(middleware.TracingConfig{})
	if err != nil {
		panic(err)
	}
	router := newRouter(observer) // RouterConfig.Observers
	defer router.Shutdown(context.Background())
	handoff.Handle(router, func(ctx context.Context, e WelcomeEmail) error {
		fmt.Println("trace", trace.SpanContextFromContext(ctx).TraceID())
		return nil
	})

	// middleware.Instrument puts this header on the task.
	deliver(router, "t1", "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")

	// Output:
	// trace 4bf92f3577b34da6a3ce929d0e0e4736
}
