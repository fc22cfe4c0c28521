package handoff_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMiddlewareSeesTheTaskAndMayRefuseIt(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	var order []string
	b.Use(
		func(next handoff.Handler) handoff.Handler {
			return func(ctx context.Context) error {
				order = append(order, "outer")
				err := next(ctx)
				order = append(order, "back")
				return err
			}
		},
		func(next handoff.Handler) handoff.Handler {
			return func(ctx context.Context) error {
				order = append(order, handoff.PayloadFromContext(ctx).(note).Text)
				if handoff.InfoFromContext(ctx).RetryCount == 0 {
					return handoff.ErrBusy
				}
				return next(ctx)
			}
		},
	)
	handoff.Handle(b.Router, func(ctx context.Context, n note) error {
		order = append(order, fmt.Sprint("attempt ", handoff.InfoFromContext(ctx).Attempt))
		return nil
	})
	assert.Status(t, b.send(t, typed("1", "x")), 409)
	retry := typed("1", "x")
	retry.retries = 1
	assert.Status(t, b.send(t, retry), 200)
	assert.Equal(t, order, []string{"outer", "x", "back", "outer", "x", "attempt 1", "back"})
}

// What middleware returns decides the outcome. A nil counts as success only if the
// handler was called: otherwise the task would be deleted without having run.
func TestVerdictsOfMiddleware(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		middleware handoff.Middleware
		status     int
		runs       int
		says       string // in the error
	}{
		"it calls next": {func(next handoff.Handler) handoff.Handler { return next }, 200, 1, ""},
		"it calls next twice": {func(next handoff.Handler) handoff.Handler {
			return func(ctx context.Context) error { return errors.Join(next(ctx), next(ctx)) }
		}, 200, 2, ""},
		"it returns nil, unrun": {func(handoff.Handler) handoff.Handler {
			return func(context.Context) error { return nil }
		}, 500, 0, "without calling next"},
		"it drops the task": {func(handoff.Handler) handoff.Handler {
			return func(context.Context) error { return handoff.Drop(nil) }
		}, 204, 0, "dropped"},
		"it buries the task": {func(handoff.Handler) handoff.Handler {
			return func(context.Context) error { return handoff.Permanent(errBoom) }
		}, 205, 0, "boom"},
		"it changes the verdict": {func(next handoff.Handler) handoff.Handler {
			return func(ctx context.Context) error { return errors.Join(next(ctx), errBoom) }
		}, 500, 1, "boom"},
		"it panics": {func(handoff.Handler) handoff.Handler {
			return func(context.Context) error { panic("out of order") }
		}, 500, 0, "out of order"},
		"it passes an unrelated context": {func(next handoff.Handler) handoff.Handler {
			return func(context.Context) error { return next(context.Background()) }
		}, 500, 0, "not derived from its own"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ended handoff.Delivery
			b := newFixture(t, func(c *handoff.RouterConfig) {
				c.Observers = []handoff.Observer{{End: func(_ context.Context, d handoff.Delivery) { ended = d }}}
			})
			runs := 0
			handoff.Handle(b.Router, func(context.Context, note) error { runs++; return nil })
			b.Use(tc.middleware)
			assert.Status(t, b.send(t, typed("1", "x")), tc.status)
			assert.Equal(t, runs, tc.runs)
			if text := fmt.Sprint(ended.Err); !strings.Contains(text, tc.says) {
				t.Errorf("the error is %q, want one with %q", text, tc.says)
			}
		})
	}
}

// If middleware returns before its handler does, the task is settled only when the
// handler has returned, so that no second handler runs at the same time.
func TestMiddlewareThatLeavesItsHandlerRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
		var running atomic.Int32
		handoff.Handle(b.Router, func(context.Context, note) error {
			if running.Add(1) != 1 {
				t.Error("two handlers run")
			}
			time.Sleep(time.Minute)
			running.Add(-1)
			return nil
		})
		late := make(chan func() error, 2)
		b.Use(func(next handoff.Handler) handoff.Handler {
			return func(ctx context.Context) error {
				late <- func() error { return next(ctx) }
				go func() { _ = next(ctx) }()
				time.Sleep(time.Second)
				return errBoom
			}
		})
		start := time.Now()
		assert.Status(t, b.send(t, typed("1", "x")), 500)
		assert.Equal(t, time.Since(start), time.Minute)
		assert.ErrorContains(t, (<-late)(), "after it returned")
		assert.Status(t, b.send(t, typed("1", "x")), 500)
	})
}

func TestUseRefusesNil(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	defer func() { assert.Equal(t, fmt.Sprint(recover()), "handoff: Router.Use: middleware 0 is nil") }()
	b.Use(nil)
}

// Info.Header has the producer's own headers and no others, and is a copy.
func TestInfoHeader(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	d := typed("1", "x")
	d.stamp.Headers = []string{"Authorization", "X-Tenant"}
	d.header = http.Header{"X-Tenant": {"7"}, "X-Gateway": {"8"}, "Authorization": {"Bearer secret"}, "Cookie": {"a=b"}, "X-Forwarded-For": {"10.0.0.1"}}
	req := d.request()
	handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
		h := handoff.InfoFromContext(ctx).Header
		assert.Equal(t, fmt.Sprint(h), "map[Content-Type:[application/json] X-Tenant:[7]]")
		h.Set("X-Tenant", "8")
		h["X-Tenant"][0] = "9"
		return nil
	})
	assert.Status(t, b.serve(req).Code, 200)
	assert.Equal(t, req.Header.Get("X-Tenant"), "7")
}
