package redisstore_test

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/redistest"
	"github.com/brillconsulting/handoff/redisstore"
)

// life takes n pieces of work through all scripts concurrently. By its number,
// each is left done, released or ending.
func life(t *testing.T, store *redisstore.Store, prefix string, n int, between func()) {
	t.Helper()
	step := func(call func(i int, l handoff.Lease) error) {
		t.Helper()
		between()
		errs := make([]error, n)
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { errs[i] = call(i, leaseOf(prefix+strconv.Itoa(i), "a")) })
		}
		all.Wait()
		for _, err := range errs {
			assert.NoError(t, err)
		}
	}
	leases := make([]handoff.Lease, n)
	step(func(i int, l handoff.Lease) error {
		leases[i] = l
		_, err := store.Claim(t.Context(), l)
		return err
	})
	between()
	held, err := store.Renew(t.Context(), leases)
	assert.NoError(t, err)
	for i := range held {
		assert.Equal(t, held[i], true)
	}
	step(func(i int, l handoff.Lease) error {
		switch i % 3 {
		case 0:
			return store.Complete(t.Context(), l)
		case 1:
			return store.Release(t.Context(), l, true)
		}
		return store.End(t.Context(), l, []byte("note"))
	})
}

// wantLife requires the records that life left, using a store that made no claims
// of its own.
func wantLife(t *testing.T, store *redisstore.Store, prefix string, n int) {
	t.Helper()
	for i := range n {
		c, err := store.Claim(t.Context(), leaseOf(prefix+strconv.Itoa(i), "b"))
		assert.NoError(t, err)
		switch i % 3 {
		case 0:
			assert.Equal(t, c.Status, handoff.ClaimDone)
		case 1:
			assert.Equal(t, c.Status, handoff.ClaimAcquired)
			assert.Equal(t, c.Attempt, 2)
		case 2:
			assert.Equal(t, c.Status, handoff.ClaimBusy)
		}
	}
}

// TestScriptsAreForgotten runs SCRIPT FLUSH before every step, with calls alone and
// in shared round trips.
func TestScriptsAreForgotten(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(t), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	store := redisstore.New(rdb, nil)
	for _, n := range []int{1, 2, 3, 60} {
		prefix := fmt.Sprint(n, "-")
		life(t, store, prefix, n, func() { assert.NoError(t, rdb.ScriptFlush(t.Context()).Err()) })
		wantLife(t, store, prefix, n)
	}
}

// TestRestart: with appendfsync always, a killed server loses no claim that it
// acknowledged.
func TestRestart(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, "--appendonly", "yes", "--appendfsync", "always")
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	store := redisstore.New(rdb, nil)
	life(t, store, "k", 60, func() {
		server.Kill()
		server.Restart()
	})
	server.Kill()
	_, err := store.Claim(t.Context(), leaseOf("k0", "b"))
	assert.ErrorContains(t, err, "redisstore: claim: ")
	server.Restart()
	wantLife(t, store, "k", 60)
}

