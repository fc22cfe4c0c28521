package redisstore_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/redistest"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/redisstore"
)

// TestAFullRedis: a Redis that has reached its maxmemory refuses new claims. It
// still renews, marks and releases running work, and deletes letters to make room.
func TestAFullRedis(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(t, "--maxmemory-policy", "noeviction"), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	store := redisstore.New(rdb, nil)
	letters := redisstore.NewDeadLetters(rdb, nil)
	letter := handoff.DeadLetter{ID: "letter", Kind: "note", BuriedAt: time.Now()}
	assert.NoError(t, letters.Put(t.Context(), letter))
	ctx := t.Context()
	ends := map[string]func(l handoff.Lease) error{
		"complete":          func(l handoff.Lease) error { return store.Complete(ctx, l) },
		"open":              func(l handoff.Lease) error { l.Opens = handoff.OpensNext; return store.Complete(ctx, l) },
		"release":           func(l handoff.Lease) error { return store.Release(ctx, l, true) },
		"end":               func(l handoff.Lease) error { return store.End(ctx, l, []byte("note")) },
		"keep":              func(l handoff.Lease) error { return store.Keep(ctx, l, []byte("memo")) },
		"end, then as dead": func(l handoff.Lease) error { l.Letter = "letter"; return store.Complete(ctx, l) },
	}
	for key := range ends {
		_, err := store.Claim(ctx, leaseOf(key, "a"))
		assert.NoError(t, err)
	}
	assert.NoError(t, rdb.ConfigSet(ctx, "maxmemory", "1").Err())

	_, err := store.Claim(ctx, leaseOf("new", "a"))
	assert.ErrorContains(t, err, "redisstore: claim: OOM", "Redis is full: raise maxmemory")
	for key, end := range ends {
		held, err := store.Renew(ctx, []handoff.Lease{leaseOf(key, "a")})
		assert.NoError(t, err)
		assert.Equal(t, held, []bool{true})
		assert.NoError(t, end(leaseOf(key, "a")))
		_, err = store.ShowKey(ctx, key)
		assert.NoError(t, err)
	}
	assert.ErrorContains(t, letters.Put(ctx, handoff.DeadLetter{ID: "another"}), "redisstore: put dead letter: OOM")
	assert.NoError(t, letters.MarkRedriven(ctx, letter.ID, letter.BuriedAt))
	page, err := letters.List(ctx, handoff.DeadLetterQuery{Redriven: true})
	assert.NoError(t, err)
	assert.Equal(t, letterIDs(page), []string{"letter"})
	_, err = letters.CountByKind(ctx)
	assert.NoError(t, err)
	assert.NoError(t, letters.Delete(ctx, "letter"))
	assert.NoError(t, store.FreeKey(ctx, "complete"))
}

// beforeFlags makes a server take scripts as one before 7.0 does: "#!lua" at their
// beginning is not Lua, and the server's own compiler says so.
type beforeFlags struct{ refused *atomic.Int64 }

func (beforeFlags) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b beforeFlags) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		b.age(cmd)
		return next(ctx, cmd)
	}
}

func (b beforeFlags) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			b.age(cmd)
		}
		return next(ctx, cmds)
	}
}

func (b beforeFlags) age(cmd redis.Cmder) {
	args := cmd.Args()
	if source, ok := args[min(1, len(args)-1)].(string); ok && strings.HasPrefix(source, "#!") {
		b.refused.Add(1)
		args[1] = "#" + source
	}
}

// TestRedisBeforeFlags: on a server before 7.0 everything holds but that a full one
// refuses to mark what runs, too. The error says what to do.
func TestRedisBeforeFlags(t *testing.T) {
	t.Parallel()
	rdb := connect(t, redistest.Start(t, "--maxmemory-policy", "noeviction"))
	hook := beforeFlags{new(atomic.Int64)}
	rdb.AddHook(hook)
	ctx := t.Context()
	store := redisstore.New(rdb, nil)
	for _, key := range []string{"a", "b"} {
		_, err := store.Claim(ctx, leaseOf(key, "owner"))
		assert.NoError(t, err)
	}
	assert.NoError(t, store.Complete(ctx, leaseOf("a", "owner")))
	assert.NoError(t, rdb.ConfigSet(ctx, "maxmemory", "1").Err())
	assert.ErrorContains(t, store.Complete(ctx, leaseOf("b", "owner")), "OOM", "Redis is full: raise maxmemory")
	assert.NoError(t, rdb.ConfigSet(ctx, "maxmemory", "0").Err())
	assert.NoError(t, store.Complete(ctx, leaseOf("b", "owner")))
	assert.Equal(t, hook.refused.Load(), 1) // the store remembers

	t.Run("store", func(t *testing.T) {
		handofftest.TestStore(t, func(t *testing.T) handoff.Store {
			return redisstore.New(rdb, &redisstore.Options{Prefix: t.Name() + ":"})
		})
	})
	t.Run("letters", func(t *testing.T) {
		letters := redisstore.NewDeadLetters(rdb, nil)
		assert.NoError(t, letters.Put(ctx, handoff.DeadLetter{ID: "letter", BuriedAt: time.Now()}))
		assert.NoError(t, letters.Delete(ctx, "letter"))
	})
}

