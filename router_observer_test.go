package handoff_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
)

type verifiedMark struct{}

// Observers are called in order. Verified is called directly after the caller is
// verified and the headers are parsed, and not at all for unverified callers. The
// handler, the Store and the Delivery then use the context that it returns.
func TestObserverVerified(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*http.Request)
		status int
		calls  string
	}{
		"good":         {func(*http.Request) {}, 200, "[begin begin first emails/task-1 application/json claim ab handler ab end ab end ab]"},
		"unknown kind": {func(r *http.Request) { r.URL.Path = "/tasks/nobody" }, 404, "[begin begin first emails/task-1 application/json end ab end ab]"},
		"no token":     {func(r *http.Request) { r.Header.Del("Authorization") }, 401, "[begin begin end  end ]"},
		"malformed":    {func(r *http.Request) { r.Header.Del("X-CloudTasks-TaskName") }, 400, "[begin begin end  end ]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := []string{}
			mark := func(ctx context.Context) string { s, _ := ctx.Value(verifiedMark{}).(string); return s }
			begin := func(context.Context, *http.Request) { calls = append(calls, "begin") }
			end := func(ctx context.Context, d handoff.Delivery) {
				calls = append(calls, "end "+mark(ctx))
				assert.Equal(t, mark(d.Context()), mark(ctx))
				assert.Status(t, d.Status, tc.status)
			}
			b := newFixture(t, func(c *handoff.RouterConfig) {
				c.DangerouslyAllowUnauthenticated = false
				c.Verifier = newOIDC(t, staticKeys())
				c.Store = claimSpy{c.Store, func(ctx context.Context) { calls = append(calls, "claim "+mark(ctx)) }}
				c.Observers = []handoff.Observer{
					{Begin: begin, End: end, Verified: func(ctx context.Context, info handoff.Info, header http.Header) context.Context {
						calls = append(calls, fmt.Sprintf("first %s/%s %s", info.Queue, info.Task, header.Get("Content-Type")))
						return context.WithValue(ctx, verifiedMark{}, "a")
					}},
					{Begin: begin, End: end, Verified: func(ctx context.Context, _ handoff.Info, _ http.Header) context.Context {
						return context.WithValue(ctx, verifiedMark{}, mark(ctx)+"b")
					}},
					{Verified: func(context.Context, handoff.Info, http.Header) context.Context { return nil }},
				}
			})
			handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
				calls = append(calls, "handler "+mark(ctx))
				return nil
			})
			req := typed("1", "x").request()
			req.Header.Set("Authorization", "Bearer "+oidctest.Shared().Good())
			tc.change(req)
			assert.Status(t, b.serve(req).Code, tc.status)
			assert.Equal(t, fmt.Sprint(calls), tc.calls)
		})
	}
}

type claimSpy struct {
	handoff.Store
	saw func(context.Context)
}

func (s claimSpy) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	s.saw(ctx)
	return s.Store.Claim(ctx, l)
}

// Each Begin has one End, for every way in which a delivery can end.
func TestEachBeginHasOneEnd(t *testing.T) {
	t.Parallel()
	abort := func() { panic(http.ErrAbortHandler) }
	for name, tc := range map[string]struct {
		run      func()                // the handler's
		observer func(context.Context) // called by each function of the second observer
		change   func(*http.Request) *http.Request
		outcome  handoff.Outcome
		status   int // in the observers' Delivery; 0 if nothing was sent
	}{
		"done":                    {outcome: handoff.Done, status: 200},
		"a refusal":               {change: func(r *http.Request) *http.Request { r.Header.Del("X-CloudTasks-QueueName"); return r }, outcome: handoff.Malformed, status: 400},
		"a panic":                 {run: func() { panic("boom") }, outcome: handoff.Failed, status: 500},
		"an abort":                {run: abort, outcome: handoff.Failed},
		"a Goexit":                {run: runtime.Goexit, outcome: handoff.Failed},
		"a caller gone":           {change: gone, outcome: handoff.Unavailable, status: 503},
		"an observer that panics": {observer: func(context.Context) { panic("out of order") }, outcome: handoff.Done, status: 200},
		"an observer that aborts": {observer: func(context.Context) { abort() }, outcome: handoff.Done, status: 200},
		"an observer that leaves": {observer: func(context.Context) { runtime.Goexit() }, outcome: handoff.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := make([]int, 3)
			ended := make([][]handoff.Delivery, 3)
			b := newFixture(t, func(c *handoff.RouterConfig) {
				for i := range begun {
					bad := func(context.Context) {}
					if i == 1 && tc.observer != nil {
						bad = tc.observer
					}
					c.Observers = append(c.Observers, handoff.Observer{
						Begin:    func(ctx context.Context, _ *http.Request) { begun[i]++; bad(ctx) },
						Verified: func(ctx context.Context, _ handoff.Info, _ http.Header) context.Context { bad(ctx); return ctx },
						End:      func(ctx context.Context, d handoff.Delivery) { ended[i] = append(ended[i], d); bad(ctx) },
					})
				}
			})
			handoff.Handle(b.Router, func(context.Context, note) error {
				if tc.run != nil {
					tc.run()
				}
				return nil
			})
			req := typed("1", "x").request()
			if tc.change != nil {
				req = tc.change(req)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				defer func() { _ = recover() }()
				b.ServeHTTP(httptest.NewRecorder(), req)
			})
			wg.Wait()
			for i := range begun {
				assert.Equal(t, len(ended[i]), begun[i])
				for _, d := range ended[i] {
					assert.Equal(t, []any{d.Outcome, d.Status}, []any{tc.outcome, tc.status})
				}
			}
			assert.Equal(t, begun[:2], []int{1, 1})
		})
	}
}

