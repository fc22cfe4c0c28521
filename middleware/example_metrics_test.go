package middleware_test

import (
	"context"
	"fmt"

	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/middleware"
)

// Metrics go to the OpenTelemetry provider of the program; examples/prometheus
// has a whole one.
func ExampleMetrics() {
	provider := noop.NewMeterProvider() // in a service: metric.NewMeterProvider of OpenTelemetry's SDK

	router := newRouter()
	defer router.Shutdown(context.Background())
	handoff.Handle(router, func(ctx context.Context, e WelcomeEmail) error { return nil })

	watch, err := middleware.MetricsConfig{MeterProvider: provider}.ToMiddleware()
	if err != nil {
		panic(err)
	}
	e := echo.New()
	router.Mount(e.Group("/tasks", watch))

	fmt.Println(deliver(e, "t1"))

	// Output:
	// 200
}
