package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/fence"
	"github.com/brillconsulting/handoff/redisstore"
	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

// remember fills Redis with the records of tasks that are done.
func (l *lab) remember(ctx context.Context, report *Report) error {
	if err := l.needRedis(ctx); err != nil {
		return err
	}
	rdb := redis.NewClient(&redis.Options{Addr: l.redisServer.addr, ContextTimeoutEnabled: true})
	defer rdb.Close()
	store := redisstore.New(rdb, nil)
	if err := l.empty(ctx); err != nil {
		return err
	}
	before, err := usedMemory(ctx, rdb)
	if err != nil {
		return err
	}
	done := 0
	for _, tasks := range l.remembered {
		l.progress(fmt.Sprintf("Redis remembers %d tasks", tasks))
		err := measure.Calls(ctx, tasks-done, 100, 0, func(i int) error { return complete(ctx, store, done+i) })
		if err != nil {
			return err
		}
		done = tasks
		used, err := usedMemory(ctx, rdb)
		if err != nil {
			return err
		}
		report.Memory = append(report.Memory, Memory{Tasks: tasks, Bytes: float64(used-before) / float64(tasks)})
	}
	return l.empty(ctx)
}

// complete claims and completes a task as a Router does.
func complete(ctx context.Context, store *redisstore.Store, i int) error {
	id := strconv.Itoa(i)
	lease := handoff.Lease{Key: fence.IDKey(id), Owner: id, TTL: 30 * time.Second, Window: 25 * time.Hour}
	claim, err := store.Claim(ctx, lease)
	if err != nil {
		return err
	}
	if claim.Status != handoff.ClaimAcquired {
		return fmt.Errorf("claim of a new task: status %d", claim.Status)
	}
	return store.Complete(ctx, lease)
}

func usedMemory(ctx context.Context, rdb *redis.Client) (int64, error) {
	info, err := rdb.Info(ctx, "memory").Result()
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(info, "used_memory:")
	text, _, _ := strings.Cut(rest, "\r\n")
	return strconv.ParseInt(text, 10, 64)
}
