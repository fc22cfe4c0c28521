package redisstore_test

import (
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/redistest"
	"github.com/brillconsulting/handoff/redisstore"
)

// TestSentinel: after a failover, the store's client finds the new master.
func TestSentinel(t *testing.T) {
	t.Parallel()
	const name = "fence"
	master, replica := redistest.Run(t), redistest.Run(t)
	follower := redis.NewClient(&redis.Options{Addr: replica.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = follower.Close() })
	host, port, err := net.SplitHostPort(master.Addr())
	assert.NoError(t, err)
	assert.NoError(t, follower.ReplicaOf(t.Context(), host, port).Err())
	sentinel := redistest.Sentinel(t, name, master)
	watch := redis.NewSentinelClient(&redis.Options{Addr: sentinel})
	t.Cleanup(func() { _ = watch.Close() })
	assert.Eventually(t, 30*time.Second, func() bool {
		replicas, err := watch.Replicas(t.Context(), name).Result()
		return err == nil && len(replicas) == 1
	}, "the sentinel to see the replica")

	rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: name, SentinelAddrs: []string{sentinel}, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	store := redisstore.New(rdb, nil)
	life(t, store, "k", 60, func() {})
	synced, err := rdb.Wait(t.Context(), 1, 10*time.Second).Result()
	assert.NoError(t, err)
	assert.Equal(t, synced, 1)

	master.Kill()
	var claim handoff.Claim
	assert.Eventually(t, 60*time.Second, func() bool {
		claim, err = store.Claim(t.Context(), leaseOf("after", "a"))
		return err == nil
	}, "the store to find the new master")
	assert.Equal(t, claim.Status, handoff.ClaimAcquired)
	wantLife(t, store, "k", 60)
}
