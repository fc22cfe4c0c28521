package handoff_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/middleware"
)

const logTrace = "4bf92f3577b34da6a3ce929d0e0e4736"

// traced is like typed, with a trace header.
func traced(id, text string) task {
	d := typed(id, text)
	d.stamp.Headers = []string{"Traceparent"}
	d.header = http.Header{"Traceparent": {"00-" + logTrace + "-00f067aa0ba902b7-01"}}
	return d
}

// flakyLetters fails its first Put if fails is set.
type flakyLetters struct {
	*memstore.DeadLetters
	fails bool
}

func (l *flakyLetters) Put(ctx context.Context, letter handoff.DeadLetter) error {
	if l.fails {
		l.fails = false
		return errors.New("disk full")
	}
	return l.DeadLetters.Put(ctx, letter)
}

// The end of a delivery is logged in one line, by the router or by
// middleware.Logger. What that line does not say, the router logs in another. All
// lines have the trace.
func TestAnEndIsOneLine(t *testing.T) {
	t.Parallel()
	lost := func() error { return handoff.ErrLeaseLost }
	sameWork := func(id string) task {
		d := traced(id, "x")
		d.stamp.Key = "same"
		return d
	}
	expired := traced("1", "x")
	expired.stamp.Expires, expired.body = time.Unix(1, 0), "{"
	nobody := traced("1", "x")
	nobody.kind = "nobody"
	for name, tc := range map[string]struct {
		err    error // of the handler
		fault  string
		fails  func() error
		puts   bool // a Put fails
		tasks  []task
		alone  []string // messages of the router without Logger
		beside []string // with Logger
		says   string   // in each
	}{
		"done":           {},
		"failed":         {err: errBoom, alone: []string{"attempt failed"}, says: "boom"},
		"throttled":      {err: handoff.RetryAfter(errBoom, time.Second), alone: []string{"attempt failed"}, says: "boom"},
		"dead":           {err: handoff.Permanent(errBoom), alone: []string{"task died"}, says: "permanent"},
		"two reasons":    {tasks: []task{expired}, alone: []string{"task died"}, says: "undecodable"},
		"refused":        {tasks: []task{nobody}, alone: []string{"delivery refused"}, says: "unknown-kind"},
		"no claim":       {fault: "claim", fails: down, alone: []string{"delivery refused"}, says: "connection refused"},
		"lost":           {fault: "complete", fails: lost, alone: []string{"lease lost"}, says: "lease lost"},
		"lost, failed":   {err: errBoom, fault: "release", fails: lost, alone: []string{"lease lost"}, says: "boom"},
		"no letter":      {err: handoff.Permanent(errBoom), puts: true, alone: []string{"delivery not settled"}, says: "disk full"},
		"no note":        {err: handoff.Permanent(errBoom), fault: "end", fails: down, alone: []string{"delivery not settled"}, says: "burial could not be noted"},
		"not released":   {err: errBoom, fault: "release", fails: down, alone: []string{"claim could not be released", "attempt failed"}, beside: []string{"claim could not be released"}},
		"not marked":     {fault: "complete", fails: down, alone: []string{"done, but the Store could not be told"}, beside: []string{"done, but the Store could not be told"}},
		"dead, and lost": {err: handoff.Permanent(errBoom), fault: "complete", fails: lost, alone: []string{"task died", "lease lost"}, beside: []string{"task died"}},
		"buried by another": {
			err: handoff.Permanent(errBoom), puts: true, tasks: []task{sameWork("1"), sameWork("2")},
			alone: []string{"delivery not settled", "task died"}, beside: []string{"task died"},
		},
	} {
		for _, with := range []bool{false, true} {
			t.Run(name+map[bool]string{false: ", alone", true: ", with Logger"}[with], func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					log := new(syncBuffer)
					b := newFixture(t, func(c *handoff.RouterConfig) {
						c.Project = "shop"
						c.DeadLetters = &flakyLetters{memstore.NewDeadLetters(), tc.puts}
						c.Logger = slog.New(slog.NewJSONHandler(log, nil))
						if logger, err := middleware.Logger(middleware.LoggerConfig{Logger: c.Logger}); with {
							assert.NoError(t, err)
							c.Observers = []handoff.Observer{logger}
						}
					})
					handoff.Handle(b.Router, func(context.Context, note) error { return tc.err })
					b.store.fault(tc.fault, tc.fails)
					tasks := tc.tasks
					if tasks == nil {
						tasks = []task{traced("1", "x")}
					}
					for _, d := range tasks {
						b.send(t, d)
					}
					want, ofLogger := tc.alone, 0
					if with {
						want, ofLogger = tc.beside, len(tasks)
					}
					checkLines(t, log.String(), want, ofLogger, tc.says)
				})
			})
		}
	}
}

