package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/redistest"
	"github.com/brillconsulting/handoff/redisstore"
)

func leaseOf(key, owner string) handoff.Lease {
	return handoff.Lease{Key: key, Owner: owner, TTL: time.Minute, Window: time.Hour}
}

// freeze stops the server's process. The kernel still accepts connections and
// commands, but no response comes.
func freeze(t *testing.T, rdb *redis.Client) (thaw func()) {
	t.Helper()
	pid := serverInfo(t, rdb, "server", "process_id")
	assert.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	return func() { assert.NoError(t, syscall.Kill(pid, syscall.SIGCONT)) }
}

func serverInfo(t testing.TB, rdb *redis.Client, section, name string) int {
	t.Helper()
	info, err := rdb.Info(context.Background(), section).Result()
	assert.NoError(t, err)
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			n, err := strconv.Atoi(text)
			assert.NoError(t, err)
			return n
		}
	}
	t.Fatalf("INFO %s has no %s", section, name)
	return 0
}

func calls(store *redisstore.Store) map[string]func(context.Context, handoff.Lease) error {
	return map[string]func(context.Context, handoff.Lease) error{
		"claim": func(ctx context.Context, l handoff.Lease) error { _, err := store.Claim(ctx, l); return err },
		"renew": func(ctx context.Context, l handoff.Lease) error {
			_, err := store.Renew(ctx, []handoff.Lease{l})
			return err
		},
		"complete": store.Complete,
		"release":  func(ctx context.Context, l handoff.Lease) error { return store.Release(ctx, l, true) },
		"end":      func(ctx context.Context, l handoff.Lease) error { return store.End(ctx, l, nil) },
	}
}

// TestContextsEndCalls: a call ends with its context, even if that is cancelled
// without a deadline. go-redis alone would wait for its own timeout, here an hour.
func TestContextsEndCalls(t *testing.T) {
	t.Parallel()
	for _, honours := range []bool{true, false} {
		t.Run(fmt.Sprint("ContextTimeoutEnabled=", honours), func(t *testing.T) {
			t.Parallel()
			addr := redistest.Start(t)
			admin := redis.NewClient(&redis.Options{Addr: addr})
			t.Cleanup(func() { _ = admin.Close() })
			rdb := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: honours, ReadTimeout: time.Hour})
			t.Cleanup(func() { _ = rdb.Close() })
			store := redisstore.New(rdb, nil)
			_, err := store.Claim(t.Context(), leaseOf("k", "a"))
			assert.NoError(t, err)

			thaw := freeze(t, admin)
			for verb, call := range calls(store) {
				cancelled, cancel := context.WithCancel(t.Context())
				late, cancelLate := context.WithTimeout(t.Context(), 20*time.Millisecond)
				errs := make(chan error, 20)
				for range 10 {
					go func() { errs <- call(cancelled, leaseOf("k", "a")) }()
					go func() { errs <- call(late, leaseOf("k", "a")) }()
				}
				var got []error
				for range 10 { // the late calls
					got = append(got, <-errs)
				}
				cancel()
				for range 10 {
					got = append(got, <-errs)
				}
				cancelLate()
				for i, err := range got {
					want := context.DeadlineExceeded
					if i >= 10 {
						want = context.Canceled
					}
					assert.ErrorContains(t, err, "redisstore: "+verb)
					assert.ErrorIs(t, err, want)
				}
			}
			thaw()

			assert.Eventually(t, 10*time.Second, func() bool {
				_, err := store.Claim(t.Context(), leaseOf("again", "a"))
				return err == nil
			}, "the store to work again")
		})
	}
}

// TestRoundTripsAreShared: calls made while Redis is slow share the next round
// trip.
func TestRoundTripsAreShared(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(t), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	store := redisstore.New(rdb, nil)
	_, err := store.Claim(t.Context(), leaseOf("warm", "a"))
	assert.NoError(t, err)

	const callers = 200
	before := rdb.PoolStats().TotalConns
	thaw := freeze(t, rdb)
	time.AfterFunc(100*time.Millisecond, thaw) // most calls wait by then; the rest do not change the count
	var claims sync.WaitGroup
	for i := range callers {
		claims.Go(func() {
			c, err := store.Claim(t.Context(), leaseOf(strconv.Itoa(i), "a"))
			if err != nil || c.Status != handoff.ClaimAcquired {
				t.Errorf("claim %d: %+v, %v", i, c, err)
			}
		})
	}
	claims.Wait()
	if opened := rdb.PoolStats().TotalConns - before; opened > 4 {
		t.Errorf("%d callers at once opened %d connections, want them to share one or two", callers, opened)
	}
}

