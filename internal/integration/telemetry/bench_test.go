package telemetry_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/internal/wire"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/middleware"
	"github.com/labstack/echo/v4"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// BenchmarkOverhead compares a delivery that is watched with one that is not:
// a real token (seen before), its headers, 300 bytes of JSON, a claim in
// memory, an empty handler. It alternates between the two every few
// milliseconds and goes by the CPU time of the process, garbage collection
// included, so that what else runs on the machine hits both or neither.
//
//	go test -run '^$' -bench Overhead -cpu 1
func BenchmarkOverhead(b *testing.B) {
	never := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()), sdktrace.WithSyncer(tracetest.NewNoopExporter()))
	always := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithSyncer(tracetest.NewNoopExporter()))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))

	logger := middleware.LoggerWithConfig(middleware.LoggerConfig{Logger: slog.New(slog.DiscardHandler)})
	noTracing := middleware.TracingWithConfig(middleware.TracingConfig{TracerProvider: tracenoop.NewTracerProvider()})
	sampledOut := middleware.TracingWithConfig(middleware.TracingConfig{TracerProvider: never})
	sampled := middleware.TracingWithConfig(middleware.TracingConfig{TracerProvider: always})
	noMetrics := middleware.MetricsWithConfig(middleware.MetricsConfig{MeterProvider: metricnoop.NewMeterProvider()})
	metrics := middleware.MetricsWithConfig(middleware.MetricsConfig{MeterProvider: meters})

	for _, bm := range []struct {
		name  string
		group []echo.MiddlewareFunc
	}{
		{"nothing", nil}, // how far the comparison itself is off
		{"logger", []echo.MiddlewareFunc{logger}},
		{"tracing without an SDK", []echo.MiddlewareFunc{noTracing}},
		{"tracing, sampled out", []echo.MiddlewareFunc{sampledOut}},
		{"tracing, sampled", []echo.MiddlewareFunc{sampled}},
		{"metrics without an SDK", []echo.MiddlewareFunc{noMetrics}},
		{"metrics", []echo.MiddlewareFunc{metrics}},
		{"all without an SDK", []echo.MiddlewareFunc{logger, noTracing, noMetrics}},
		{"all, sampled out", []echo.MiddlewareFunc{logger, sampledOut, metrics}},
		{"all, sampled", []echo.MiddlewareFunc{logger, sampled, metrics}},
	} {
		b.Run(bm.name, func(b *testing.B) { compare(b, newDispatcher(b), newDispatcher(b, bm.group...)) })
	}
}

func compare(b *testing.B, bare, watched *dispatcher) {
	b.Helper()
	const few = 200
	spent := map[*dispatcher]time.Duration{}
	run := func(d *dispatcher) {
		start := cpu(b)
		d.deliver(b, few)
		spent[d] += cpu(b) - start
	}
	run(bare)
	run(watched)
	clear(spent) // what only the first ones cost
	rounds := 0
	for b.Loop() {
		rounds++
		if first, second := bare, watched; rounds%2 == 0 {
			run(first)
			run(second)
		} else {
			run(second)
			run(first)
		}
	}
	each := float64(rounds * few)
	b.ReportMetric(float64(spent[bare].Nanoseconds())/each, "bare-ns")
	b.ReportMetric(float64(spent[watched].Nanoseconds())/each, "watched-ns")
	b.ReportMetric(float64(spent[watched])/float64(spent[bare]), "times")
	b.ReportMetric(0, "ns/op") // that of both together
}

// cpu is the CPU time that the process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	assert.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
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

// dispatcher delivers one task after the other, without the cost of making
// their requests.
type dispatcher struct {
	echo *echo.Echo
	req  *http.Request
	id   []string
	body *strings.Reader
	w    response
	n    int
}

func newDispatcher(b *testing.B, group ...echo.MiddlewareFunc) *dispatcher {
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
	b.Cleanup(func() { assert.NoError(b, router.Shutdown(context.Background())) })
	handoff.Handle(router, func(context.Context, invoice) error { return nil })
	d := &dispatcher{echo: echo.New(), body: new(strings.Reader)}
	router.Mount(d.echo.Group("/tasks", group...))

	d.req, err = http.NewRequestWithContext(b.Context(), http.MethodPost, "http://worker.example.com/tasks/invoice", io.NopCloser(d.body))
	assert.NoError(b, err)
	d.req.ContentLength = int64(len(invoiceBody))
	d.req.Header.Set("Authorization", "Bearer "+oidctest.Shared().Good())
	d.req.Header.Set("Traceparent", "00-"+traceID+"-00f067aa0ba902b7-00") // not sampled
	wire.HTTP.Write(d.req.Header, wire.Dispatch{Queue: "invoices", Task: "8412345678901234567", ETA: time.Now()})
	stamp := wire.Stamp{ID: "id", Enqueued: time.Now(), Expires: time.Now().Add(time.Hour), MaxAttempts: 5}
	stamp.Write(d.req.Header.Set)
	d.id = d.req.Header["Handoff-Id"]
	d.w.header = make(http.Header)
	return d
}

func (d *dispatcher) deliver(b *testing.B, n int) {
	b.Helper()
	for range n {
		d.n++
		d.id[0] = strconv.Itoa(d.n) // another task
		d.body.Reset(invoiceBody)
		d.echo.ServeHTTP(&d.w, d.req)
		if d.w.status != http.StatusOK {
			b.Fatalf("answered %d", d.w.status)
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