// checkLines checks that log has these messages of the router in this order, and
// ofLogger lines of Logger.
func checkLines(t *testing.T, log string, want []string, ofLogger int, says string) {
	t.Helper()
	var messages []string
	for line := range strings.Lines(log) {
		var fields struct {
			Message string `json:"msg"`
			Trace   string `json:"trace_id"`
		}
		assert.NoError(t, json.Unmarshal([]byte(line), &fields))
		if fields.Trace != logTrace {
			t.Errorf("no trace in %s", line)
		}
		if fields.Message == "handoff: delivery" {
			ofLogger--
			continue
		}
		messages = append(messages, fields.Message)
	}
	ok := len(messages) == len(want) && ofLogger == 0
	for i := range min(len(messages), len(want)) {
		ok = ok && strings.HasPrefix(messages[i], "handoff: "+want[i])
	}
	if !ok || !strings.Contains(log, says) {
		t.Errorf("the log is\n%swant %q of the router, %d more lines of Logger, and %q", log, want, ofLogger, says)
	}
}

// The router logs with the context that observers returned, and so with their span,
// and names its trace.
func TestLinesHaveTheContextOfTheDelivery(t *testing.T) {
	t.Parallel()
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	lines := new(spanLog)
	b := newFixture(t, func(c *handoff.RouterConfig) {
		c.Project, c.Logger = "shop", slog.New(lines)
		c.Observers = []handoff.Observer{{Verified: func(ctx context.Context, _ handoff.Info, _ http.Header) context.Context {
			return trace.ContextWithSpanContext(ctx, span)
		}}}
	})
	handoff.Handle(b.Router, func(context.Context, note) error { panic("boom") })
	b.send(t, traced("1", "x"))
	id := span.TraceID().String()
	assert.Equal(t, lines.seen, []string{id, id, id, id}) // the panic and the failed attempt: context and attribute
}

// spanLog is a slog.Handler that records the trace of each line's context, and of its
// attributes.
type spanLog struct {
	slog.Handler
	seen []string
}

func (l *spanLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *spanLog) Handle(ctx context.Context, line slog.Record) error {
	l.seen = append(l.seen, trace.SpanContextFromContext(ctx).TraceID().String())
	line.Attrs(func(a slog.Attr) bool {
		if a.Key == "trace_id" {
			l.seen = append(l.seen, a.Value.String())
		}
		return true
	})
	return nil
}

// NewRouter refuses an Observer without any function.
func TestEmptyObservers(t *testing.T) {
	t.Parallel()
	config := handoff.RouterConfig{DangerouslyAllowUnauthenticated: true, Store: memstore.New(), Observers: []handoff.Observer{
		{}, {End: func(context.Context, handoff.Delivery) {}}, {Logs: true, Begin: func(context.Context, *http.Request) {}},
	}}
	_, err := handoff.NewRouter(config)
	assert.ErrorContains(t, err, "RouterConfig.Observers[0] has no function", "RouterConfig.Observers[2] has Logs set and no End")
	assert.Equal(t, strings.Contains(err.Error(), "Observers[1]"), false)
}

// A line shows no more of the path of a request than a kind can be long.
func TestLinesCutTheKind(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	d := typed("1", "x")
	d.kind, d.stamp.Expires = strings.Repeat("k", 100_000), time.Now().Add(-time.Second)
	assert.Equal(t, b.send(t, d), http.StatusResetContent)
	log := b.log.String()
	if len(log) > 1000 || !strings.Contains(log, "kind="+strings.Repeat("k", 64)+" ") {
		t.Errorf("the log has %d bytes: %.300s", len(log), log)
	}
}
