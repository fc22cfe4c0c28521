package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/middleware"
)

func TestConcurrency(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		running []string // kinds of the tasks that run
		kind    string   // of one more
		change  func(*http.Request)
		status  int
	}{
		"nothing runs":         {nil, "refund", nil, 200},
		"room":                 {[]string{"order"}, "order", nil, 200},
		"full":                 {[]string{"order", "order"}, "order", nil, 409},
		"full, by its alias":   {[]string{"purchase", "order"}, "purchase", nil, 409},
		"another kind is full": {[]string{"order", "order"}, "refund", nil, 200},
		"its own limit":        {[]string{"refund"}, "refund", nil, 409},
		"skipped":              {[]string{"order", "order"}, "order", header("X-Vip", "1"), 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				config := middleware.ConcurrencyConfig{
					Limit:   2,
					Kinds:   map[string]int{"refund": 1},
					Skipper: func(c echo.Context) bool { return c.Request().Header.Get("X-Vip") != "" },
				}
				b.router.Use(middleware.ConcurrencyWithConfig(config))
				config.Kinds["refund"] = 100 // too late

				finish := make(chan struct{})
				run := func(ctx context.Context) error {
					if handoff.InfoFromContext(ctx).Task != "one-more" {
						<-finish
					}
					return nil
				}
				handoff.Handle(b.router, func(ctx context.Context, _ order) error { return run(ctx) })
				handoff.Handle(b.router, func(ctx context.Context, _ refund) error { return run(ctx) })

				answers := make(chan int)
				for i, kind := range tc.running {
					go func() { answers <- b.send(b.request(fmt.Sprint("t", i), path("/tasks/"+kind))) }()
				}
				synctest.Wait()
				more := []func(*http.Request){path("/tasks/" + tc.kind)}
				if tc.change != nil {
					more = append(more, tc.change)
				}
				assert.Status(t, b.send(b.request("one-more", more...)), tc.status)
				refused := b.last(t)

				close(finish)
				for range tc.running {
					assert.Status(t, <-answers, 200)
				}
				if tc.status == 409 {
					assert.ErrorIs(t, refused.Err, handoff.ErrBusy)
					assert.Status(t, b.send(b.request("one-more", more...)), 200) // the room is free again
					assert.Equal(t, b.last(t).Info.Attempt, 1)                    // and the refusal did not count
				}
			})
		})
	}
}

// A task that fails or panics leaves its room.
func TestConcurrencyIsGivenBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.router.Use(middleware.Concurrency(1))
	handoff.Handle(b.router, func(_ context.Context, _ order) error { panic("out of stock") })
	handoff.Handle(b.router, func(_ context.Context, _ refund) error { return errors.New("no") })
	for i := range 3 {
		assert.Status(t, b.send(b.request(fmt.Sprint("o", i))), 500)
		assert.Status(t, b.send(b.request(fmt.Sprint("r", i), path("/tasks/refund"))), 500)
	}
}

// On the group there is no claimed task: saying so beats limiting nothing.
func TestLimitsBelongToUse(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]echo.MiddlewareFunc{
		"Concurrency": middleware.Concurrency(1),
		"Timeout":     middleware.Timeout(1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, m)
			var said error
			b.HTTPErrorHandler = func(err error, c echo.Context) {
				said = err
				_ = c.NoContent(http.StatusInternalServerError)
			}
			handoff.Handle(b.router, func(context.Context, order) error { return nil })
			assert.Status(t, b.send(b.request("t")), 500)
			assert.ErrorContains(t, said, "middleware: "+name, "Router.Use")
		})
	}
}

func TestLimitsRefuseBadConfigurations(t *testing.T) {
	t.Parallel()
	_, err := middleware.ConcurrencyConfig{Limit: -1, Kinds: map[string]int{"a": 0, "b": -2}}.ToMiddleware()
	assert.ErrorContains(t, err, "middleware: ConcurrencyConfig.Limit is -1", `Kinds["a"] is 0`, `Kinds["b"] is -2`)
	_, err = middleware.ConcurrencyConfig{}.ToMiddleware()
	assert.ErrorContains(t, err, "middleware: ConcurrencyConfig.Limit and Kinds")
	_, err = middleware.TimeoutConfig{Timeout: -1, Kinds: map[string]time.Duration{"a": 0, "b": -2}}.ToMiddleware()
	assert.ErrorContains(t, err, "middleware: TimeoutConfig.Timeout is -1ns", `Kinds["a"] is 0s`, `Kinds["b"] is -2ns`)
	_, err = middleware.TimeoutConfig{}.ToMiddleware()
	assert.ErrorContains(t, err, "middleware: TimeoutConfig.Timeout and Kinds")

	for name, construct := range map[string]func(){
		"Concurrency": func() { middleware.Concurrency(0) },
		"Timeout":     func() { middleware.Timeout(0) },
	} {
		func() {
			defer func() {
				err, _ := recover().(error)
				assert.ErrorContains(t, err, "middleware: "+name)
			}()
			construct()
		}()
	}
}
