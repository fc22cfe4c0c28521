package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

// logLine has the fields of a log line that the tests use.
type logLine struct{ Msg, Address, Outcome, Error string }

// logLines returns a logger and a channel of its lines.
func logLines(t *testing.T) (*slog.Logger, <-chan logLine) {
	t.Helper()
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	lines := make(chan logLine, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(r); scanner.Scan(); {
			var line logLine
			_ = json.Unmarshal(scanner.Bytes(), &line)
			lines <- line
		}
	}()
	return slog.New(slog.NewJSONHandler(w, nil)), lines
}

// await returns the first line for which fits returns true.
func await(t *testing.T, lines <-chan logLine, fits func(logLine) bool) logLine {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case line := <-lines:
			if fits(line) {
				return line
			}
		case <-deadline:
			t.Fatal("20 s without the line")
		}
	}
}

func serving(l logLine) bool { return l.Msg == "handoff: serving" }

func TestLocal(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log, lines := logLines(t)
	ended := make(chan error, 1)
	go func() { ended <- serveLocal(ctx, log) }()
	await(t, lines, func(l logLine) bool { return l.Outcome == "done" })
	stop()
	assert.NoError(t, <-ended)
}

// One error names every missing variable, and deploy.md has all of them.
func TestConfigure(t *testing.T) {
	t.Parallel()
	var asked []string
	ask := func(name string) string {
		asked = append(asked, name)
		return ""
	}
	_, err := configure(ask)
	assert.ErrorContains(t, err, "AUDIENCES is not set", "CALLERS is not set", "REDIS_URL is not set", "-local")
	_, err = exportTelemetry(t.Context(), ask)
	assert.NoError(t, err)
	page, err := os.ReadFile("deploy.md")
	assert.NoError(t, err)
	for _, name := range asked {
		if !strings.Contains(string(page), name) {
			t.Errorf("deploy.md does not mention %s", name)
		}
	}

	cfg, err := configure(func(name string) string {
		return map[string]string{"AUDIENCES": "https://a.example.com,https://b.example.com", "CALLERS": "c", "REDIS_URL": "redis://r:1/2"}[name]
	})
	assert.NoError(t, err)
	assert.Equal(t, cfg.audiences, []string{"https://a.example.com", "https://b.example.com"})
	assert.Equal(t, cfg.redis.Addr, "r:1")

	_, err = configure(func(name string) string {
		return map[string]string{"AUDIENCES": "a", "CALLERS": "c", "REDIS_URL": "redix://:secret@r", "TRUST_PLATFORM": "maybe"}[name]
	})
	assert.ErrorContains(t, err, "REDIS_URL", `TRUST_PLATFORM is "maybe"`)
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error has the password in it: %v", err)
	}
}

// A task that is running at SIGTERM is finished and acknowledged.
func TestShutdownFinishesWhatRuns(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	tasks, mini := emulator.RunT(t), miniredis.RunT(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	url := "http://" + listener.Addr().String()
	cfg, err := configure(func(name string) string {
		return map[string]string{"AUDIENCES": url, "CALLERS": localCaller, "REDIS_URL": "redis://" + mini.Addr()}[name]
	})
	assert.NoError(t, err)
	cfg.keys = handoff.StaticKeys(tasks.JWKS())
	log, lines := logLines(t)
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listener, cfg, log) }()
	await(t, lines, serving)

	token, err := tasks.Token(localCaller, url)
	assert.NoError(t, err)
	status := make(chan int, 1)
	go func() { status <- deliver(t, url, token, Resize{Image: "big.jpg", Width: 4000}) }()
	assert.Eventually(t, 20*time.Second, func() bool { return len(mini.Keys()) > 0 }, "the task's claim")
	stop()
	first := await(t, lines, func(l logLine) bool { return l.Outcome != "" || l.Msg == "handoff: shutting down" })
	assert.Equal(t, first.Msg, "handoff: shutting down")
	assert.Status(t, <-status, http.StatusOK)
	assert.NoError(t, <-ended)
}

// deliver sends a task as Cloud Tasks does.
func deliver(t *testing.T, url, token string, payload Resize) int {
	t.Helper()
	body, err := json.Marshal(payload)
	if err != nil {
		t.Error(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/tasks/resize", strings.NewReader(string(body)))
	if err != nil {
		t.Error(err)
	}
	for name, value := range map[string]string{
		"Authorization":                   "Bearer " + token,
		"Content-Type":                    "application/json",
		"X-CloudTasks-QueueName":          "images",
		"X-CloudTasks-TaskName":           "1",
		"X-CloudTasks-TaskRetryCount":     "0",
		"X-CloudTasks-TaskExecutionCount": "0",
		"X-CloudTasks-TaskETA":            "1700000000.0",
	} {
		req.Header.Set(name, value)
	}
	return send(t, req)
}

func send(t *testing.T, req *http.Request) int {
	t.Helper()
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// collector counts the requests that an OpenTelemetry collector would receive.
type collector struct {
	mu    sync.Mutex
	paths map[string]int
}

func (c *collector) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paths[r.URL.Path]++
}

// The service as Cloud Run runs it: probes, an unauthorized call, telemetry,
// shutdown.
func TestConfigured(t *testing.T) {
	mini := miniredis.RunT(t)
	telemetry := &collector{paths: make(map[string]int)}
	sidecar := httptest.NewServer(telemetry)
	defer sidecar.Close()
	for name, value := range map[string]string{
		"PORT": "0", "AUDIENCES": "https://worker.example.com", "CALLERS": "tasks@p.iam.gserviceaccount.com",
		"REDIS_URL": "redis://" + mini.Addr(), "OTEL_EXPORTER_OTLP_ENDPOINT": sidecar.URL,
		"K_SERVICE": "worker", "TRUST_PLATFORM": "true",
	} {
		t.Setenv(name, value)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log, lines := logLines(t)
	ended := make(chan error, 1)
	go func() { ended <- serveConfigured(ctx, log) }()
	_, port, err := net.SplitHostPort(await(t, lines, serving).Address)
	assert.NoError(t, err)
	url := "http://127.0.0.1:" + port

	get := func(path string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		assert.NoError(t, err)
		return send(t, req)
	}
	assert.Status(t, get("/ready"), http.StatusOK)
	mini.SetError("away")
	assert.Status(t, get("/ready"), http.StatusServiceUnavailable)
	assert.Status(t, get("/alive"), http.StatusOK)
	assert.Status(t, deliver(t, url, "a.stranger's.token", Resize{}), http.StatusUnauthorized)
	stop()
	assert.NoError(t, <-ended)
	telemetry.mu.Lock()
	defer telemetry.mu.Unlock()
	if telemetry.paths["/v1/traces"] == 0 || telemetry.paths["/v1/metrics"] == 0 {
		t.Errorf("the collector got %v", telemetry.paths)
	}
}
