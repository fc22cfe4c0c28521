package handoff_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/fence"
	"github.com/brillconsulting/handoff/memstore"
)

func TestALongHandlerKeepsItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
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

// TestRenewalsAreShared: one call of the Store per tick renews all running tasks.
func TestRenewalsAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
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
		b := newFixture(t, nil)
		handoff.Handle(b.Router, func(context.Context, note) error { return nil })
		assert.Status(t, b.send(t, typed("1", "x")), 200)
		time.Sleep(24 * time.Hour)
		assert.Equal(t, b.store.count("renew"), 0)
		assert.Status(t, b.send(t, typed("2", "x")), 200) // and the keeper wakes again
	})
}

// TestALeaseIsGivenUpWithoutTheStore: if the Store cannot be reached, the handler's
// context ends before the Store could give the work to another owner.
func TestALeaseIsGivenUpWithoutTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
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
		b := newFixture(t, nil)
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

// stealingStore reports every lease as lost when it is renewed.
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

// TestWorkDoneOnALeaseNobodyTookIsStillMarked: the lease was given up only as a
// precaution, and the Store knows that no other owner has claimed the work.
func TestWorkDoneOnALeaseNobodyTookIsStillMarked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
		handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
			<-ctx.Done()
			return nil // it has finished its work
		})
		b.store.fault("renew", down)
		assert.Status(t, b.send(t, typed("1", "x")), 200)
		assert.Status(t, b.send(t, typed("1", "x")), 208)
	})
}

// TestTheLastAttemptStaysTheLastWithoutItsLease: if no other owner has claimed the
// work since, it has used up its attempts.
func TestTheLastAttemptStaysTheLastWithoutItsLease(t *testing.T) {
	t.Parallel()
	for result, want := range map[error]struct {
		status int
		reason handoff.Reason
	}{
		errBoom:                    {205, handoff.ReasonExhausted},
		handoff.Permanent(errBoom): {205, handoff.ReasonPermanent},
		handoff.Drop(errBoom):      {204, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newFixture(t, nil)
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
			assert.Status(t, b.send(t, only), 208)
			assert.Equal(t, runs, 1)
			if want.status == 205 {
				assert.Equal(t, b.onlyLetter(t).Reasons, []handoff.Reason{want.reason})
			}
		})
	}
}

func TestCompleteOnALostLeaseIsLost(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"complete", "release", "end"} {
		b := newFixture(t, nil)
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
		attempt  int // of the next delivery; 0 if the handler does not run
		unending bool
	}{
		{"waits for a handler", func(context.Context) error { time.Sleep(5 * time.Second); return nil }, 200, 0, false},
		{"interrupts a slow one", func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }, 500, 1, false},
		{"and one that returns its own error", func(ctx context.Context) error { <-ctx.Done(); return errBoom }, 500, 1, false},
		{"accepts success at the last moment", func(ctx context.Context) error { <-ctx.Done(); return nil }, 200, 0, false},
		{"does not wait for one that ignores its context", func(context.Context) error { time.Sleep(time.Hour); return nil }, 200, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := memstore.New()
				b := newFixture(t, func(c *handoff.RouterConfig) { c.Store = store })
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

				next := newFixture(t, func(c *handoff.RouterConfig) { c.Store = store })
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

// hangs makes calls of method hang until the caller gives up, as behind a network
// that drops packets.
func (s *faultyStore) hangs(method string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hanging == nil {
		s.hanging = make(map[string]bool)
	}
	s.hanging[method] = true
}

// If renewals hang, the handler's context ends before the Store could give the work
// to another owner, for any length of the lease.
func TestALeaseIsGivenUpWhileRenewalsHang(t *testing.T) {
	t.Parallel()
	for _, lease := range []time.Duration{time.Second, 30 * time.Second, 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			b := newFixture(t, func(c *handoff.RouterConfig) { c.Lease = lease })
			b.store.hangs("renew")
			handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
				start := time.Now()
				<-ctx.Done()
				assert.ErrorIs(t, context.Cause(ctx), handoff.ErrLeaseLost)
				if held := time.Since(start); held < lease*2/3 || held >= lease {
					t.Errorf("a lease of %s was given up after %s", lease, held)
				}
				return ctx.Err()
			})
			assert.Status(t, b.send(t, typed("1", "x")), 409)
		})
	}
}

