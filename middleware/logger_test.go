package middleware_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/middleware"
)

// journal records the log as text.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

func (j *journal) lines(t *testing.T) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(j.String()) {
		fields := make(map[string]any)
		assert.NoError(t, json.Unmarshal([]byte(line), &fields))
		lines = append(lines, fields)
	}
	return lines
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newLogged(t *testing.T, change func(*middleware.LoggerConfig)) (*fixture, *journal) {
	t.Helper()
	j := new(journal)
	config := middleware.LoggerConfig{Logger: j.logger()}
	if change != nil {
		change(&config)
	}
	b := setupWith(t, config.Logger, must(middleware.Logger(config)))
	j.buf.Reset() // of NewRouter
	return b, j
}

func TestLoggerLines(t *testing.T) {
	t.Parallel()
	known := func(attempt int) map[string]any {
		return map[string]any{"kind": "order", "queue": "orders", "task": "t", "attempt": float64(attempt)}
	}
	for name, tc := range map[string]struct {
		err     error // of the handler
		change  []func(*http.Request)
		level   string
		outcome string
		status  int
		reason  string
		text    string         // in error
		task    map[string]any // nil: the line must not describe the task
		noLag   bool
	}{
		"done":      {level: "INFO", outcome: "done", status: 200, task: known(1)},
		"dropped":   {err: handoff.Drop(nil), level: "INFO", outcome: "dropped", status: 204, task: known(1), text: "dropped"},
		"failed":    {err: errors.New("no stock"), level: "WARN", outcome: "failed", status: 500, task: known(1), text: "no stock"},
		"throttled": {err: handoff.RetryAfter(errors.New("slow down"), time.Second), level: "WARN", outcome: "throttled", status: 503, task: known(1), text: "slow down"},
		"busy":      {err: handoff.ErrBusy, level: "WARN", outcome: "busy", status: 409, task: known(1), text: "busy"},
		"dead":      {err: handoff.Permanent(errors.New("no such card")), level: "ERROR", outcome: "dead", status: 205, reason: "permanent", task: known(1), text: "no such card"},
		"undecodable": {
			change: []func(*http.Request){func(r *http.Request) { r.Body = http.NoBody }}, level: "ERROR", outcome: "failed", status: 500,
			reason: "undecodable", task: known(0), text: "not a middleware_test.order",
		},
		"without a schedule": {change: []func(*http.Request){noHeader("X-CloudTasks-TaskETA")}, level: "INFO", outcome: "done", status: 200, task: known(1), noLag: true},
		"unknown kind": {
			change: []func(*http.Request){path("/tasks/" + strings.Repeat("x", 1000))}, level: "WARN", outcome: "unknown-kind", status: 404, reason: "unknown-kind",
			task: map[string]any{"kind": strings.Repeat("x", 64), "queue": "orders", "task": "t", "attempt": 0.0}, text: "no handler",
		},
		"too large": {
			change: []func(*http.Request){func(r *http.Request) { r.ContentLength = 1 << 20 }}, level: "WARN", outcome: "too-large", status: 413, reason: "too-large",
			task: known(0), text: "MaxBody",
		},
		"no token": {change: []func(*http.Request){noHeader("Authorization")}, level: "WARN", outcome: "unauthenticated", status: 401, reason: "no-token", text: "unauthenticated", noLag: true},
		"stranger": {
			change: []func(*http.Request){header("Authorization", "Bearer "+oidctest.Shared().Token(oidctest.Claims(map[string]any{"email": "eve@example.com"})))},
			level:  "WARN", outcome: "forbidden", status: 403, reason: "caller", text: "forbidden", noLag: true,
		},
		"malformed": {change: []func(*http.Request){noHeader("X-CloudTasks-TaskName")}, level: "WARN", outcome: "malformed", status: 400, reason: "malformed", text: "X-Cloudtasks-Taskname is missing", noLag: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, j := newLogged(t, nil)
			handoff.Handle(b.Router, func(context.Context, order) error { return tc.err })
			assert.Status(t, b.send(b.request("t", tc.change...)), tc.status)

			lines := j.lines(t)
			assert.Equal(t, len(lines), 1)
			line := lines[0]
			assert.Equal(t, line["msg"], any("handoff: delivery"))
			assert.Equal(t, line["level"], any(tc.level))
			assert.Equal(t, line["outcome"], any(tc.outcome))
			assert.Equal(t, line["status"], any(float64(tc.status)))
			if text, _ := line["error"].(string); !strings.Contains(text, tc.text) || (text == "") != (tc.text == "") {
				t.Errorf("error is %q, want %q in it", text, tc.text)
			}
			if reason, _ := line["reason"].(string); reason != tc.reason {
				t.Errorf("reason is %q, want %q", reason, tc.reason)
			}
			for _, key := range []string{"kind", "queue", "task", "attempt"} {
				if line[key] != tc.task[key] {
					t.Errorf("%s is %v, want %v", key, line[key], tc.task[key])
				}
			}
			if seconds := line["duration_seconds"].(float64); seconds <= 0 || seconds > 60 {
				t.Errorf("duration_seconds is %v", seconds)
			}
			if lag, ok := line["lag_seconds"].(float64); ok == tc.noLag || ok && (lag < 2 || lag > 60) {
				t.Errorf("lag_seconds is %v", line["lag_seconds"])
			}
		})
	}
}

