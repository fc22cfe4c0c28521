package telemetry_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/wire"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/middleware"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

const (
	location = "projects/shop/locations/europe-west1"
	account  = "tasks@shop.iam.gserviceaccount.com"
	origin   = "https://worker.example.com"
)

// order is a payload. Its Card must never appear in telemetry.
type order struct {
	Card string `json:"card"`
}

func (order) Kind() string { return "order" }
func (order) Policy() handoff.Policy {
	return handoff.Policy{Queue: "orders", Retry: handoff.Retry{MaxAttempts: 3, MinBackoff: time.Second}}
}

const card = "4111-1111-1111-1111"

// world is both sides of handoff with Cloud Tasks between them, and OpenTelemetry's
// SDK. It runs in a synctest bubble.
type world struct {
	tasks    *emulator.Server
	router   *handoff.Router
	client   *handoff.Client
	store    *store
	token    string
	spans    *tracetest.InMemoryExporter
	provider *sdktrace.TracerProvider
	reader   *sdkmetric.ManualReader
	meters   *sdkmetric.MeterProvider
}

// newWorld returns a world that samples requests with a sampled parent, and all
// others as root decides.
func newWorld(t *testing.T, root sdktrace.Sampler) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{
		tasks:  emulator.RunT(t),
		store:  &store{Store: memstore.New()},
		spans:  tracetest.NewInMemoryExporter(),
		reader: sdkmetric.NewManualReader(),
	}
	w.provider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans), sdktrace.WithSampler(sdktrace.ParentBased(root)))
	w.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(w.reader))
	_, err := cloudtaskspb.NewCloudTasksClient(w.tasks.Conn()).CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{
		Parent: location, Queue: &cloudtaskspb.Queue{Name: location + "/queues/orders"},
	})
	assert.NoError(t, err)
	w.token, err = w.tasks.Token(account, origin)
	assert.NoError(t, err)

	instrument, err := middleware.Instrument(middleware.InstrumentConfig{TracerProvider: w.provider, MeterProvider: w.meters})
	assert.NoError(t, err)
	w.client, err = handoff.NewClient(ctx, handoff.ClientConfig{
		Project:    "shop",
		Location:   "europe-west1",
		Target:     handoff.HTTPTarget{URL: origin + "/tasks", ServiceAccount: account},
		Options:    w.tasks.ClientOptions(),
		Instrument: instrument,
		Logger:     slog.New(slog.DiscardHandler),
	})
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.client.Close()) })

	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{origin}, Callers: []string{account}, Keys: handoff.StaticKeys(w.tasks.JWKS()),
	})
	assert.NoError(t, err)
	w.router = w.newRouter(t, verifier)
	w.tasks.SetHandler(sized(w.router))
	return w
}

// sized sets the Content-Length header, which requests over a connection have.
func sized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Header.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
		next.ServeHTTP(rw, r)
	})
}

// newRouter returns a router with observers. A world may have several.
func (w *world) newRouter(t *testing.T, verifier handoff.Verifier) *handoff.Router {
	t.Helper()
	tracing, err := middleware.Tracing(middleware.TracingConfig{TracerProvider: w.provider})
	assert.NoError(t, err)
	metrics, err := middleware.Metrics(middleware.MetricsConfig{MeterProvider: w.meters})
	assert.NoError(t, err)
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier:                        verifier,
		DangerouslyAllowUnauthenticated: verifier == nil,
		Store:                           w.store,
		Client:                          w.client,
		MaxBody:                         1000,
		Logger:                          slog.New(slog.DiscardHandler),
		Observers:                       []handoff.Observer{tracing, metrics},
	})
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, router.Shutdown(context.Background())) })
	return router
}

// store is a memstore whose leases can be lost.
type store struct {
	handoff.Store
	lose bool // refuse every renewal
}

func (s *store) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	if s.lose {
		return make([]bool, len(leases)), nil
	}
	return s.Store.Renew(ctx, leases)
}

// request returns a dispatch of an order that did not pass through Cloud Tasks.
func (w *world) request(task string, change ...func(*http.Request)) *http.Request {
	req := httptest.NewRequest(http.MethodPost, "/tasks/order", strings.NewReader(`{"card":"`+card+`"}`))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+w.token)
	now := time.Now()
	wire.HTTP.Write(req.Header, wire.Dispatch{Queue: "orders", Task: task, ETA: now.Add(-2 * time.Second)})
	stamp := wire.Stamp{ID: "id-" + task, Enqueued: now.Add(-3 * time.Second), Expires: now.Add(time.Hour), MaxAttempts: 3}
	stamp.Write(req.Header.Set)
	for _, fn := range change {
		fn(req)
	}
	return req
}

func (w *world) send(req *http.Request) int {
	rec := httptest.NewRecorder()
	w.router.ServeHTTP(rec, req)
	return rec.Code
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func noHeader(name string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Del(name) }
}

func path(p string) func(*http.Request) {
	return func(r *http.Request) { r.URL.Path = p }
}

// named returns the spans with the name, in the order in which they ended.
func (w *world) named(name string) []tracetest.SpanStub {
	return slices.DeleteFunc(w.spans.GetSpans(), func(s tracetest.SpanStub) bool { return s.Name != name })
}

func attributesOf(s tracetest.SpanStub) map[string]any {
	return toMap(attribute.NewSet(s.Attributes...))
}

func toMap(set attribute.Set) map[string]any {
	attrs := make(map[string]any)
	for _, kv := range set.ToSlice() {
		attrs[string(kv.Key)] = kv.Value.AsInterface()
	}
	return attrs
}

// point is one series of an instrument.
type point struct {
	labels string // encoded, in alphabetical order
	value  float64
	count  uint64 // of a histogram; its value is the sum
}

// collect returns all series, by the name of their instrument.
func (w *world) collect(t *testing.T) map[string][]point {
	t.Helper()
	var data metricdata.ResourceMetrics
	assert.NoError(t, w.reader.Collect(t.Context(), &data))
	all := make(map[string][]point)
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			all[m.Name] = pointsOf(t, m.Data)
			slices.SortFunc(all[m.Name], func(a, b point) int { return strings.Compare(a.labels, b.labels) })
		}
	}
	return all
}

func pointsOf(t *testing.T, data metricdata.Aggregation) []point {
	t.Helper()
	encode := func(set attribute.Set) string { return set.Encoded(attribute.DefaultEncoder()) }
	var points []point
	switch data := data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			points = append(points, point{labels: encode(p.Attributes), value: float64(p.Value)})
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			points = append(points, point{labels: encode(p.Attributes), value: p.Value})
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			points = append(points, point{encode(p.Attributes), p.Sum, p.Count})
		}
	default:
		t.Fatalf("unexpected aggregation %T", data)
	}
	return points
}
