package redisstore_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/redistest"
	"github.com/brillconsulting/handoff/redisstore"
)

// BenchmarkFence compares the fence of one task, a claim and a completion, with
// the minimum: two plain SETs by the same client, each in a round trip of its own
// ("sets") or in shared round trips ("sets-shared").
//
// An op is a task. client-us and redis-us are the CPU time per task of the client
// and of Redis, which varies less than wall time on a shared machine.
func BenchmarkFence(b *testing.B) {
	for _, callers := range []int{1, 10, 100, 500} {
		rdb := redis.NewClient(&redis.Options{
			Addr:                  redistest.Start(b),
			ContextTimeoutEnabled: true,
			PoolSize:              callers,
		})
		b.Cleanup(func() { _ = rdb.Close() })
		store := redisstore.New(rdb, nil)
		for _, side := range []struct {
			name string
			task func(ctx context.Context, key, owner string) error
		}{
			{"sets", func(ctx context.Context, key, owner string) error {
				if err := rdb.Set(ctx, "handoff:"+key, owner, time.Hour).Err(); err != nil {
					return err
				}
				return rdb.Set(ctx, "handoff:"+key, "done", time.Hour).Err()
			}},
			{"fence", func(ctx context.Context, key, owner string) error {
				l := handoff.Lease{Key: key, Owner: owner, TTL: 30 * time.Second, Window: time.Hour}
				if c, err := store.Claim(ctx, l); err != nil || c.Status != handoff.ClaimAcquired {
					return fmt.Errorf("claim: %+v, %w", c, err)
				}
				return store.Complete(ctx, l)
			}},
		} {
			b.Run(fmt.Sprintf("callers=%d/%s", callers, side.name), func(b *testing.B) {
				if err := rdb.FlushDB(context.Background()).Err(); err != nil {
					b.Fatal(err)
				}
				measure(b, rdb, callers, side.task)
			})
		}
	}
}

func measure(b *testing.B, rdb *redis.Client, callers int, task func(ctx context.Context, key, owner string) error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.ReportAllocs()
	client, server := clientCPU(b), redisCPU(b, rdb)
	b.ResetTimer()
	var next atomic.Int64
	var work sync.WaitGroup
	for range callers {
		work.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := task(ctx, fmt.Sprintf("%022d", i), fmt.Sprintf("%022d", i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	b.StopTimer()
	perTask := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(b.N) }
	b.ReportMetric(perTask(clientCPU(b)-client), "client-us")
	b.ReportMetric(perTask(redisCPU(b, rdb)-server), "redis-us")
}

func clientCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func redisCPU(b *testing.B, rdb *redis.Client) time.Duration {
	b.Helper()
	info, err := rdb.Info(context.Background(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	var total float64
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			total += seconds
		}
	}
	return time.Duration(total * float64(time.Second))
}

// BenchmarkLetter reports the memory of a dead letter in Redis, including its
// entries in the indexes.
func BenchmarkLetter(b *testing.B) {
	for _, size := range []int{200, 2000, 20_000} {
		b.Run(fmt.Sprintf("payload=%d", size), func(b *testing.B) {
			for b.Loop() {
				rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(b), ContextTimeoutEnabled: true})
				store := redisstore.NewDeadLetters(rdb, nil)
				const letters = 2000
				before := serverInfo(b, rdb, "memory", "used_memory")
				for i := range letters {
					letter := handoff.DeadLetter{
						ID: fmt.Sprintf("%026d.0", i), HandoffID: fmt.Sprintf("%026d", i), Kind: "welcome-email", Queue: "emails",
						Task: fmt.Sprintf("%020d", i), Target: "https://worker.example.com/tasks/welcome-email",
						Payload: []byte(strings.Repeat("x", size)), Reasons: []handoff.Reason{handoff.ReasonPermanent},
						Attempts: 1, FirstAt: time.Now(), BuriedAt: time.Now(), LastErr: "no such user",
					}
					if err := store.Put(b.Context(), letter); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(serverInfo(b, rdb, "memory", "used_memory")-before)/letters, "redis-bytes/letter")
				_ = rdb.Close()
			}
		})
	}
}
