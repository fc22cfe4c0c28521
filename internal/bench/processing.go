package main

import (
	"context"
	"time"

	"github.com/hibiken/asynq"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

// Kinds of tokens that deliveries carry.
const (
	seenToken = "seen before"
	newTokens = "always new"
)

// processing compares the cost of a task on the sides asked for, in one interleaved
// series.
func (l *lab) processing(ctx context.Context, worker, withAsynq bool) ([]Row, error) {
	var all []*experiment
	for _, side := range []struct {
		wanted bool
		make   func(context.Context) ([]*experiment, error)
	}{{worker, l.workers}, {withAsynq, l.asynqs}} {
		if !side.wanted {
			continue
		}
		some, err := side.make(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	interleave(ctx, l.rounds, all, l.progress)
	return results(all), nil
}

func results(experiments []*experiment) []Row {
	rows := make([]Row, len(experiments))
	for i, e := range experiments {
		rows[i] = e.result()
	}
	return rows
}

// workers returns the experiments that receive tasks over HTTP. Only handoff
// remembers tokens, so the others run with one kind of them.
func (l *lab) workers(ctx context.Context) ([]*experiment, error) {
	if err := l.needRedis(ctx); err != nil {
		return nil, err
	}
	if err := l.needTokens(); err != nil {
		return nil, err
	}
	request := string(body(newInvoice()))
	var all []*experiment
	for _, variant := range []string{bareEcho, obviousWay, withHandoff, withTelemetry} {
		r, err := l.receiver(ctx, setup{Variant: variant})
		if err != nil {
			return nil, err
		}
		seen := newDispatches(r.first.Addr, request, l.tokens[:1], &r.next)
		fresh := newDispatches(r.first.Addr, request, l.tokens, &r.next)
		for _, inFlight := range l.levels {
			row := Row{Section: "worker", Name: variant, Token: seenToken, InFlight: inFlight}
			all = append(all, &experiment{row: row, run: func(ctx context.Context) (sample, error) {
				return r.deliver(ctx, inFlight, seen)
			}})
			if variant == bareEcho || variant == obviousWay {
				continue
			}
			row.Token = newTokens
			all = append(all, &experiment{row: row, run: func(ctx context.Context) (sample, error) {
				return r.deliver(ctx, inFlight, fresh)
			}})
		}
	}
	return all, nil
}

// asynqs returns the experiments that drain a queue which was filled before.
func (l *lab) asynqs(ctx context.Context) ([]*experiment, error) {
	if err := l.needRedis(ctx); err != nil {
		return nil, err
	}
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: l.redisServer.addr})
	l.onClose(client.Close)
	var all []*experiment
	for _, variant := range []string{"README", "tuned"} {
		c, err := l.child(ctx, "asynq", setup{Variant: variant, Redis: l.redisServer.addr})
		if err != nil {
			return nil, err
		}
		all = append(all, &experiment{
			row: Row{Section: "asynq", Name: "asynq, " + variant, InFlight: asynqConfigs[variant].Concurrency},
			run: func(ctx context.Context) (sample, error) {
				if err := l.empty(ctx); err != nil {
					return sample{}, err
				}
				if err := fillAsynq(ctx, client, l.asynqTasks); err != nil {
					return sample{}, err
				}
				s, err := drainAsynq(c, l.asynqTasks, meters{}.with(workerCPU, c.pid()).with(redisCPU, l.redisServer.pid()))
				if err != nil {
					return sample{}, err
				}
				return s, checkAsynq(ctx, l.rdb, l.asynqTasks)
			},
		})
	}
	return all, nil
}

func fillAsynq(ctx context.Context, client *asynq.Client, tasks int) error {
	payload := body(newInvoice())
	return measure.Calls(ctx, tasks, 64, 0, func(int) error {
		_, err := client.EnqueueContext(ctx, asynq.NewTask(kind, payload))
		return err
	})
}

// drainAsynq has a child handle all tasks in the queue. It measures from the start of
// the child's server until that has stopped, which is when every task is recorded.
func drainAsynq(c *child, tasks int, m meters) (sample, error) {
	if _, err := c.ask(command{Do: "reset"}); err != nil {
		return sample{}, err
	}
	s := sample{tasks: tasks}
	var err error
	s.cpu, err = m.during(func() error {
		begun := time.Now()
		if _, err := c.ask(command{Do: "start"}); err != nil {
			return err
		}
		if _, err := c.ask(command{Do: "await", Tasks: tasks}); err != nil {
			return err
		}
		s.wall = time.Since(begun)
		_, err := c.ask(command{Do: "stop"})
		return err
	})
	return s, err
}
