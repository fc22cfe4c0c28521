package middleware_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/internal/wire"
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

// invoice is the payload of the benchmarks, and of those of the root.
type invoice struct {
	ID       string   `json:"id"`
	Customer string   `json:"customer"`
	Currency string   `json:"currency"`
	Total    float64  `json:"total"`
	Paid     bool     `json:"paid"`
	Lines    []string `json:"lines"`
	Note     string   `json:"note"`
}

func (invoice) Kind() string { return "invoice" }

// invoiceBody has 300 bytes.
const invoiceBody = `{"id":"inv-2026-00000000042","customer":"customer-0001","currency":"EUR","total":1234.56,"paid":true,` +
	`"lines":["twelve crates of apples","one crate of pears","delivery on Tuesday before 9","deposit for thirteen crates"],` +
	`"note":"Please ring twice, the bell is old and sometimes does not hear the 1st."}`

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
	handoff.Handle(router, func(context.Context, invoice) error { return nil })
	e := echo.New()
	router.Mount(e.Group("/tasks", group...))

	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://worker.example.com/tasks/invoice", nil)
	assert.NoError(b, err)
	req.Header.Set("Authorization", "Bearer "+oidctest.Shared().Good())
	req.Header.Set("Traceparent", traceparent)
	req.ContentLength = int64(len(invoiceBody))
	wire.HTTP.Write(req.Header, wire.Dispatch{Queue: "invoices", Task: "8412345678901234567", ETA: time.Now()})
	stamp := wire.Stamp{ID: "id", Enqueued: time.Now(), Expires: time.Now().Add(time.Hour), MaxAttempts: 5}
	stamp.Write(req.Header.Set)
	id := req.Header["Handoff-Id"]
	reader := strings.NewReader(invoiceBody)
	req.Body = io.NopCloser(reader)
	w := &response{header: make(http.Header)}

	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		id[0] = strconv.Itoa(n) // another task
		reader.Reset(invoiceBody)
		e.ServeHTTP(w, req)
		if w.status != http.StatusOK {
			b.Fatalf("answered %d", w.status)
		}
	}
}

// response is a ResponseWriter that costs nothing.
type response struct {
	header http.Header
	status int
}

func (w *response) Header() http.Header         { return w.header }
func (w *response) Write(p []byte) (int, error) { return len(p), nil }
func (w *response) WriteHeader(status int)      { w.status = status }
