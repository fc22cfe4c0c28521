package handoff_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

// early returns a handler that writes the response and then calls next.
func early(next http.Handler, status int, flush bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeEarly(w, status, flush)
		next.ServeHTTP(w, r)
	})
}

func writeEarly(w http.ResponseWriter, status int, flush bool) {
	c := http.NewResponseController(w)
	if flush {
		_ = c.EnableFullDuplex() // otherwise HTTP/1 closes the body when it sends the header
	}
	w.WriteHeader(status)
	if flush {
		_ = c.Flush()
	}
}

// bare hides all methods of a writer but those of http.ResponseWriter and Unwrap.
type bare struct{ http.ResponseWriter }

func (w bare) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// surroundings are the ways to serve a router, each with code around it that has
// already written a status.
var surroundings = map[string]struct {
	around func(r *handoff.Router, status int, flush bool) http.Handler
	http2  bool
}{
	"net/http": {around: func(r *handoff.Router, status int, flush bool) http.Handler { return early(r, status, flush) }},
	"HTTP/2":   {around: func(r *handoff.Router, status int, flush bool) http.Handler { return early(r, status, flush) }, http2: true},
	"wrapped": {around: func(r *handoff.Router, status int, flush bool) http.Handler {
		return early(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.ServeHTTP(bare{w}, req) }), status, flush)
	}},
	"http.TimeoutHandler": {around: func(r *handoff.Router, status int, _ bool) http.Handler {
		return http.TimeoutHandler(early(r, status, false), time.Minute, "")
	}},
	"echo": {around: func(r *handoff.Router, status int, flush bool) http.Handler {
		e := echo.New()
		g := e.Group("/tasks", func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c echo.Context) error {
				writeEarly(c.Response(), status, flush)
				return next(c)
			}
		})
		r.Mount(g)
		return e
	}},
}

// serving serves h on real connections. The returned function makes one delivery
// and returns its status, or 0 if the connection was aborted.
func serving(t *testing.T, h http.Handler, http2 bool) func(task) int {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.EnableHTTP2 = http2
	if http2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return func(d task) int {
		made := d.request()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+made.URL.Path, strings.NewReader(d.body))
		assert.NoError(t, err)
		req.Header = made.Header
		res, err := server.Client().Transport.RoundTrip(req)
		if err != nil {
			return 0
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}
}

// TestResponseWrittenBefore is the table of docs/guarantees.md for a response that
// was written before the router was called.
func TestResponseWrittenBefore(t *testing.T) {
	t.Parallel()
	for where, s := range surroundings {
		for name, tc := range map[string]struct {
			status  int  // written by the middleware
			flushed bool // it has been sent
			returns error
			kind    string
			store   func() error

			outcome handoff.Outcome
			sent    int // 0 if the connection is aborted
			runs    int32
			buried  bool
		}{
			"2xx, done":                       {status: 200, outcome: handoff.Done, sent: 200, runs: 1},
			"2xx, snoozed, no client, failed": {status: 200, returns: handoff.Snooze(time.Hour), outcome: handoff.Dead, sent: 200, runs: 1, buried: true},
			"2xx, died":                       {status: 202, returns: handoff.Permanent(errBoom), outcome: handoff.Dead, sent: 202, runs: 1, buried: true},
			"2xx, failed":                     {status: 200, returns: errBoom, outcome: handoff.Dead, sent: 200, runs: 1, buried: true},
			"2xx, sent, failed":               {status: 200, flushed: true, returns: errBoom, outcome: handoff.Dead, sent: 200, runs: 1, buried: true},
			"2xx, throttled":                  {status: 204, returns: handoff.RetryAfter(errBoom, time.Second), outcome: handoff.Dead, sent: 204, runs: 1, buried: true},
			"2xx, no room":                    {status: 200, returns: handoff.ErrBusy, outcome: handoff.Dead, sent: 200, runs: 1, buried: true},
			"2xx, no room until later":        {status: 200, returns: handoff.BusyFor(time.Hour), outcome: handoff.Dead, sent: 200, runs: 1, buried: true},
			"2xx, no handler":                 {status: 200, kind: "nobody", outcome: handoff.UnknownKind},
			"2xx, no store":                   {status: 200, store: down, outcome: handoff.Unavailable},
			"401, would be done":              {status: 401, outcome: handoff.Failed, sent: 401},
			"503, would be done":              {status: 503, outcome: handoff.Failed, sent: 503},
			"302, would have died":            {status: 302, returns: handoff.Permanent(errBoom), outcome: handoff.Failed, sent: 302},
		} {
			if tc.flushed && where == "http.TimeoutHandler" {
				continue // it sends nothing early
			}
			t.Run(where+"/"+name, func(t *testing.T) {
				t.Parallel()
				ended := make(chan handoff.Delivery, 1)
				b := newFixture(t, func(c *handoff.RouterConfig) {
					c.Observers = []handoff.Observer{{End: func(_ context.Context, d handoff.Delivery) { ended <- d }}}
				})
				var runs atomic.Int32
				handoff.Handle(b.Router, func(context.Context, note) error { runs.Add(1); return tc.returns })
				b.store.fault("claim", tc.store)
				d := typed("1", "x")
				if tc.kind != "" {
					d.kind = tc.kind
				}
				assert.Status(t, serving(t, s.around(b.Router, tc.status, tc.flushed), s.http2)(d), tc.sent)
				got := <-ended
				assert.Equal(t, got.Outcome, tc.outcome)
				assert.Status(t, got.Status, tc.sent)
				assert.Equal(t, runs.Load(), tc.runs)
				if !tc.buried {
					b.noLetters(t)
					return
				}
				if letter := b.onlyLetter(t); letter.LastErr == "" {
					t.Error("the letter has no error")
				}
			})
		}
	}
}

