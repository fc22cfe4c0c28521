package handoff_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

// A handler sees the deadline of its context in every way that it can ask for it,
// and the error is context.DeadlineExceeded.
func TestTheDeadlineIsSeen(t *testing.T) {
	t.Parallel()
	waits := map[string]func(ctx context.Context) error{
		"by Done": func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"by Err, when it is over": func(ctx context.Context) error {
			time.Sleep(time.Minute)
			return ctx.Err()
		},
		"by a context made from it": func(ctx context.Context) error {
			child, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			<-child.Done()
			return child.Err()
		},
		"by AfterFunc": func(ctx context.Context) error {
			ended := make(chan error, 1)
			context.AfterFunc(ctx, func() { ended <- context.Cause(ctx) })
			return <-ended
		},
		"by several goroutines": func(ctx context.Context) error {
			var group sync.WaitGroup
			for range 8 {
				group.Go(func() { <-ctx.Done() })
			}
			group.Wait()
			return ctx.Err()
		},
	}
	for name, wait := range waits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, func(c *handoff.RouterConfig) { c.MaxRun = time.Minute })
				handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
					start := time.Now()
					err := wait(ctx)
					assert.ErrorIs(t, err, context.DeadlineExceeded)
					assert.Equal(t, time.Since(start), time.Minute)
					return err
				})
				assert.Status(t, b.send(t, typed("1", "x")), 500)
			})
		})
	}
}

// The request's own deadline applies if it is the earlier one.
func TestTheRequestsOwnDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
		handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
			deadline, ok := ctx.Deadline()
			assert.Equal(t, ok, true)
			assert.Equal(t, time.Until(deadline), time.Second)
			return nil
		})
		d := typed("1", "x")
		var cancel context.CancelFunc
		d.ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.Status(t, b.send(t, d), 200)
	})
}

// The context of a handler ends when the handler has returned, for the goroutines
// that it has left running. Its values can still be read.
func TestAContextOutOfItsRun(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(context.Context){
		"asked before": func(ctx context.Context) { _ = ctx.Err() },
		"not asked":    func(context.Context) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, nil)
			kept := make(chan context.Context, 1)
			handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
				use(ctx)
				kept <- ctx
				return nil
			})
			assert.Status(t, b.send(t, typed("1", "x")), 200)
			ctx := <-kept
			<-ctx.Done()
			assert.ErrorIs(t, ctx.Err(), context.Canceled)
			assert.Equal(t, handoff.InfoFromContext(ctx).ID, "1")
		})
	}
}