// The line of work in steps names the step.
func TestLoggerNamesTheStep(t *testing.T) {
	t.Parallel()
	b, j := newLogged(t, nil)
	handoff.Handle(b.Router, func(ctx context.Context, _ order) error {
		held, _ := handoff.HeldFromContext(ctx)
		held.Step("rows")
		return nil
	})
	assert.Status(t, b.send(b.request("t")), 200)
	assert.Equal(t, j.lines(t)[0]["step"], any("rows"))
}

func TestLoggerSuppressesRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, j := newLogged(t, nil)
		handoff.Handle(b.Router, func(context.Context, order) error { return nil })
		anonymous, elsewhere := noHeader("Authorization"), path("/tasks/gone")
		for range 5 {
			assert.Status(t, b.send(b.request("t", anonymous)), 401)
			assert.Status(t, b.send(b.request("t", elsewhere)), 404)
		}
		assert.Equal(t, len(j.lines(t)), 2) // one per reason
		for i := range 3 {
			assert.Status(t, b.send(b.request("t"+string(rune('a'+i)))), 200)
		}
		assert.Equal(t, len(j.lines(t)), 5) // deliveries that ran are never suppressed

		time.Sleep(time.Second)
		assert.Status(t, b.send(b.request("t", anonymous)), 401)
		lines := j.lines(t)
		assert.Equal(t, lines[0]["suppressed"], nil)
		assert.Equal(t, lines[5]["suppressed"], any(4.0))

		time.Sleep(time.Second)
		assert.Status(t, b.send(b.request("t", anonymous)), 401)
		assert.Equal(t, j.lines(t)[6]["suppressed"], nil) // counted once
	})
}

// A router that is shutting down refuses requests before it verifies them.
func TestLoggerSuppressesWhileDraining(t *testing.T) {
	t.Parallel()
	b, j := newLogged(t, nil)
	assert.NoError(t, b.Shutdown(t.Context()))
	for range 3 {
		assert.Status(t, b.send(b.request("t", noHeader("Authorization"))), 500)
	}
	lines := j.lines(t)
	assert.Equal(t, len(lines), 1)
	assert.Equal(t, lines[0]["outcome"], any("interrupted"))
	assert.Equal(t, lines[0]["task"], nil)
}

func TestLoggerCloudKeys(t *testing.T) {
	t.Parallel()
	inSpan := handoff.Observer{Verified: func(ctx context.Context, _ handoff.Info, _ http.Header) context.Context { // as Tracing does
		return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}))
	}}
	for name, tc := range map[string]struct {
		inner    []handoff.Observer
		change   func(*http.Request)
		severity string
		trace    any
		span     any
		sampled  any
	}{
		"of the header":        {nil, header("Traceparent", traceparent), "INFO", "projects/shop-prod/traces/" + traceID, spanID, true},
		"of the span":          {[]handoff.Observer{inSpan}, header("Traceparent", traceparent), "INFO", "projects/shop-prod/traces/01000000000000000000000000000000", "0200000000000000", false},
		"none":                 {nil, func(*http.Request) {}, "INFO", nil, nil, nil},
		"garbage":              {nil, header("Traceparent", "00-zz-zz-01"), "INFO", nil, nil, nil},
		"of a stranger's":      {nil, func(r *http.Request) { r.Header.Set("Traceparent", traceparent); r.Header.Del("Authorization") }, "WARNING", nil, nil, nil},
		"of a payload to bury": {nil, header("Handoff-Expires", "1"), "ERROR", nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := new(journal)
			logger := must(middleware.Logger(middleware.LoggerConfig{Logger: j.logger(), CloudProject: "shop-prod"}))
			b := setup(t, append([]handoff.Observer{logger}, tc.inner...)...)
			handoff.Handle(b.Router, func(context.Context, order) error { return nil })
			b.send(b.request("t", tc.change))
			line := j.lines(t)[0]
			assert.Equal(t, line["severity"], any(tc.severity))
			assert.Equal(t, line["logging.googleapis.com/trace"], tc.trace)
			assert.Equal(t, line["logging.googleapis.com/spanId"], tc.span)
			assert.Equal(t, line["logging.googleapis.com/trace_sampled"], tc.sampled)
		})
	}
}