// A handler writes a 2xx to the ResponseWriter, and then fails.
func TestResponseWrittenByTheHandler(t *testing.T) {
	t.Parallel()
	type writerKey struct{}
	b := newFixture(t, nil)
	handoff.Handle(b.Router, func(ctx context.Context, n note) error {
		_, _ = io.WriteString(ctx.Value(writerKey{}).(http.ResponseWriter), "thank you")
		return errors.New(n.Text)
	})
	send := serving(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), writerKey{}, w)))
	}), false)
	assert.Status(t, send(typed("1", "x")), 200)
	letter := b.onlyLetter(t)
	assert.Equal(t, letter.Reasons, []handoff.Reason{handoff.ReasonResponseSent})
	assert.Equal(t, letter.LastErr, "x")
}

// Without a dead-letter store, a failed task is not lost: the connection is
// aborted, so that the task is retried.
func TestResponseWrittenBeforeWithoutLetters(t *testing.T) {
	t.Parallel()
	b := newFixture(t, func(c *handoff.RouterConfig) { c.DeadLetters = nil })
	handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
		if handoff.InfoFromContext(ctx).Attempt == 1 {
			return errBoom
		}
		return nil
	})
	send := serving(t, early(b.Router, 200, false), false)
	assert.Status(t, send(typed("1", "x")), 0)
	assert.Status(t, send(typed("1", "x")), 200)
}

// http.TimeoutHandler sends a 503 while the handler runs. The handler then
// succeeds, so the retry is a duplicate.
func TestResponseOfATimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // so that the timeout ends while the handler waits, not before
		ended := make(chan handoff.Delivery, 1)
		b := newFixture(t, func(c *handoff.RouterConfig) {
			c.Observers = []handoff.Observer{{End: func(_ context.Context, d handoff.Delivery) { ended <- d }}}
		})
		release := make(chan struct{})
		handoff.Handle(b.Router, func(context.Context, note) error { <-release; return nil })
		rec := httptest.NewRecorder()
		http.TimeoutHandler(b.Router, time.Second, "").ServeHTTP(rec, typed("1", "x").request())
		assert.Status(t, rec.Code, 503)
		close(release)
		d := <-ended
		assert.Equal(t, d.Outcome, handoff.Done)
		assert.Status(t, d.Status, 0) // the router's response was discarded
		assert.Status(t, b.send(t, typed("1", "x")), 208)
	})
}