// TestAFullRedisDoesNotMakeWorkRunTwice tests the same through the router: the
// lease is renewed past its first expiry, and the work is marked as done.
func TestAFullRedisDoesNotMakeWorkRunTwice(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(t, "--maxmemory-policy", "noeviction"), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	store := &renewals{Store: redisstore.New(rdb, nil), renewed: make(chan struct{}, 100)}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true, Store: store, DeadLetters: memstore.NewDeadLetters(),
		Logger: slog.New(slog.DiscardHandler), Lease: time.Second,
	})
	assert.NoError(t, err)
	runs := 0
	handoff.Handle(router, func(ctx context.Context, _ errand) error {
		runs++
		assert.NoError(t, rdb.ConfigSet(context.Background(), "maxmemory", "1").Err())
		for range 4 { // renewed at thirds of the lease
			select {
			case <-store.renewed:
			case <-ctx.Done():
				t.Errorf("the run was ended: %v", context.Cause(ctx))
			}
		}
		return nil
	})
	deliver := func() int {
		req := httptest.NewRequest(http.MethodPost, "/errand", strings.NewReader("{}"))
		req.Header.Set("X-CloudTasks-QueueName", "q")
		req.Header.Set("X-CloudTasks-TaskName", "t")
		rec := httptest.NewRecorder()
		router.ServeHTTP(rec, req)
		return rec.Code
	}
	assert.Equal(t, deliver(), http.StatusOK)
	assert.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "0").Err())
	assert.Equal(t, deliver(), http.StatusAlreadyReported)
	assert.Equal(t, runs, 1)
	assert.NoError(t, router.Shutdown(context.Background()))
}

// renewals signals every renewal that kept its lease.
type renewals struct {
	handoff.Store

	renewed chan struct{}
}

func (s *renewals) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	held, err := s.Store.Renew(ctx, leases)
	if err == nil && len(held) == 1 && held[0] {
		s.renewed <- struct{}{}
	}
	return held, err
}

// TestClientsThatAreNoFence: the store refuses a Ring, which moves keys to servers
// that do not have their records, and clients that read from replicas, which lag
// behind their master.
func TestClientsThatAreNoFence(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rdb  redis.UniversalClient
		want string
	}{
		"ring":             {redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": "127.0.0.1:1"}}), "a redis.Ring moves the keys"},
		"read only":        {redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ReadOnly: true}), "ClusterOptions.ReadOnly"},
		"route by latency": {redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, RouteByLatency: true}), "RouteByLatency"},
		"route randomly":   {redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}, RouteRandomly: true, IsClusterMode: true}), "RouteRandomly"},
		"nil":              {nil, "the redis client is nil"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.rdb != nil {
				t.Cleanup(func() { _ = tt.rdb.Close() })
			}
			store, letters := redisstore.New(tt.rdb, nil), redisstore.NewDeadLetters(tt.rdb, nil)
			assert.ErrorContains(t, store.Check(), "redisstore: ", tt.want)
			assert.ErrorContains(t, letters.Check(), "redisstore: ", tt.want)
			_, err := store.Claim(t.Context(), leaseOf("k", "a"))
			assert.ErrorContains(t, err, "redisstore: claim: ", tt.want)
			assert.ErrorContains(t, letters.Put(t.Context(), handoff.DeadLetter{ID: "l"}), "redisstore: put dead letter: ", tt.want)
			_, err = handoff.NewRouter(handoff.RouterConfig{DangerouslyAllowUnauthenticated: true, Store: store, Logger: slog.New(slog.DiscardHandler)})
			assert.ErrorContains(t, err, "RouterConfig.Store", tt.want)
		})
	}
}
