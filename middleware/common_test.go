package middleware_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/internal/wire"
	"github.com/brillconsulting/handoff/memstore"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

// WelcomeEmail is the payload of the examples.
type WelcomeEmail struct {
	UserID string `json:"user_id"`
}

func (WelcomeEmail) Kind() string { return "welcome-email" }

// newRouter returns the router of the examples, which has nobody to fear.
func newRouter() *handoff.Router {
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true,
		Store:                           memstore.New(),
		Logger:                          slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	return router
}

// deliver dispatches a welcome email as Cloud Tasks would, and returns the
// status of the answer.
func deliver(h http.Handler, task string, header ...string) int {
	req := httptest.NewRequest(http.MethodPost, "/tasks/welcome-email", strings.NewReader(`{"user_id":"42"}`))
	req.Header.Set("X-CloudTasks-QueueName", "emails")
	req.Header.Set("X-CloudTasks-TaskName", task)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec.Code
}

// order is the payload of the tests.
type order struct {
	Card string `json:"card"`
}

func (order) Kind() string      { return "order" }
func (order) Aliases() []string { return []string{"purchase"} }

// refund is another one.
type refund struct{}

func (refund) Kind() string { return "refund" }

// bench is an echo with a router that takes only real tokens, and what its
// deliveries came to.
type bench struct {
	*echo.Echo
	router *handoff.Router
	token  string

	mu   sync.Mutex
	seen []handoff.Delivery
}

// newBench mounts a router behind the group middleware. The outermost of all
// notes how each delivery went.
func newBench(t *testing.T, group ...echo.MiddlewareFunc) *bench {
	t.Helper()
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{oidctest.Audience},
		Callers:   []string{oidctest.Email},
		Keys:      handoff.StaticKeys(oidctest.JWKS(oidctest.Shared())),
	})
	assert.NoError(t, err)
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier: verifier,
		Store:    memstore.New(),
		Logger:   slog.New(slog.DiscardHandler),
		MaxBody:  1000,
	})
	assert.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		assert.NoError(t, router.Shutdown(ctx))
	})
	b := &bench{Echo: echo.New(), router: router, token: oidctest.Shared().Good()}
	router.Mount(b.Group("/tasks", append([]echo.MiddlewareFunc{b.note}, group...)...))
	return b
}

func (b *bench) note(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := next(c)
		if d, ok := handoff.DeliveryFrom(c); ok {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.seen = append(b.seen, *d)
		}
		return err
	}
}

// last returns how the last delivery went.
func (b *bench) last(t *testing.T) handoff.Delivery {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.seen) == 0 {
		t.Fatal("nothing was delivered")
	}
	return b.seen[len(b.seen)-1]
}

// card is what no log, attribute or label may ever hold.
const card = "4111-1111-1111-1111"

// request is a dispatch of a good order; change may alter it.
func (b *bench) request(task string, change ...func(*http.Request)) *http.Request {
	req := httptest.NewRequest(http.MethodPost, "/tasks/order", strings.NewReader(`{"card":"`+card+`"}`))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+b.token)
	now := time.Now()
	wire.HTTP.Write(req.Header, wire.Dispatch{Queue: "orders", Task: task, ETA: now.Add(-2 * time.Second)})
	stamp := wire.Stamp{ID: "id-" + task, Enqueued: now.Add(-3 * time.Second), Expires: now.Add(time.Hour), MaxAttempts: 3}
	stamp.Write(req.Header.Set)
	for _, fn := range change {
		fn(req)
	}
	return req
}

func (b *bench) send(req *http.Request) int {
	rec := httptest.NewRecorder()
	b.ServeHTTP(rec, req)
	return rec.Code
}

func path(p string) func(*http.Request) {
	return func(r *http.Request) { r.URL.Path = p }
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func noHeader(name string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Del(name) }
}

// traceparent is the trace that a producer put on a task.
const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanID      = "00f067aa0ba902b7"
	traceparent = "00-" + traceID + "-" + spanID + "-01"
)
