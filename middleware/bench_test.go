package middleware_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"

	"github.com/labstack/echo/v4"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/benchtest"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/middleware"
)

// BenchmarkDelivery shows what watching adds to a delivery: a real token (seen
// before), its headers, 300 bytes of JSON, a claim in memory, an empty handler.
// internal/integration/telemetry has the same with OpenTelemetry's SDK.
func BenchmarkDelivery(b *testing.B) {
	logger := middleware.LoggerWithConfig(middleware.LoggerConfig{Logger: slog.New(slog.DiscardHandler)})
	tracing := middleware.TracingWithConfig(middleware.TracingConfig{TracerProvider: tracenoop.NewTracerProvider()})
	metrics := middleware.MetricsWithConfig(middleware.MetricsConfig{MeterProvider: metricnoop.NewMeterProvider()})
	for _, bm := range []struct {
		name  string
		group []echo.MiddlewareFunc
	}{
		{"bare", nil},
		{"logger", []echo.MiddlewareFunc{logger}},
		{"tracing", []echo.MiddlewareFunc{tracing}},
		{"metrics", []echo.MiddlewareFunc{metrics}},
		{"all", []echo.MiddlewareFunc{logger, tracing, metrics}},
	} {
		b.Run(bm.name, func(b *testing.B) { benchmarkDelivery(b, bm.group...) })
	}
}

func benchmarkDelivery(b *testing.B, group ...echo.MiddlewareFunc) {
	b.Helper()
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{oidctest.Audience},
		Callers:   []string{oidctest.Email},
		Keys:      handoff.StaticKeys(oidctest.JWKS(oidctest.Shared())),
	})
	assert.NoError(b, err)
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier: verifier, Store: memstore.New(), Logger: slog.New(slog.DiscardHandler),
	})
	assert.NoError(b, err)
	defer router.Shutdown(context.Background())
	handoff.Handle(router, func(context.Context, benchtest.Invoice) error { return nil })
	e := echo.New()
	router.Mount(e.Group("/tasks", group...))

	d := benchtest.NewDispatch(oidctest.Shared().Good())
	d.Header.Set("Traceparent", traceparent)
	b.ReportAllocs()
	for b.Loop() {
		if status := d.Serve(e); status != http.StatusOK {
			b.Fatalf("answered %d", status)
		}
	}
}
