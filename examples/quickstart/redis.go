package main

import (
	"os"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// openRedis connects to REDIS_ADDR, or to a Redis in this process.
func openRedis() (rdb *redis.Client, where string, stop func(), err error) {
	if addr := os.Getenv("REDIS_ADDR"); addr != "" {
		rdb = redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
		return rdb, addr, func() { _ = rdb.Close() }, nil
	}
	mini, err := miniredis.Run()
	if err != nil {
		return nil, "", nil, err
	}
	rdb = redis.NewClient(&redis.Options{Addr: mini.Addr(), ContextTimeoutEnabled: true})
	stopClock := runClock(mini)
	return rdb, "embedded (miniredis)", func() {
		_ = rdb.Close()
		stopClock()
		mini.Close()
	}, nil
}

// runClock moves the time of miniredis, which does not pass by itself, so that
// keys expire.
func runClock(mini *miniredis.Miniredis) (stop func()) {
	const tick = 100 * time.Millisecond
	ticker := time.NewTicker(tick)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-ticker.C:
				mini.FastForward(tick)
			case <-quit:
				return
			}
		}
	})
	return func() {
		ticker.Stop()
		close(quit)
		wg.Wait()
	}
}
