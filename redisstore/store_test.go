package redisstore_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/redistest"
	"github.com/brillconsulting/handoff/redisstore"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

func connect(t testing.TB, addrs ...string) redis.UniversalClient {
	t.Helper()
	rdb := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: addrs, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func TestStore(t *testing.T) {
	t.Parallel()
	for name, addrs := range map[string]func(t *testing.T) []string{
		"redis":   func(t *testing.T) []string { return []string{redistest.Start(t)} },
		"cluster": func(t *testing.T) []string { return redistest.Cluster(t, 3).Addrs() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := connect(t, addrs(t)...)
			handofftest.TestStore(t, func(t *testing.T) handoff.Store {
				return redisstore.New(rdb, &redisstore.Options{Prefix: t.Name() + ":"})
			})
		})
	}
}

// onMiniredis is a Store whose clock advances only by Advance.
type onMiniredis struct {
	*redisstore.Store
	server *miniredis.Miniredis
	now    time.Time
}

func (s *onMiniredis) Advance(d time.Duration) {
	s.now = s.now.Add(d)
	s.server.SetTime(s.now)
	s.server.FastForward(d)
}

func TestStoreOnMiniredis(t *testing.T) {
	t.Parallel()
	handofftest.TestStore(t, func(t *testing.T) handoff.Store {
		s := &onMiniredis{server: miniredis.RunT(t), now: time.Now()}
		s.Advance(0)
		s.Store = redisstore.New(connect(t, s.server.Addr()), nil)
		return s
	})
}
