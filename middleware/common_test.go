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

// newRouter returns the router of the examples, which does not authenticate
// callers.
func newRouter(observers ...handoff.Observer) *handoff.Router {
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true,
		Store:                           memstore.New(),
		Observers:                       observers,
		Logger:                          slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	return router
}

// deliver dispatches a welcome email as Cloud Tasks would, and returns the
// status of the response.
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

// refund is a second payload.
type refund struct{}

func (refund) Kind() string { return "refund" }

// fixture is a router that accepts only valid tokens, with a record of how its
// deliveries ended.
type fixture struct {
	*handoff.Router
	token string

	mu   sync.Mutex
	seen []handoff.Delivery
}

// setup returns a fixture whose router has these observers, and one more that
// records how each delivery ended.
func setup(t *testing.T, observers ...handoff.Observer) *fixture {
	t.Helper()
	return setupWith(t, slog.New(slog.DiscardHandler), observers...)
}

// setupWith is setup with the router's logger.
func setupWith(t *testing.T, log *slog.Logger, observers ...handoff.Observer) *fixture {
	t.Helper()
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{oidctest.Audience},
		Callers:   []string{oidctest.Email},
		Keys:      handoff.StaticKeys(oidctest.JWKS(oidctest.Shared())),
	})
	assert.NoError(t, err)
	f := &fixture{token: oidctest.Shared().Good()}
	f.Router, err = handoff.NewRouter(handoff.RouterConfig{
		Verifier:  verifier,
		Store:     memstore.New(),
		Observers: append(observers, handoff.Observer{End: f.note}),
		Logger:    log,
		MaxBody:   1000,
	})
	assert.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		assert.NoError(t, f.Shutdown(ctx))
	})
	return f
}

// must returns made, and panics if err is not nil.
func must[T any](made T, err error) T {
	if err != nil {
		panic(err)
	}
	return made
}

func (f *fixture) note(_ context.Context, d handoff.Delivery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, d)
}

// last returns the last delivery.
func (f *fixture) last(t *testing.T) handoff.Delivery {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.seen) == 0 {
		t.Fatal("nothing was delivered")
	}
	return f.seen[len(f.seen)-1]
}

// card is a secret that no log, attribute or label may hold.
const card = "4111-1111-1111-1111"

// request returns a dispatch of a valid order, after applying change.
func (f *fixture) request(task string, change ...func(*http.Request)) *http.Request {
	req := httptest.NewRequest(http.MethodPost, "/tasks/order", strings.NewReader(`{"card":"`+card+`"}`))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+f.token)
	now := time.Now()
	wire.HTTP.Write(req.Header, wire.Dispatch{Queue: "orders", Task: task, ETA: now.Add(-2 * time.Second)})
	stamp := wire.Stamp{ID: "id-" + task, Headers: []string{"Traceparent"}, Enqueued: now.Add(-3 * time.Second), Expires: now.Add(time.Hour), MaxAttempts: 3}
	stamp.Write(req.Header.Set)
	for _, fn := range change {
		fn(req)
	}
	return req
}

func (f *fixture) send(req *http.Request) int {
	rec := httptest.NewRecorder()
	f.ServeHTTP(rec, req)
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

// traceparent is the trace header that a producer set on a task.
const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanID      = "00f067aa0ba902b7"
	traceparent = "00-" + traceID + "-" + spanID + "-01"
)