// A claim without a response is given up after 5 s, for any length of the lease,
// and even if the keeper waits for other calls.
func TestAClaimIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	for _, lease := range []time.Duration{time.Second, 30 * time.Second, 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			b := newFixture(t, func(c *handoff.RouterConfig) { c.Lease = lease })
			release := make(chan struct{})
			handoff.Handle(b.Router, func(context.Context, note) error { <-release; return nil })
			first := make(chan int)
			go func() { first <- b.send(t, typed("1", "x")) }()
			synctest.Wait()
			time.Sleep(lease / 3) // the next renewal hangs
			b.store.hangs("renew")
			b.store.hangs("claim")
			start := time.Now()
			assert.Status(t, b.send(t, typed("2", "x")), 503)
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("with a lease of %s it took %s", lease, took)
			}
			close(release)
			<-first
		})
	}
}

// A claim that returns after it was given up is released, and its handler does not
// run, because the lease would not be renewed.
func TestAClaimWhoseResponseIsTooLateDoesNotRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
		slow := &lateStore{Store: b.store.Store}
		b.store.Store = slow
		runs := 0
		handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
			runs++
			assert.Equal(t, handoff.InfoFromContext(ctx).Attempt, 1)
			return nil
		})
		assert.Status(t, b.send(t, typed("1", "x")), 503)
		assert.Equal(t, runs, 0)
		synctest.Wait() // until it is released
		slow.quick = true
		assert.Status(t, b.send(t, typed("1", "x")), 200)
		assert.Equal(t, runs, 1)
	})
}

// lateStore is a Store that makes claims, but returns only after the caller has
// given up.
type lateStore struct {
	handoff.Store
	quick bool
}

func (s *lateStore) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	if !s.quick {
		<-ctx.Done()
	}
	return s.Store.Claim(context.WithoutCancel(ctx), l)
}

// A claim is made, but its response and the first releases are lost. No handler
// ran, so the attempt does not count, and a task with one attempt is not buried
// without having run.
func TestAClaimWithoutAResponseIsReleasedUntilItSucceeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
		handoff.Handle(b.Router, func(context.Context, note) error { return nil })
		lost := &lostClaims{Store: b.store.Store, lose: true}
		b.store.Store = lost
		b.store.fault("release", down)
		only := typed("1", "x")
		only.stamp.MaxAttempts = 1
		assert.Status(t, b.send(t, only), 503)
		time.Sleep(10 * time.Second) // the Store responds again
		lost.lose = false
		b.store.fault("release", nil)
		time.Sleep(6 * time.Second)
		assert.Status(t, b.send(t, only), 200)
		b.noLetters(t)
	})
}

type lostClaims struct {
	handoff.Store
	lose bool
}

func (s *lostClaims) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	c, err := s.Store.Claim(ctx, l)
	if s.lose {
		return handoff.Claim{}, errStoreDown
	}
	return c, err
}

// A call that never returns does not hold a delivery beyond its dispatch deadline,
// whether or not its lease is lost.
func TestAMarkThatHangsEndsInTime(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		method string
		result error
		lost   bool // the lease, while the handler runs
		status int
	}{
		"a completion":                      {"complete", nil, false, 200},
		"a completion, without the lease":   {"complete", nil, true, 409},
		"a burial":                          {"end", handoff.Permanent(errBoom), false, 503},
		"the completion of a burial":        {"complete", handoff.Permanent(errBoom), false, 205},
		"a burial of the last, without it":  {"end", errBoom, true, 503},
		"its completion, without the lease": {"complete", errBoom, true, 205},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, nil)
				b.store.hangs(tc.method)
				if tc.lost {
					b.store.fault("renew", down)
				}
				handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
					if tc.lost {
						<-ctx.Done()
					}
					return tc.result
				})
				d := typed("1", "x")
				d.stamp.Deadline, d.stamp.MaxAttempts = time.Minute, 1
				start := time.Now()
				assert.Status(t, b.send(t, d), tc.status)
				if took := time.Since(start); took > 66*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// If the note of a burial cannot be stored, the attempt still counts.
