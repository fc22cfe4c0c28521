package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/middleware"
	"github.com/brillconsulting/handoff/redisstore"
	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
)

// newHandoff is the library with every guarantee on, as its README sets it up.
func newHandoff(c *counter, s setup) (http.Handler, func(context.Context) error, error) {
	rdb := redis.NewClient(&redis.Options{Addr: s.Redis, ContextTimeoutEnabled: true})
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{oidctest.Audience},
		Callers:   []string{oidctest.Email},
		Keys:      handoff.RemoteKeys(s.Keys),
	})
	if err != nil {
		return nil, nil, err
	}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier:    verifier,
		Store:       redisstore.New(rdb, nil),
		DeadLetters: redisstore.NewDeadLetters(rdb, nil),
	})
	if err != nil {
		return nil, nil, err
	}
	kinds = max(s.Kinds, 1)
	handoff.Handle(router, func(_ context.Context, in invoice) error {
		c.handle(&in)
		return nil
	})
	e := echo.New()
	tasks := e.Group("/tasks")
	shutdown := func(ctx context.Context) error { return errors.Join(router.Shutdown(ctx), rdb.Close()) }
	if s.Variant == withTelemetry {
		use, stop := telemetry()
		tasks.Use(use...)
		shutdown = func(ctx context.Context) error { return errors.Join(router.Shutdown(ctx), stop(ctx), rdb.Close()) }
	}
	router.Mount(tasks)
	return e, shutdown, nil
}

// telemetry logs a line of JSON for each delivery, traces without sampling and
// counts. The log is thrown away after it is written.
func telemetry() ([]echo.MiddlewareFunc, func(context.Context) error) {
	traces := trace.NewTracerProvider(trace.WithSampler(trace.ParentBased(trace.NeverSample())))
	metrics := metric.NewMeterProvider(metric.WithReader(metric.NewManualReader()))
	use := []echo.MiddlewareFunc{
		middleware.LoggerWithConfig(middleware.LoggerConfig{Logger: slog.New(slog.NewJSONHandler(io.Discard, nil))}), //nolint:sloglint // the line is to be written
		middleware.TracingWithConfig(middleware.TracingConfig{TracerProvider: traces}),
		middleware.MetricsWithConfig(middleware.MetricsConfig{MeterProvider: metrics}),
	}
	return use, func(ctx context.Context) error { return errors.Join(traces.Shutdown(ctx), metrics.Shutdown(ctx)) }
}

// kinds is how many names the handler of invoices has.
var kinds = 1

// Aliases gives one handler as many kinds as the worker shall have.
func (invoice) Aliases() []string {
	aliases := make([]string, kinds-1)
	for i := range aliases {
		aliases[i] = kindOf(i + 1)
	}
	return aliases
}

func kindOf(i int) string {
	if i == 0 {
		return kind
	}
	return kind + "-" + strconv.Itoa(i)
}