// TestOneNodeDown: when a node of a Cluster is down, only the keys of that node
// cannot be reached.
func TestOneNodeDown(t *testing.T) {
	t.Parallel()
	nodes := redistest.Cluster(t, 3, "--cluster-node-timeout", "60000")
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: nodes.Addrs(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	store := redisstore.New(rdb, nil)

	// Keys of the first master, and keys of the others.
	var down, up []handoff.Lease
	first, err := rdb.MasterForKey(t.Context(), "handoff:0")
	assert.NoError(t, err)
	for i := range 40 {
		l := leaseOf(strconv.Itoa(i), "a")
		master, err := rdb.MasterForKey(t.Context(), "handoff:"+l.Key)
		assert.NoError(t, err)
		if _, err := store.Claim(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		if master == first {
			down = append(down, l)
		} else {
			up = append(up, l)
		}
	}
	admin := redis.NewClient(&redis.Options{Addr: first.Options().Addr})
	t.Cleanup(func() { _ = admin.Close() })
	thaw := freeze(t, admin)

	ctx, cancel := context.WithCancel(t.Context())
	var stuck sync.WaitGroup
	for _, l := range down {
		stuck.Go(func() {
			if err := store.Complete(ctx, l); !errors.Is(err, context.Canceled) {
				t.Errorf("complete on a node that is down: %v", err)
			}
		})
	}
	for _, l := range up {
		assert.NoError(t, store.Complete(ctx, l))
	}
	for i := range up {
		up[i].Key += "'" // the new key may be on another node
	}
	up = slices.DeleteFunc(up, func(l handoff.Lease) bool {
		master, err := rdb.MasterForKey(t.Context(), "handoff:"+l.Key)
		assert.NoError(t, err)
		return master == first
	})
	for _, l := range up {
		_, err := store.Claim(ctx, l)
		assert.NoError(t, err)
	}

	late, cancelLate := context.WithTimeout(t.Context(), time.Second)
	defer cancelLate()
	held, err := store.Renew(late, slices.Concat(down, up))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	for i, ok := range held {
		if want := i >= len(down); ok != want {
			t.Errorf("lease %d of %d, of which %d are on a node that is down: renewed %v", i, len(held), len(down), ok)
		}
	}
	cancel()
	stuck.Wait()
	thaw()
}

func TestNilClient(t *testing.T) {
	t.Parallel()
	for name, rdb := range map[string]redis.UniversalClient{"nil": nil, "nil pointer": (*redis.Client)(nil)} {
		for verb, call := range calls(redisstore.New(rdb, nil)) {
			t.Run(name+" "+verb, func(t *testing.T) {
				t.Parallel()
				assert.ErrorContains(t, call(t.Context(), leaseOf("k", "a")), "redisstore: "+verb+": the redis client is nil")
			})
		}
	}
}

// NewRouter calls Check, so that a mistake is found at start-up.
func TestCheck(t *testing.T) {
	t.Parallel()
	server := redis.NewClient(&redis.Options{Addr: "localhost:1"}) // Check must not connect
	defer server.Close()
	assert.NoError(t, redisstore.New(server, nil).Check())
	assert.NoError(t, redisstore.NewDeadLetters(server, nil).Check())
	for want, err := range map[string]error{
		"redisstore: the redis client is nil":    redisstore.New((*redis.Client)(nil), nil).Check(),
		"redisstore: the store is a nil pointer": (*redisstore.Store)(nil).Check(),
		"redisstore: the redis client is nil\nDeadLetterOptions.MaxAge is 0s, MaxCount is -1 and MaxBytes is 0": redisstore.NewDeadLetters(nil, &redisstore.DeadLetterOptions{MaxCount: -1}).Check(),
	} {
		assert.ErrorContains(t, err, want)
	}
	assert.ErrorContains(t, (*redisstore.DeadLetters)(nil).Check(), "redisstore: the store is a nil pointer")
}