// TestFailover: a replica that has received all its master's writes continues with
// the same records.
func TestFailover(t *testing.T) {
	t.Parallel()
	master := redistest.Run(t)
	replica := redistest.Run(t)
	old := redis.NewClient(&redis.Options{Addr: master.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = old.Close() })
	promoted := redis.NewClient(&redis.Options{Addr: replica.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { _ = promoted.Close() })
	host, port := "127.0.0.1", master.Addr()[len("127.0.0.1:"):]
	assert.NoError(t, promoted.ReplicaOf(t.Context(), host, port).Err())

	life(t, redisstore.New(old, nil), "k", 60, func() {})
	before, err := redisstore.New(old, nil).Claim(t.Context(), leaseOf("token", "a"))
	assert.NoError(t, err)
	assert.NoError(t, redisstore.New(old, nil).Release(t.Context(), leaseOf("token", "a"), true))
	synced, err := old.Wait(t.Context(), 1, 10*time.Second).Result()
	assert.NoError(t, err)
	assert.Equal(t, synced, 1)

	store := redisstore.New(promoted, nil)
	_, err = store.Claim(t.Context(), leaseOf("k0", "b"))
	assert.ErrorContains(t, err, "redisstore: claim: READONLY")
	master.Kill()
	assert.NoError(t, promoted.ReplicaOf(t.Context(), "NO", "ONE").Err())
	wantLife(t, store, "k", 60)
	after, err := store.Claim(t.Context(), leaseOf("token", "b"))
	assert.NoError(t, err)
	if after.Token <= before.Token {
		t.Errorf("the fencing token went from %d to %d over a failover", before.Token, after.Token)
	}
}

// TestMemoryOfARecord limits what the record of one task, without memo and note,
// takes by MEMORY USAGE.
func TestMemoryOfARecord(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(t), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	store := redisstore.New(rdb, nil)
	l := handoff.Lease{Key: workKey(0), Owner: "a", TTL: 30 * time.Second, Window: 25 * time.Hour}
	uses := func(what string, limit int64) {
		t.Helper()
		got, err := rdb.MemoryUsage(t.Context(), "handoff:"+l.Key).Result()
		assert.NoError(t, err)
		if got > limit {
			t.Errorf("the record of work that is %s takes %d bytes, want at most %d", what, got, limit)
		}
	}
	claim := func(owner string) {
		t.Helper()
		l.Owner = owner
		_, err := store.Claim(t.Context(), l)
		assert.NoError(t, err)
	}
	claim("a")
	uses("running", 136)
	assert.NoError(t, store.Release(t.Context(), l, true))
	uses("idle", 168)
	claim("b")
	uses("running again", 168)
	assert.NoError(t, store.Complete(t.Context(), l))
	uses("done", 72)
}

// TestRecordsOfAnotherVersion: the store refuses records of another version, and
// can free their keys.
func TestRecordsOfAnotherVersion(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(t), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	store := redisstore.New(rdb, nil)
	for name, record := range map[string]string{
		"running, before versions": "1795866672R598278634844962250 30000000 0 489864",
		"idle, before versions":    "1795866672i598278634844962250 30000000 0 489864 1795866672489864 1795866672489864 0 1",
		"done, before versions":    "1795866672727087946",
		"version 3":                "3R59827863484496225030000 0 0 1795866672 489864",
		"version 3, done":          "3598278634844962250",
		"somebody's":               "hello",
		"empty":                    "",
	} {
		l := leaseOf(name, "a")
		assert.NoError(t, rdb.Set(t.Context(), "handoff:"+name, record, time.Hour).Err())
		_, err := store.Claim(t.Context(), l)
		assert.ErrorContains(t, err, "redisstore: claim: ", "the key holds no record of this version of handoff")
		_, err = store.ShowKey(t.Context(), name)
		assert.ErrorContains(t, err, "redisstore: show key: ", "the key holds no record of this version of handoff")
		for verb, err := range map[string]error{
			"complete": store.Complete(t.Context(), l),
			"release":  store.Release(t.Context(), l, true),
			"keep":     store.Keep(t.Context(), l, nil),
			"end":      store.End(t.Context(), l, nil),
		} {
			assert.ErrorIs(t, err, handoff.ErrLeaseLost)
			assert.ErrorContains(t, err, "redisstore: "+verb)
		}
		after, err := rdb.Get(t.Context(), "handoff:"+name).Result()
		assert.NoError(t, err)
		assert.Equal(t, after, record)
		assert.NoError(t, store.FreeKey(t.Context(), name))
		claim, err := store.Claim(t.Context(), l)
		assert.NoError(t, err)
		assert.Equal(t, claim.Status, handoff.ClaimAcquired)
	}
}

// TestMemoryOfATask limits the memory of a finished task in Redis. BenchmarkMemory
// measures it with more tasks.
func TestMemoryOfATask(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(t), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	const tasks = 10_000
	if got := memoryOfTasks(t, rdb, tasks) / tasks; got > 150 {
		t.Errorf("a finished task takes %d bytes, want at most 150", got)
	}
	// The reason: Redis stores the record as an integer.
	kind, err := rdb.ObjectEncoding(t.Context(), "handoff:"+workKey(0)).Result()
	assert.NoError(t, err)
	assert.Equal(t, kind, "int")
}

// workKey returns a key as long as the router's keys.
func workKey(n int) string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(make([]byte, 8), uint64(n)))
}

// memoryOfTasks claims and completes tasks, and returns the bytes that Redis takes
// for each.
func memoryOfTasks(t testing.TB, rdb *redis.Client, tasks int) int {
	t.Helper()
	store := redisstore.New(rdb, nil)
	one := func(key string) error {
		l := leaseOf(key, key)
		if _, err := store.Claim(t.Context(), l); err != nil {
			return err
		}
		return store.Complete(t.Context(), l)
	}
	assert.NoError(t, one("the scripts are in memory"))
	before := serverInfo(t, rdb, "memory", "used_memory")
	const callers = 100
	errs := make([]error, callers)
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for i := caller; i < tasks && errs[caller] == nil; i += callers {
				errs[caller] = one(workKey(i))
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		assert.NoError(t, err)
	}
	return serverInfo(t, rdb, "memory", "used_memory") - before
}

// BenchmarkMemory reports the memory of a finished task in Redis.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(b), ContextTimeoutEnabled: true})
		const tasks = 100_000
		b.ReportMetric(float64(memoryOfTasks(b, rdb, tasks))/tasks, "redis-bytes/task")
		_ = rdb.Close()
	}
}
