package middleware_test

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/middleware"
)

// Metrics go to the OpenTelemetry provider of the program. For a complete program,
// see examples/prometheus.
func ExampleMetrics() {
	provider := noop.NewMeterProvider() // in a service: metric.NewMeterProvider of OpenTelemetry's SDK

	observer, err := middleware.Metrics(middleware.MetricsConfig{MeterProvider: provider})
	if err != nil {
		panic(err)
	}
	router := newRouter(observer) // RouterConfig.Observers
	defer router.Shutdown(context.Background())
	handoff.Handle(router, func(ctx context.Context, e WelcomeEmail) error { return nil })

	fmt.Println(deliver(router, "t1"))

	// Output:
	// 200
}
