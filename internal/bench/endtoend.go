package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff/internal/bench/producer"
)

// Sides of the way from enqueue to done.
const (
	handoffSide = "handoff, emulator"
	fastest     = "as fast as it goes"
)

// endToEnd enqueues and processes at the same time: as fast as it goes, and at
// the 500 tasks a second of one queue of Cloud Tasks, where latency means
// something.
func (l *lab) endToEnd(ctx context.Context) ([]Row, error) {
	if err := l.needRedis(ctx); err != nil {
		return nil, err
	}
	emulator, err := l.child(ctx, "emulator", setup{})
	if err != nil {
		return nil, err
	}
	if err := producer.MakeQueues(ctx, emulator.first.Addr, 100); err != nil {
		return nil, err
	}
	worker, err := l.child(ctx, "worker", setup{Variant: withHandoff, Redis: l.redisServer.addr, Keys: emulator.first.Keys})
	if err != nil {
		return nil, err
	}
	p, err := l.child(ctx, "producer", setup{
		Emulator: emulator.first.Addr, Worker: "http://" + worker.first.Addr + "/tasks", Redis: l.redisServer.addr,
	})
	if err != nil {
		return nil, err
	}
	var all []*experiment
	for _, rate := range []float64{0, 500} {
		all = append(all, l.way(handoffSide, "handoff", rate, p, worker, emulator))
		for _, variant := range []string{"README", "tuned"} {
			c, err := l.child(ctx, "asynq", setup{Variant: variant, Redis: l.redisServer.addr})
			if err != nil {
				return nil, err
			}
			all = append(all, l.way("asynq, "+variant, "asynq", rate, p, c, nil))
		}
	}
	interleave(ctx, l.rounds, all, l.progress)
	return results(all), nil
}

// settled is how long the marks of the last tasks may take after their handlers.
const settled = 100 * time.Millisecond

// way is from one producer to one worker.
func (l *lab) way(name, means string, rate float64, p, worker, emulator *child) *experiment {
	tasks := l.scale.endToEnd
	row := Row{Section: "end to end", Name: name, Of: fastest}
	if rate > 0 {
		tasks = l.paced
		row.Of, row.Size = "tasks a second", int(rate)
	}
	m := meters{}.with(producerCPU, p.pid()).with(workerCPU, worker.pid()).with(redisCPU, l.redisServer.pid())
	if emulator != nil {
		m.with(emulatorCPU, emulator.pid())
	}
	run := func(ctx context.Context) (sample, error) {
		if err := l.empty(ctx); err != nil {
			return sample{}, err
		}
		if _, err := worker.ask(order{Do: "reset"}); err != nil {
			return sample{}, err
		}
		s := sample{tasks: tasks}
		var err error
		s.cpu, err = m.during(func() error {
			begun := time.Now()
			sent := make(chan error, 1)
			go func() {
				_, err := p.ask(order{Do: means, Tasks: tasks, Callers: 64, Rate: rate})
				sent <- err
			}()
			if emulator == nil {
				// Started on an empty queue, asynq would not look again for a second.
				time.Sleep(50 * time.Millisecond)
				if _, err := worker.ask(order{Do: "start"}); err != nil {
					return errors.Join(err, <-sent)
				}
			}
			if err := <-sent; err != nil {
				return err
			}
			if _, err := worker.ask(order{Do: "await", Tasks: tasks}); err != nil {
				return err
			}
			s.wall = time.Since(begun)
			time.Sleep(settled)
			return nil
		})
		if err != nil {
			return sample{}, err
		}
		a, err := worker.ask(order{Do: "tell"})
		if err != nil {
			return sample{}, err
		}
		s.p50, s.p99 = a.P50, a.P99
		if emulator != nil {
			return s, checkFence(ctx, l.rdb, tasks)
		}
		if _, err := worker.ask(order{Do: "stop"}); err != nil {
			return sample{}, err
		}
		return s, checkAsynq(ctx, l.rdb, tasks)
	}
	return &experiment{row: row, run: run}
}

// checkFence makes sure that there is a record of each task, and nothing else.
func checkFence(ctx context.Context, rdb *redis.Client, tasks int) error {
	records, err := rdb.DBSize(ctx).Result()
	if err == nil && records != int64(tasks) {
		err = fmt.Errorf("%d records of %d tasks in Redis", records, tasks)
	}
	return err
}