// gone returns r as if its caller had closed the connection.
func gone(r *http.Request) *http.Request {
	ctx, cancel := context.WithCancel(r.Context())
	cancel()
	return r.WithContext(ctx)
}

func TestAPanicOfAnObserverIsLogged(t *testing.T) {
	t.Parallel()
	b := newFixture(t, func(c *handoff.RouterConfig) {
		c.Observers = []handoff.Observer{{End: func(context.Context, handoff.Delivery) { panic("out of order") }}}
	})
	handoff.Handle(b.Router, func(context.Context, note) error { return nil })
	assert.Status(t, b.send(t, typed("1", "x")), 200)
	if log := b.log.String(); !strings.Contains(log, "Observer.End panicked") || !strings.Contains(log, "out of order") {
		t.Errorf("the log does not name it: %s", log)
	}
}

// A kind is known only if it has a handler. Otherwise it is arbitrary text from the
// caller.
func TestObserverEndIsToldTheDelivery(t *testing.T) {
	t.Parallel()
	var got handoff.Delivery
	b := newFixture(t, func(c *handoff.RouterConfig) {
		c.Observers = []handoff.Observer{{End: func(_ context.Context, d handoff.Delivery) { got = d }}}
	})
	handoff.Handle(b.Router, func(context.Context, note) error { return errBoom })
	d := typed("1", "x")
	d.header, d.stamp.Headers = http.Header{"X-Tenant": {"7"}}, []string{"X-Tenant"}
	assert.Status(t, b.send(t, d), 500)
	assert.Equal(t, []any{got.Outcome, got.Status, got.Err, got.Info.Kind, got.Known}, []any{handoff.Failed, 500, errBoom, "note", true})
	assert.Equal(t, got.Info.Header.Get("X-Tenant"), "7")
	if got.Received.After(got.Started) || got.Started.After(got.Ended) || got.Started.IsZero() {
		t.Errorf("times out of order: %v %v %v", got.Received, got.Started, got.Ended)
	}
	unknown := typed("2", "x")
	unknown.kind = "nobody"
	assert.Status(t, b.send(t, unknown), 404)
	assert.Equal(t, []any{got.Outcome, got.Reason, got.Started.IsZero(), got.Known}, []any{handoff.UnknownKind, handoff.Reason("unknown-kind"), true, false})
}

// Shutdown waits until the observers have been called.
func TestShutdownWaitsForObservers(t *testing.T) {
	t.Parallel()
	telling, tell, told := make(chan struct{}), make(chan struct{}), false
	b := newFixture(t, func(c *handoff.RouterConfig) {
		c.Observers = []handoff.Observer{{End: func(context.Context, handoff.Delivery) {
			close(telling)
			<-tell
			told = true
		}}}
	})
	handoff.Handle(b.Router, func(context.Context, note) error { return nil })
	var wg sync.WaitGroup
	wg.Go(func() { b.send(t, typed("1", "x")) })
	<-telling
	time.AfterFunc(10*time.Millisecond, func() { close(tell) })
	assert.NoError(t, b.Shutdown(t.Context()))
	assert.Equal(t, told, true)
	wg.Wait()
}

// A Delivery that was not made by a router, as in a test of an observer, has a
// context too.
func TestDeliveryContext(t *testing.T) {
	t.Parallel()
	assert.NoError(t, new(handoff.Delivery).Context().Err())
}

// Echo's own middleware works around the router.
func TestEchoMiddlewareAroundTheRouter(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	handoff.Handle(b.Router, func(context.Context, note) error { return nil })
	e := echo.New()
	var status int
	b.Mount(e.Group("/tasks", func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			err := next(c)
			status = c.Response().Status
			return err
		}
	}))
	rec := httptest.NewRecorder()
	e.ServeHTTP(rec, typed("1", "x").request())
	assert.Equal(t, []int{rec.Code, status}, []int{200, 200})
}
