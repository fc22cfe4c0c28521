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

// growth is what a task costs as other things grow: the kinds of a worker, the
// tasks in flight, the payload, the tasks that Redis remembers.
func (l *lab) growth(ctx context.Context, report *Report) error {
	if err := l.needRedis(ctx); err != nil {
		return err
	}
	if err := l.needTokens(); err != nil {
		return err
	}
	var all []*experiment
	add := func(r *receiver, of string, size, inFlight, kinds int, body []byte) {
		tasks := newDispatches(kinds, body, l.tokens[:1], &r.next)
		all = append(all, &experiment{
			row: Row{Section: "growth", Name: withHandoff, InFlight: inFlight, Of: of, Size: size},
			run: func(ctx context.Context) (sample, error) { return r.deliver(ctx, inFlight, tasks) },
		})
	}
	for _, kinds := range l.kinds {
		r, err := l.receiver(ctx, setup{Variant: withHandoff, Kinds: kinds})
		if err != nil {
			return err
		}
		add(r, "kinds", kinds, 100, kinds, body(newInvoice()))
	}
	r, err := l.receiver(ctx, setup{Variant: withHandoff})
	if err != nil {
		return err
	}
	for _, inFlight := range l.inFlight {
		add(r, "in flight", inFlight, inFlight, 1, body(newInvoice()))
	}
	for _, size := range l.payloads {
		add(r, "bytes of payload", size, 16, 1, body(newInvoiceOf(size)))
	}
	interleave(ctx, l.rounds, all, l.progress)
	report.Rows = append(report.Rows, results(all)...)
	return l.remember(ctx, report)
}

// remember fills Redis with the records of tasks that are done.
func (l *lab) remember(ctx context.Context, report *Report) error {
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
		l.progress(fmt.Sprintf("growth, Redis remembers %d tasks", tasks))
		err := measure.Calls(ctx, tasks-done, 100, 0, func(i int) error { return finish(ctx, store, done+i) })
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

// finish claims and completes as a Router does.
func finish(ctx context.Context, store *redisstore.Store, i int) error {
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
