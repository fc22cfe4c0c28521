package redisstore_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/redistest"
	"github.com/brillconsulting/handoff/redisstore"
)

// TestWorkersClocks tests that leases, windows and tokens use the server's clock:
// a worker's clock may be an hour fast or slow, or jump. The test sets the
// worker's clock by running in a bubble.
func TestWorkersClocks(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	now := time.Now()
	for name, clock := range map[string]time.Time{
		"an hour slow": now.Add(-time.Hour),
		"an hour fast": now.Add(time.Hour),
		"in 2000":      time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		t.Run(name, func(t *testing.T) {
			rdb := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
			defer rdb.Close()
			right := redisstore.New(rdb, nil)
			mine := handoff.Lease{Key: name, Owner: "right", TTL: time.Minute, Window: time.Hour}
			theirs := mine
			theirs.Owner = "off"
			first, err := right.Claim(t.Context(), mine)
			assert.NoError(t, err)

			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				rdb := redis.NewClient(&redis.Options{Addr: addr})
				defer rdb.Close()
				off := redisstore.New(rdb, nil)
				claim := func() handoff.Claim {
					c, err := off.Claim(ctx, theirs)
					assert.NoError(t, err)
					return c
				}
				assert.Equal(t, claim().Status, handoff.ClaimBusy)
				time.Sleep(time.Until(clock)) // the clock jumps
				busy := claim()
				assert.Equal(t, busy.Status, handoff.ClaimBusy)
				if busy.Left <= 0 || busy.Left > time.Minute {
					t.Errorf("the lease of a minute holds for %v", busy.Left)
				}
				assert.NoError(t, right.Release(ctx, mine, true))

				second := claim()
				assert.Equal(t, second.Status, handoff.ClaimAcquired)
				assert.Equal(t, second.Attempt, 2)
				if second.Token <= first.Token {
					t.Errorf("the fencing token went from %d to %d", first.Token, second.Token)
				}
				if d := second.First.Sub(first.First); d != 0 {
					t.Errorf("the first execution moved by %v", d)
				}
				time.Sleep(2 * time.Hour) // the clock jumps again, beyond lease and window
				held, err := off.Renew(ctx, []handoff.Lease{theirs})
				assert.NoError(t, err)
				assert.Equal(t, held[0], true)
				assert.NoError(t, off.Complete(ctx, theirs))
			})
			done, err := right.Claim(t.Context(), mine)
			assert.NoError(t, err)
			assert.Equal(t, done.Status, handoff.ClaimDone)
		})
	}
}

// TestServersClockSteps tests what docs/guarantees.md says of a step of Redis's clock:
// forward it ends leases early and forgets work, back it holds leases longer. The
// server is miniredis, whose clock can be set, with the same scripts.
func TestServersClockSteps(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (*onMiniredis, func(owner string) handoff.Claim) {
		s := &onMiniredis{server: miniredis.RunT(t), now: time.Now()}
		s.Advance(0)
		s.Store = redisstore.New(connect(t, s.server.Addr()), nil)
		return s, func(owner string) handoff.Claim {
			claim, err := s.Claim(t.Context(), leaseOf("work", owner))
			assert.NoError(t, err)
			return claim
		}
	}
	lease := leaseOf("work", "a")

	t.Run("forward, while work runs", func(t *testing.T) {
		t.Parallel()
		store, claim := start(t)
		first := claim("a")
		store.Advance(lease.TTL + time.Second)
		second := claim("b")
		assert.Equal(t, second.Status, handoff.ClaimAcquired)
		assert.Equal(t, second.Token > first.Token, true)
		held, err := store.Renew(t.Context(), []handoff.Lease{lease})
		assert.NoError(t, err)
		assert.Equal(t, held, []bool{false})
		assert.ErrorIs(t, store.Complete(t.Context(), lease), handoff.ErrLeaseLost)
	})
	t.Run("forward, after work is done", func(t *testing.T) {
		t.Parallel()
		store, claim := start(t)
		claim("a")
		assert.NoError(t, store.Complete(t.Context(), lease))
		assert.Equal(t, claim("b").Status, handoff.ClaimDone)
		store.Advance(lease.Window + time.Second)
		assert.Equal(t, claim("b").Status, handoff.ClaimAcquired)
	})
	t.Run("back, while work runs", func(t *testing.T) {
		t.Parallel()
		store, claim := start(t)
		first := claim("a")
		const step = 10 * time.Minute
		store.server.SetTime(store.now.Add(-step))
		busy := claim("b")
		assert.Equal(t, busy.Status, handoff.ClaimBusy)
		if longest := lease.TTL + step; busy.Left <= step || busy.Left > longest {
			t.Errorf("the lease holds for %v, want %v at most, and more than the step", busy.Left, longest)
		}
		held, err := store.Renew(t.Context(), []handoff.Lease{lease})
		assert.NoError(t, err)
		assert.Equal(t, held, []bool{true})
		assert.NoError(t, store.Release(t.Context(), lease, true))
		if second := claim("b"); second.Status != handoff.ClaimAcquired || second.Token <= first.Token {
			t.Errorf("%v with token %d after %d", second.Status, second.Token, first.Token)
		}
	})
	t.Run("back, by more than the window of what is forgotten", func(t *testing.T) {
		t.Parallel()
		store, claim := start(t)
		first := claim("a")
		assert.NoError(t, store.Complete(t.Context(), lease))
		store.Advance(lease.Window + time.Second)
		store.server.SetTime(store.now.Add(-2 * lease.Window))
		if again := claim("b"); again.Status != handoff.ClaimAcquired || again.Token >= first.Token {
			t.Errorf("%v with token %d after %d", again.Status, again.Token, first.Token)
		}
	})
}
