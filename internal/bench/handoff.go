package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/middleware"
	"github.com/brillconsulting/handoff/redisstore"
	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
)

// newHandoff is the library with every guarantee on, set up as in its README.
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
	observers, stop, err := telemetry(s.Variant == withTelemetry)
	if err != nil {
		return nil, nil, err
	}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier:    verifier,
		Store:       redisstore.New(rdb, nil),
		DeadLetters: redisstore.NewDeadLetters(rdb, nil),
		Observers:   observers,
	})
	if err != nil {
		return nil, nil, err
	}
	handoff.Handle(router, func(_ context.Context, in invoice) error {
		c.handle(&in)
		return nil
	})
	e := echo.New()
	router.Mount(e.Group("/tasks"))
	return e, func(ctx context.Context) error { return errors.Join(router.Shutdown(ctx), stop(ctx), rdb.Close()) }, nil
}

// telemetry returns no observers unless wanted, else Logger (JSON, to io.Discard),
// Tracing (nothing sampled) and Metrics.
func telemetry(wanted bool) ([]handoff.Observer, func(context.Context) error, error) {
	if !wanted {
		return nil, func(context.Context) error { return nil }, nil
	}
	traces := trace.NewTracerProvider(trace.WithSampler(trace.ParentBased(trace.NeverSample())))
	meters := metric.NewMeterProvider(metric.WithReader(metric.NewManualReader()))
	logger, lerr := middleware.Logger(middleware.LoggerConfig{Logger: slog.New(slog.NewJSONHandler(io.Discard, nil))})
	tracing, terr := middleware.Tracing(middleware.TracingConfig{TracerProvider: traces})
	metrics, merr := middleware.Metrics(middleware.MetricsConfig{MeterProvider: meters})
	stop := func(ctx context.Context) error { return errors.Join(traces.Shutdown(ctx), meters.Shutdown(ctx)) }
	return []handoff.Observer{logger, tracing, metrics}, stop, errors.Join(lerr, terr, merr)
}
