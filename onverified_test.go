package handoff_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
)

type verifiedMark struct{}

// What middleware registers is called in order, after the caller is verified
// and the headers are read and before anything else, and not at all for
// strangers; the context it returns is the handler's, the Store's and the
// Delivery's from then on.
func TestOnVerified(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*http.Request)
		status int
		calls  string
	}{
		"good":         {func(*http.Request) {}, 200, "[first emails/task-1 claim ab handler ab]"},
		"unknown kind": {func(r *http.Request) { r.URL.Path = "/tasks/nobody" }, 404, "[first emails/task-1]"},
		"no token":     {func(r *http.Request) { r.Header.Del("Authorization") }, 401, "[]"},
		"malformed":    {func(r *http.Request) { r.Header.Del("X-CloudTasks-TaskName") }, 400, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := []string{}
			mark := func(ctx context.Context) string { s, _ := ctx.Value(verifiedMark{}).(string); return s }
			b := newBench(t, func(c *handoff.RouterConfig) {
				c.DangerouslyAllowUnauthenticated = false
				c.Verifier = newOIDC(t, staticKeys())
				c.Store = claimSpy{c.Store, func(ctx context.Context) { calls = append(calls, "claim "+mark(ctx)) }}
			})
			handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
				calls = append(calls, "handler "+mark(ctx))
				return nil
			})
			e := echo.New()
			var after string
			b.Mount(e.Group("/tasks", func(next echo.HandlerFunc) echo.HandlerFunc {
				return func(c echo.Context) error {
					handoff.OnVerified(c, func(ctx context.Context, info handoff.Info) context.Context {
						calls = append(calls, fmt.Sprintf("first %s/%s", info.Queue, info.Task))
						return context.WithValue(ctx, verifiedMark{}, "a")
					})
					handoff.OnVerified(c, func(ctx context.Context, _ handoff.Info) context.Context {
						return context.WithValue(ctx, verifiedMark{}, mark(ctx)+"b")
					})
					err := next(c)
					d, _ := handoff.DeliveryFrom(c)
					after = mark(d.Context())
					return err
				}
			}))
			req := typed("1", "x").request()
			req.Header.Set("Authorization", "Bearer "+oidctest.Shared().Good())
			tc.change(req)
			rec := httptest.NewRecorder()
			e.ServeHTTP(rec, req)
			assert.Status(t, rec.Code, tc.status)
			assert.Equal(t, fmt.Sprint(calls), tc.calls)
			assert.Equal(t, after == "ab", tc.calls != "[]")
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

// A kind is known if there is a handler for it: else it is text that anybody
// may have made up.
func TestDeliveryKnown(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	handoff.Handle(b.Router, func(context.Context, note) error { return nil })
	var got *handoff.Delivery
	e := echo.New()
	b.Mount(e.Group("/tasks", func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			err := next(c)
			got, _ = handoff.DeliveryFrom(c)
			return err
		}
	}))
	for kind, known := range map[string]bool{"note": true, "nobody": false} {
		d := typed(kind, "x")
		d.kind = kind
		e.ServeHTTP(httptest.NewRecorder(), d.request())
		assert.Equal(t, []any{got.Info.Kind, got.Known}, []any{kind, known})
	}
}

// A request that comes to no router is no delivery, whoever waited for one.
func TestDeliveryFromWithoutADelivery(t *testing.T) {
	t.Parallel()
	e := echo.New()
	e.GET("/", func(c echo.Context) error { return c.NoContent(http.StatusNoContent) }, func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			handoff.OnVerified(c, func(ctx context.Context, _ handoff.Info) context.Context { return ctx })
			err := next(c)
			_, ok := handoff.DeliveryFrom(c)
			assert.Equal(t, ok, false)
			return err
		}
	})
	rec := httptest.NewRecorder()
	e.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
	assert.Status(t, rec.Code, http.StatusNoContent)
}

// What runs in Use has the request under its own context, which is over when
// the delivery is; the request outside keeps the one it came with.
func TestRequestOutsideUse(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	handoff.Handle(b.Router, func(context.Context, note) error { return nil })
	var inside error
	b.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			defer func() { inside = c.Request().Context().Err() }()
			return next(c)
		}
	})
	e := echo.New()
	b.Mount(e.Group("/tasks", func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			before := c.Request()
			err := next(c)
			assert.Equal(t, c.Request() == before, true)
			assert.NoError(t, c.Request().Context().Err())
			return err
		}
	}))
	e.ServeHTTP(httptest.NewRecorder(), typed("1", "x").request())
	assert.NoError(t, inside)
}

// A Delivery that no router made, as in a test of somebody's middleware, has a
// context as well.
func TestDeliveryContext(t *testing.T) {
	t.Parallel()
	assert.NoError(t, new(handoff.Delivery).Context().Err())
}

// Middleware may call next again: that is a delivery of its own.
func TestDeliveriesOfOneRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	handoff.Handle(b.Router, func(context.Context, note) error { return nil })
	e := echo.New()
	var got []*handoff.Delivery
	b.Mount(e.Group("/tasks", func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			for range 2 {
				assert.NoError(t, next(c))
				d, _ := handoff.DeliveryFrom(c)
				got = append(got, d)
			}
			return nil
		}
	}))
	e.ServeHTTP(httptest.NewRecorder(), foreign("1", "x").request())
	assert.Equal(t, []any{got[0].Started.IsZero(), got[1].Started.IsZero()}, []any{false, true})
}
