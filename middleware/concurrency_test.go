package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/middleware"
)

func TestConcurrency(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		running []string // kinds of the tasks that run
		kind    string   // of the next task
		status  int
	}{
		"nothing runs":         {nil, "refund", 200},
		"room":                 {[]string{"order"}, "order", 200},
		"full":                 {[]string{"order", "order"}, "order", 409},
		"full, by its alias":   {[]string{"purchase", "order"}, "purchase", 409},
		"another kind is full": {[]string{"order", "order"}, "refund", 200},
		"its own limit":        {[]string{"refund"}, "refund", 409},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t)
				config := middleware.ConcurrencyConfig{
					Limit: 2,
					Kinds: map[string]int{"refund": 1},
				}
				b.Use(must(middleware.Concurrency(config)))
				config.Kinds["refund"] = 100 // no effect after construction

				finish := make(chan struct{})
				run := func(ctx context.Context) error {
					if handoff.InfoFromContext(ctx).Task != "one-more" {
						<-finish
					}
					return nil
				}
				handoff.Handle(b.Router, func(ctx context.Context, _ order) error { return run(ctx) })
				handoff.Handle(b.Router, func(ctx context.Context, _ refund) error { return run(ctx) })

				statuses := make(chan int)
				for i, kind := range tc.running {
					go func() { statuses <- b.send(b.request(fmt.Sprint("t", i), path("/tasks/"+kind))) }()
				}
				synctest.Wait()
				more := path("/tasks/" + tc.kind)
				assert.Status(t, b.send(b.request("one-more", more)), tc.status)
				refused := b.last(t)

				close(finish)
				for range tc.running {
					assert.Status(t, <-statuses, 200)
				}
				if tc.status == 409 {
					assert.ErrorIs(t, refused.Err, handoff.ErrBusy)
					assert.Status(t, b.send(b.request("one-more", more)), 200) // a task has ended
					assert.Equal(t, b.last(t).Info.Attempt, 1)                 // the refused attempt did not count
				}
			})
		})
	}
}

// A task of Router.Raw has no payload type, and has the limits of its kind too.
func TestLimitsOfRaw(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Use(must(middleware.Concurrency(middleware.ConcurrencyConfig{Limit: 1})),
		must(middleware.Timeout(middleware.TimeoutConfig{Kinds: map[string]time.Duration{"upload": time.Minute}})))
	var inner int
	b.Raw("upload", func(ctx context.Context, _ *http.Request) error {
		if deadline, _ := ctx.Deadline(); time.Until(deadline) > time.Minute {
			t.Errorf("it may run for %s", time.Until(deadline))
		}
		if handoff.InfoFromContext(ctx).Task == "outer" {
			inner = b.send(b.request("inner", path("/tasks/upload")))
		}
		return nil
	})
	assert.Status(t, b.send(b.request("outer", path("/tasks/upload"))), 200)
	assert.Status(t, inner, 409)
}

// A task that fails or panics no longer counts towards the limit.
func TestConcurrencyIsGivenBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Use(must(middleware.Concurrency(middleware.ConcurrencyConfig{Limit: 1})))
	handoff.Handle(b.Router, func(_ context.Context, _ order) error { panic("out of stock") })
	handoff.Handle(b.Router, func(_ context.Context, _ refund) error { return errors.New("no") })
	for i := range 3 {
		assert.Status(t, b.send(b.request(fmt.Sprint("o", i))), 500)
		assert.Status(t, b.send(b.request(fmt.Sprint("r", i), path("/tasks/refund"))), 500)
	}
}

// Outside of Router.Use there is no claimed task. The middleware returns an error
// instead of applying no limit.
func TestLimitsBelongToUse(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]handoff.Middleware{
		"Concurrency": must(middleware.Concurrency(middleware.ConcurrencyConfig{Limit: 1})),
		"Timeout":     must(middleware.Timeout(middleware.TimeoutConfig{Timeout: 1})),
	} {
		err := m(func(context.Context) error { return nil })(t.Context())
		assert.ErrorContains(t, err, "middleware: "+name, "Router.Use")
	}
}

func TestLimitsRefuseBadConfigurations(t *testing.T) {
	t.Parallel()
	_, err := middleware.Concurrency(middleware.ConcurrencyConfig{Limit: -1, Kinds: map[string]int{"a": 0, "b": -2}})
	assert.ErrorContains(t, err, "middleware: ConcurrencyConfig.Limit is -1", `Kinds["a"] is 0`, `Kinds["b"] is -2`)
	_, err = middleware.Concurrency(middleware.ConcurrencyConfig{})
	assert.ErrorContains(t, err, "middleware: ConcurrencyConfig.Limit and Kinds")
	_, err = middleware.Timeout(middleware.TimeoutConfig{Timeout: -1, Kinds: map[string]time.Duration{"a": 0, "b": -2}})
	assert.ErrorContains(t, err, "middleware: TimeoutConfig.Timeout is -1ns", `Kinds["a"] is 0s`, `Kinds["b"] is -2ns`)
	_, err = middleware.Timeout(middleware.TimeoutConfig{})
	assert.ErrorContains(t, err, "middleware: TimeoutConfig.Timeout and Kinds")
}
