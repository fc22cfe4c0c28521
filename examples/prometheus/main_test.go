package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/middleware"
	"github.com/labstack/echo/v4"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

// /metrics shows the outcome of each sort of order.
func TestMetrics(t *testing.T) {
	t.Parallel()
	meters, metrics, err := watch()
	assert.NoError(t, err)
	enqueues, err := middleware.Instrument(middleware.InstrumentConfig{MeterProvider: meters})
	assert.NoError(t, err)
	deliveries, err := middleware.Metrics(middleware.MetricsConfig{MeterProvider: meters})
	assert.NoError(t, err)
	s, err := open(t.Context(), enqueues, deliveries)
	assert.NoError(t, err)
	defer s.close()
	e := echo.New()
	s.router.Mount(e.Group("/tasks"))
	s.tasks.SetHandler(e)
	for _, luck := range []int{0, 10, 30} { // dead, done at the second attempt, done
		_, err := s.client.Enqueue(t.Context(), Order{Luck: luck})
		assert.NoError(t, err)
	}
	assert.NoError(t, s.tasks.Wait(t.Context()))

	rec := httptest.NewRecorder()
	metrics.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	page, err := io.ReadAll(rec.Body)
	assert.NoError(t, err)
	series := make(map[string]string)
	for line := range strings.Lines(string(page)) {
		name, value, _ := strings.Cut(strings.TrimSpace(otelScope.ReplaceAllString(line, "")), "} ")
		series[name+"}"] = value
	}
	for name, value := range map[string]string{
		`handoff_deliveries_total{handoff_kind="order",handoff_outcome="done"}`:       "2",
		`handoff_deliveries_total{handoff_kind="order",handoff_outcome="failed"}`:     "1",
		`handoff_deliveries_total{handoff_kind="order",handoff_outcome="dead"}`:       "1",
		`handoff_dead_letters_total{handoff_kind="order",handoff_reason="permanent"}`: "1",
		`handoff_lag_seconds_count{handoff_kind="order"}`:                             "4",
		`handoff_enqueue_to_done_seconds_count{handoff_kind="order"}`:                 "2",
		`handoff_in_flight{}`: "0",
	} {
		if series[name] != value {
			t.Errorf("%s is %q, want %q in\n%s", name, series[name], value, page)
		}
	}
	if !strings.Contains(string(page), "messaging_client_sent_messages_total{") || !strings.Contains(string(page), "messaging_process_duration_seconds_bucket{") {
		t.Errorf("not those of OpenTelemetry's conventions:\n%s", page)
	}
	checkRules(t, string(page))
}

// otelScope matches the labels by which the exporter names the instrumentation.
var otelScope = regexp.MustCompile(`,?otel_scope_[a-z_]+="[^"]*"`)

// checkRules fails if an alert uses a metric that /metrics does not have.
func checkRules(t *testing.T, page string) {
	t.Helper()
	rules, err := os.ReadFile("rules.yml")
	assert.NoError(t, err)
	names := regexp.MustCompile(`(handoff|messaging)_[a-z_]+(_total|_bucket|_count|_flight)`).FindAllString(string(rules), -1)
	if len(names) == 0 {
		t.Fatal("rules.yml asks for nothing")
	}
	rare := []string{"handoff_rejections_total", "handoff_leases_lost_total"} // nothing of the kind happened above
	for _, name := range names {
		if !strings.Contains(page, name) && !slices.Contains(rare, name) {
			t.Errorf("rules.yml asks for %s, which is not on the page", name)
		}
	}
}

// The program serves until its context ends.
func TestRun(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, out, "127.0.0.1:0") }()
	line, err := bufio.NewReader(in).ReadString('\n')
	assert.NoError(t, err)
	url, _, _ := strings.Cut(line, ",")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	assert.NoError(t, err)
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	assert.NoError(t, err)
	resp.Body.Close()
	assert.Status(t, resp.StatusCode, http.StatusOK)
	stop()
	assert.NoError(t, <-ended)
}
