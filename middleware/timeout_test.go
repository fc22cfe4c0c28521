package middleware_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/middleware"
)

func TestTimeout(t *testing.T) {
	t.Parallel()
	const over = "middleware: the handler took longer than"
	// wait returns err after d, or when its context ends. A nil err then stands for
	// the error of the context.
	wait := func(d time.Duration, err error) func(context.Context) error {
		return func(ctx context.Context) error {
			select {
			case <-time.After(d):
				return err
			case <-ctx.Done():
				if err != nil {
					return err
				}
				return ctx.Err()
			}
		}
	}
	for name, tc := range map[string]struct {
		kind   string
		run    func(context.Context) error
		status int
		took   time.Duration
		says   []string
		not    string
	}{
		"in time":                  {kind: "order", run: wait(time.Second, nil), status: 200, took: time.Second},
		"fails in time":            {kind: "order", run: wait(time.Second, errors.New("no stock")), status: 500, took: time.Second, says: []string{"no stock"}, not: over},
		"too long":                 {kind: "order", run: wait(time.Hour, nil), status: 500, took: 10 * time.Second, says: []string{over + " 10s", "deadline exceeded"}},
		"too long, an alias":       {kind: "purchase", run: wait(time.Hour, nil), status: 500, took: 10 * time.Second, says: []string{over + " 10s"}},
		"too long for its kind":    {kind: "refund", run: wait(time.Hour, nil), status: 500, took: time.Minute, says: []string{over + " 1m0s"}},
		"its intent is kept":       {kind: "order", run: wait(time.Hour, handoff.Permanent(errors.New("no card"))), status: 205, took: 10 * time.Second, says: []string{over, "no card"}},
		"done in spite of it":      {kind: "order", run: func(context.Context) error { time.Sleep(time.Minute); return nil }, status: 200, took: time.Minute},
		"the cause is the timeout": {kind: "order", run: func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }, status: 500, took: 10 * time.Second, says: []string{over + " 10s"}},
		"not its own timeout":      {kind: "order", run: func(context.Context) error { return context.DeadlineExceeded }, status: 500, says: []string{"deadline exceeded"}, not: over},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t)
				b.Use(must(middleware.Timeout(middleware.TimeoutConfig{
					Timeout: 10 * time.Second,
					Kinds:   map[string]time.Duration{"refund": time.Minute},
				})))
				handoff.Handle(b.Router, func(ctx context.Context, _ order) error { return tc.run(ctx) })
				handoff.Handle(b.Router, func(ctx context.Context, _ refund) error { return tc.run(ctx) })
				start := time.Now()
				assert.Status(t, b.send(b.request("t", path("/tasks/"+tc.kind))), tc.status)
				assert.Equal(t, time.Since(start), tc.took)
				d := b.last(t)
				if len(tc.says) == 0 {
					assert.NoError(t, d.Err)
					return
				}
				assert.ErrorContains(t, d.Err, tc.says...)
				if tc.not != "" && strings.Contains(d.Err.Error(), tc.not) {
					t.Errorf("the error must not contain %q: %v", tc.not, d.Err)
				}
			})
		})
	}
}
