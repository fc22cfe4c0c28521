package telemetry_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/benchtest"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/middleware"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// BenchmarkOverhead compares a delivery with observers to one without, which is
// that of BenchmarkDelivery/known-token in the root: a real token (seen before),
// its headers, 300 bytes of JSON, a claim in memory, an empty handler. It
// alternates between the two every few milliseconds, so that other load on the
// machine disturbs both, and measures the CPU time of the process, garbage
// collection included. The ratio of a single run may still be off by a few
// hundredths: take the median of several.
//
//	go test -run '^$' -bench Overhead -cpu 1 -count 6
//
// The slog.Handler is disabled except in the cases with JSON, because most of a log
// line's cost is in the handler that writes it.
func BenchmarkOverhead(b *testing.B) {
	never := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()), sdktrace.WithSyncer(tracetest.NewNoopExporter()))
	always := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithSyncer(tracetest.NewNoopExporter()))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))

	logger := observer(b)(middleware.Logger(middleware.LoggerConfig{Logger: slog.New(slog.DiscardHandler)}))
	toJSON := observer(b)(middleware.Logger(middleware.LoggerConfig{Logger: slog.New(slog.NewJSONHandler(io.Discard, nil))}))
	noTracing := observer(b)(middleware.Tracing(middleware.TracingConfig{TracerProvider: tracenoop.NewTracerProvider()}))
	sampledOut := observer(b)(middleware.Tracing(middleware.TracingConfig{TracerProvider: never}))
	sampled := observer(b)(middleware.Tracing(middleware.TracingConfig{TracerProvider: always}))
	noMetrics := observer(b)(middleware.Metrics(middleware.MetricsConfig{MeterProvider: metricnoop.NewMeterProvider()}))
	metrics := observer(b)(middleware.Metrics(middleware.MetricsConfig{MeterProvider: meters}))

	for _, bm := range []struct {
		name  string
		watch []handoff.Observer
	}{
		{"nothing", nil}, // how far the comparison itself is off
		{"logger", []handoff.Observer{logger}},
		{"logger, as JSON", []handoff.Observer{toJSON}},
		{"tracing without an SDK", []handoff.Observer{noTracing}},
		{"tracing, sampled out", []handoff.Observer{sampledOut}},
		{"tracing, sampled", []handoff.Observer{sampled}},
		{"metrics without an SDK", []handoff.Observer{noMetrics}},
		{"metrics", []handoff.Observer{metrics}},
		{"all without an SDK", []handoff.Observer{logger, noTracing, noMetrics}},
		{"all, sampled out", []handoff.Observer{logger, sampledOut, metrics}},
		{"all, sampled out, as JSON", []handoff.Observer{toJSON, sampledOut, metrics}},
		{"all, sampled", []handoff.Observer{logger, sampled, metrics}},
	} {
		b.Run(bm.name, func(b *testing.B) { compare(b, newDispatcher(b), newDispatcher(b, bm.watch...)) })
	}
}

// observer returns a function that takes the results of a constructor and fails on
// an error.
func observer(b *testing.B) func(handoff.Observer, error) handoff.Observer {
	return func(o handoff.Observer, err error) handoff.Observer {
		b.Helper()
		assert.NoError(b, err)
		return o
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
	clear(spent) // without the warm-up
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
	b.ReportMetric(allocs(b, bare), "bare-allocs")
	b.ReportMetric(allocs(b, watched), "watched-allocs")
	b.ReportMetric(0, "ns/op") // that of both together
}

// allocs returns how many allocations a delivery makes.
func allocs(b *testing.B, d *dispatcher) float64 {
	b.Helper()
	return testing.AllocsPerRun(1000, func() { d.deliver(b, 1) })
}

// cpu returns the CPU time that the process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	assert.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// dispatcher delivers one task after the other, without the cost of building their
// requests.
type dispatcher struct {
	router   *handoff.Router
	dispatch *benchtest.Dispatch
}

func newDispatcher(b *testing.B, watch ...handoff.Observer) *dispatcher {
	b.Helper()
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{oidctest.Audience},
		Callers:   []string{oidctest.Email},
		Keys:      handoff.StaticKeys(oidctest.JWKS(oidctest.Shared())),
	})
	assert.NoError(b, err)
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier:    verifier,
		Store:       memstore.New(),
		DeadLetters: memstore.NewDeadLetters(),
		Observers:   watch,
		Logger:      slog.New(slog.DiscardHandler),
	})
	assert.NoError(b, err)
	b.Cleanup(func() { assert.NoError(b, router.Shutdown(context.Background())) })
	handoff.Handle(router, func(context.Context, benchtest.Invoice) error { return nil })
	d := &dispatcher{router: router, dispatch: benchtest.NewDispatch(oidctest.Shared().Good())}
	d.dispatch.Header.Set("Traceparent", "00-"+traceID+"-00f067aa0ba902b7-00") // not sampled
	return d
}

func (d *dispatcher) deliver(b *testing.B, n int) {
	b.Helper()
	for range n {
		if status := d.dispatch.Serve(d.router); status != http.StatusOK {
			b.Fatalf("status %d", status)
		}
	}
}
