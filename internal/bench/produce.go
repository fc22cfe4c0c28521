package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/brillconsulting/handoff/internal/bench/measure"
	"github.com/brillconsulting/handoff/internal/bench/producer"
)

// Ways to enqueue that are not Cloud Tasks'.
const (
	asynqCreate = "asynq Enqueue"
	riverMany   = "river InsertMany, 1,000 at a time"
)

// producing is the process that enqueues, by the means of every side.
type producing struct {
	setup setup

	tasks *producer.Producer
	rdb   *redis.Client
	asynq *asynq.Client
	pool  *pgxpool.Pool
	river *river.Client[pgx.Tx]
}

func newProducer(ctx context.Context, s setup) (role, answer, error) {
	p := &producing{setup: s}
	tasks, err := producer.New(ctx, s.Emulator, s.Worker)
	if err != nil {
		return p, answer{}, err
	}
	p.tasks = tasks
	p.rdb = redis.NewClient(&redis.Options{Addr: s.Redis})
	p.asynq = asynq.NewClient(asynq.RedisClientOpt{Addr: s.Redis})
	if s.Postgres != "" {
		err = p.usePostgres(ctx)
	}
	return p, answer{}, err
}

func (p *producing) usePostgres(ctx context.Context) error {
	var err error
	if p.pool, err = pgxpool.New(ctx, p.setup.Postgres); err != nil {
		return err
	}
	p.river, err = river.NewClient(riverpgxv5.New(p.pool), &river.Config{Logger: riverLog()})
	return err
}

func (p *producing) carryOut(ctx context.Context, o order) (answer, error) {
	switch o.Do {
	case "handoff":
		return answer{}, measure.Calls(ctx, o.Tasks, o.Callers, o.Rate, func(int) error {
			_, err := p.tasks.Handoff.Enqueue(ctx, sentNow())
			return err
		})
	case "asynq":
		return answer{}, measure.Calls(ctx, o.Tasks, o.Callers, o.Rate, func(int) error { return p.enqueueAsynq(ctx, sentNow()) })
	case "compare":
		costs, err := producer.Compare(o.Rounds, o.Tasks, p.ways(ctx, o.Callers))
		return answer{Costs: costs}, err
	case "batch":
		peak, cpu, err := p.tasks.LargeBatch(ctx, o.Tasks)
		return answer{Heap: peak, Costs: []producer.Costs{{Name: producer.Batch, Costs: []measure.Cost{{CPU: cpu}}}}}, err
	}
	return answer{}, fmt.Errorf("cannot %q", o.Do)
}

func sentNow() invoice {
	in := newInvoice()
	in.Sent = time.Now().UnixNano()
	return in
}

// ways to enqueue: one task a call, or many if there are no callers.
func (p *producing) ways(ctx context.Context, callers int) []producer.Way {
	if callers == 0 {
		return append(p.tasks.Many(ctx, p.setup.EmulatorPID), producer.Way{
			Name: riverMany, Server: p.setup.PostgresPID,
			Run:   func(n int) error { return p.insertMany(ctx, n) },
			Empty: func() error { return truncateRiver(ctx, p.pool) },
		})
	}
	return append(p.tasks.One(ctx, p.setup.EmulatorPID, callers), producer.Way{
		Name: asynqCreate, Server: p.setup.RedisPID,
		Run: func(n int) error {
			return measure.Calls(ctx, n, callers, 0, func(int) error { return p.enqueueAsynq(ctx, newInvoice()) })
		},
		Empty: func() error { return p.rdb.FlushAll(ctx).Err() },
	})
}

func (p *producing) enqueueAsynq(ctx context.Context, in invoice) error {
	_, err := p.asynq.EnqueueContext(ctx, asynq.NewTask(kind, body(in)))
	return err
}

func (p *producing) insertMany(ctx context.Context, n int) error {
	for left := n; left > 0; left -= 1000 {
		if _, err := p.river.InsertMany(ctx, manyInvoices(min(left, 1000))); err != nil {
			return err
		}
	}
	return nil
}

func (p *producing) close() error {
	var errs []error
	if p.tasks != nil {
		errs = append(errs, p.tasks.Close(), p.rdb.Close(), p.asynq.Close())
	}
	if p.pool != nil {
		p.pool.Close()
	}
	return errors.Join(errs...)
}