func TestAnUnnotedBurialGivesNothingBack(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		result error
		max    int
		runs   int
		reason handoff.Reason
	}{
		"the last attempt":       {errBoom, 1, 1, handoff.ReasonCrashed},
		"a permanent failure":    {handoff.Permanent(errBoom), 3, 2, handoff.ReasonPermanent},
		"permanent and the last": {handoff.Permanent(errBoom), 1, 1, handoff.ReasonCrashed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, nil)
				runs := 0
				handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
					runs++
					assert.Equal(t, handoff.InfoFromContext(ctx).Attempt, runs)
					return tc.result
				})
				d := typed("1", "x")
				d.stamp.Deadline, d.stamp.MaxAttempts = 20*time.Second, tc.max
				b.store.fault("end", down)
				assert.Status(t, b.send(t, d), 503)
				if tries := b.store.count("end"); tries < 3 {
					t.Errorf("the note was tried %d times", tries)
				}
				b.store.fault("end", nil)
				time.Sleep(time.Minute) // until the lease has expired
				assert.Status(t, b.send(t, d), 205)
				assert.Equal(t, runs, tc.runs)
				assert.Equal(t, b.onlyLetter(t).Reasons[0], tc.reason)
			})
		})
	}
}

// A shutdown that has given up waiting still renews the leases of running handlers,
// so that no other worker runs the same task.
func TestAShutdownThatGivesUpKeepsTheLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		b := newFixture(t, func(c *handoff.RouterConfig) { c.Store = store })
		handoff.Handle(b.Router, func(context.Context, note) error { time.Sleep(10 * time.Minute); return nil })
		first := make(chan int)
		go func() { first <- b.send(t, typed("1", "x")) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.ErrorContains(t, b.Shutdown(ctx), "1 handlers still run")

		next := newFixture(t, func(c *handoff.RouterConfig) { c.Store = store })
		handoff.Handle(next.Router, func(context.Context, note) error { return nil })
		for range 9 {
			time.Sleep(time.Minute)
			assert.Status(t, next.send(t, typed("1", "x")), 409)
		}
		assert.Status(t, <-first, 200)
		assert.Status(t, next.send(t, typed("1", "x")), 208)
	})
}

// If one node of a Cluster cannot be reached, the leases of other nodes are
// renewed, and those of that node are not given up too early.
func TestAnIncompleteRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
		b.store.Store = &halfStore{Store: b.store.Store}
		gaveUp := make(map[string]time.Duration)
		handoff.Handle(b.Router, func(ctx context.Context, n note) error {
			start := time.Now()
			select {
			case <-ctx.Done():
				gaveUp[n.Text] = time.Since(start)
				return ctx.Err()
			case <-time.After(2 * time.Minute):
				return nil
			}
		})
		statuses := make(chan int, 2)
		for _, text := range []string{"cut off", "reached"} {
			go func() { statuses <- b.send(t, typed(text[:1], text)) }()
		}
		assert.Equal(t, []int{<-statuses, <-statuses}, []int{409, 200})
		assert.Equal(t, len(gaveUp), 1)
		if held := gaveUp["cut off"]; held < 20*time.Second || held >= 30*time.Second {
			t.Errorf("the lease of 30 s was given up after %s", held)
		}
	})
}

// halfStore is a Store that renews all leases but that of key "c".
type halfStore struct{ handoff.Store }

func (s *halfStore) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	kept, err := s.Store.Renew(ctx, leases)
	for i, l := range leases {
		kept[i] = kept[i] && l.Key != fence.IDKey("c")
	}
	return kept, errors.Join(err, errors.New("a node is down"))
}
