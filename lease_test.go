package handoff_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
)

func TestALongHandlerKeepsItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		handoff.Handle(b.Router, func(context.Context, note) error {
			time.Sleep(8 * time.Minute) // virtual: sixteen leases
			return nil
		})
		first := make(chan int)
		go func() { first <- b.send(t, typed("1", "x")) }()
		for range 7 {
			time.Sleep(time.Minute)
			assert.Status(t, b.send(t, typed("1", "x")), 409)
		}
		assert.Status(t, <-first, 200)
	})
}

// TestRenewalsAreShared: one Store call a tick for all that runs.
func TestRenewalsAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		handoff.Handle(b.Router, func(context.Context, note) error {
			time.Sleep(time.Minute)
			return nil
		})
		statuses := make(chan int)
		for i := range 100 {
			go func() { statuses <- b.send(t, typed(string(rune('a'+i%26))+string(rune('a'+i/26)), "x")) }()
		}
		for range 100 {
			assert.Status(t, <-statuses, 200)
		}
		if calls := b.store.count("renew"); calls < 3 || calls > 12 {
			t.Errorf("%d calls of Renew for a minute of 100 handlers, want one a tick", calls)
		}
	})
}

func TestNothingIsRenewedWhileNothingRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		handoff.Handle(b.Router, func(context.Context, note) error { return nil })
		assert.Status(t, b.send(t, typed("1", "x")), 200)
		time.Sleep(24 * time.Hour)
		assert.Equal(t, b.store.count("renew"), 0)
		assert.Status(t, b.send(t, typed("2", "x")), 200) // and the keeper wakes again
	})
}

// TestALeaseIsGivenUpWithoutTheStore: cut off from it, the handler is told
// before the Store could give the work to somebody else.
func TestALeaseIsGivenUpWithoutTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
			start := time.Now()
			<-ctx.Done()
			assert.ErrorIs(t, context.Cause(ctx), handoff.ErrLeaseLost)
			if held := time.Since(start); held < 20*time.Second || held >= 30*time.Second {
				t.Errorf("the lease of 30 s was given up after %s", held)
			}
			return ctx.Err()
		})
		b.store.fault("renew", down)
		assert.Status(t, b.send(t, typed("1", "x")), 409)
	})
}

func TestALeaseTakenByAnotherIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		taken := false
		b.store.fault("renew", nil)
		stealing := &stealingStore{Store: b.store.Store, stolen: &taken}
		b.store.Store = stealing
		handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
			<-ctx.Done()
			assert.ErrorIs(t, context.Cause(ctx), handoff.ErrLeaseLost)
			return nil // whatever the handler returns
		})
		assert.Status(t, b.send(t, typed("1", "x")), 409)
		assert.Equal(t, taken, true)
	})
}

// stealingStore tells every renewal that the lease is somebody else's.
type stealingStore struct {
	handoff.Store
	stolen *bool
}

func (s *stealingStore) Renew(_ context.Context, leases []handoff.Lease) ([]bool, error) {
	*s.stolen = true
	return make([]bool, len(leases)), nil
}

func (s *stealingStore) Complete(ctx context.Context, l handoff.Lease) error {
	if *s.stolen {
		return handoff.ErrLeaseLost
	}
	return s.Store.Complete(ctx, l)
}

// TestWorkDoneOnALeaseNobodyTookIsStillMarked: giving up was caution, and the
// Store knows that nobody else began.
func TestWorkDoneOnALeaseNobodyTookIsStillMarked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
			<-ctx.Done()
			return nil // it finished all the same
		})
		b.store.fault("renew", down)
		assert.Status(t, b.send(t, typed("1", "x")), 200)
		assert.Status(t, b.send(t, typed("1", "x")), 208)
	})
}

// TestTheLastAttemptStaysTheLastWithoutItsLease: found again by nobody else, the
// work has used up its limit.
func TestTheLastAttemptStaysTheLastWithoutItsLease(t *testing.T) {
	t.Parallel()
	for result, want := range map[error]struct{ status, again, runs int }{
		errBoom:               {205, 208, 1}, // buried
		handoff.Drop(errBoom): {409, 409, 2}, // as if it had not begun
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, nil)
			runs := 0
			handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
				runs++
				assert.Equal(t, handoff.InfoFromContext(ctx).Attempt, 1)
				<-ctx.Done()
				return result
			})
			b.store.fault("renew", down)
			only := typed("1", "x")
			only.stamp.MaxAttempts = 1
			assert.Status(t, b.send(t, only), want.status)
			assert.Status(t, b.send(t, only), want.again)
			assert.Equal(t, runs, want.runs)
			if want.status == 205 {
				assert.Equal(t, b.onlyLetter(t).Reasons, []handoff.Reason{handoff.ReasonExhausted})
			}
		})
	}
}

func TestCompleteOnALostLeaseIsLost(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"complete", "release", "end"} {
		b := newBench(t, nil)
		result := map[string]error{"complete": nil, "release": errBoom, "end": handoff.Permanent(errBoom)}[method]
		handoff.Handle(b.Router, func(context.Context, note) error { return result })
		b.store.fault(method, func() error { return errors.Join(handoff.ErrLeaseLost) })
		assert.Status(t, b.send(t, typed("1", "x")), 409)
		b.noLetters(t)
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		handler  func(ctx context.Context) error
		status   int
		attempt  int // of the next delivery; 0: there is none
		unending bool
	}{
		{"waits for a handler", func(context.Context) error { time.Sleep(5 * time.Second); return nil }, 200, 0, false},
		{"interrupts a slow one", func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }, 500, 1, false},
		{"and one that returns its own error", func(ctx context.Context) error { <-ctx.Done(); return errBoom }, 500, 1, false},
		{"takes success at the last moment", func(ctx context.Context) error { <-ctx.Done(); return nil }, 200, 0, false},
		{"leaves one that does not listen", func(context.Context) error { time.Sleep(time.Hour); return nil }, 200, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := memstore.New()
				b := newBench(t, func(c *handoff.RouterConfig) { c.Store = store })
				begun := make(chan struct{}, 2)
				handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
					begun <- struct{}{}
					return tt.handler(ctx)
				})
				first := make(chan int)
				go func() { first <- b.send(t, typed("1", "x")) }()
				<-begun

				down := make(chan error, 1)
				start := time.Now()
				go func() {
					ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
					defer cancel()
					down <- b.Shutdown(ctx)
				}()
				synctest.Wait()
				assert.Status(t, b.send(t, typed("2", "x")), 500) // draining
				assert.Equal(t, len(begun), 0)
				err := <-down
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("shutdown took %s", took)
				}
				if tt.unending {
					assert.ErrorContains(t, err, "1 handlers still run")
				} else {
					assert.NoError(t, err)
				}
				assert.Status(t, <-first, tt.status)

				next := newBench(t, func(c *handoff.RouterConfig) { c.Store = store })
				attempt := 0
				handoff.Handle(next.Router, func(ctx context.Context, _ note) error {
					attempt = handoff.InfoFromContext(ctx).Attempt
					return nil
				})
				next.send(t, typed("1", "x"))
				assert.Equal(t, attempt, tt.attempt)
			})
		})
	}
}