func TestLoggerWithoutCloudKeys(t *testing.T) {
	t.Parallel()
	b, j := newLogged(t, nil)
	handoff.Handle(b.Router, func(context.Context, order) error { return nil })
	b.send(b.request("t", header("Traceparent", traceparent)))
	if s := j.String(); strings.Contains(s, "severity") || strings.Contains(s, "googleapis") {
		t.Errorf("unasked: %s", s)
	}
	assert.Equal(t, j.lines(t)[0]["trace_id"], any(traceID))
}

func TestLoggerKeepsSecrets(t *testing.T) {
	t.Parallel()
	b, j := newLogged(t, func(c *middleware.LoggerConfig) { c.CloudProject = "shop-prod" })
	handoff.Handle(b.Router, func(context.Context, order) error { return errors.New("no stock") })
	sendSecrets(b)
	if len(j.lines(t)) < 5 {
		t.Fatalf("too little was logged to tell: %s", j)
	}
	noSecrets(t, b, j.String())
}

// sendSecrets makes deliveries of every kind of outcome. Each has a token and a
// payload that must not be logged.
func sendSecrets(b *fixture) {
	for _, change := range []func(*http.Request){
		header("X-Test", "1"),
		path("/tasks/unknown"),
		noHeader("X-CloudTasks-TaskName"),
		header("X-CloudTasks-QueueName", card+"!"),
		header("X-CloudTasks-TaskRetryCount", card),
		header("Authorization", "Bearer "+b.token[:len(b.token)-1]),
		header("Authorization", "Bearer "+b.token+"."+card),
		header("Authorization", "Basic "+card),
		header("Content-Encoding", card),
		header("Handoff-Expires", "1"),
		header("Handoff-Id", card+"!"),
		func(r *http.Request) { r.ContentLength = 1 << 20 },
	} {
		b.send(b.request("t", change))
	}
	broken := b.request("t")
	broken.Body = http.NoBody
	b.send(broken)
	wrong := b.request("t2")
	wrong.Body = readCloser{strings.NewReader(`{"card":["` + card + `"]}`)}
	wrong.ContentLength = -1
	b.send(wrong)
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func noSecrets(t *testing.T, b *fixture, text string) {
	t.Helper()
	signature := b.token[strings.LastIndexByte(b.token, '.')+1:]
	for name, secret := range map[string]string{"payload": card, "token": b.token[:40], "signature": signature[:40]} {
		if strings.Contains(text, secret) {
			t.Errorf("the %s was written: %s", name, text)
		}
	}
}

// A delivery whose handler panics with http.ErrAbortHandler is logged.
func TestLoggerAborted(t *testing.T) {
	t.Parallel()
	b, j := newLogged(t, nil)
	handoff.Handle(b.Router, func(context.Context, order) error { panic(http.ErrAbortHandler) })
	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler {
				t.Errorf("recovered %v", p)
			}
		}()
		b.send(b.request("t"))
	}()
	lines := j.lines(t)
	assert.Equal(t, len(lines), 1)
	assert.Equal(t, lines[0]["outcome"], any("failed"))
	assert.Equal(t, lines[0]["task"], any("t"))
	assert.Equal(t, lines[0]["status"], any(0.0)) // no response was sent
}

func TestLoggerRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	for _, project := range []string{"projects/shop", "Shop-prod", "shop prod", "x", "1234567890"} {
		_, err := middleware.Logger(middleware.LoggerConfig{CloudProject: project})
		assert.ErrorContains(t, err, "middleware: LoggerConfig.CloudProject is", project)
	}
	for _, project := range []string{"", "shop-prod", "example.com:shop-prod"} {
		_, err := middleware.Logger(middleware.LoggerConfig{CloudProject: project})
		assert.NoError(t, err)
	}
}
