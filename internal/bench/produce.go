package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/hibiken/asynq"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	location    = "projects/bench/locations/here"
	pausedQueue = "paused"
)

// producer is the process that enqueues, by the means of every side.
type producer struct {
	setup setup

	tasks *cloudtasks.Client
	typed *handoff.Client
	rdb   *redis.Client
	asynq *asynq.Client
	pool  *pgxpool.Pool
	river *river.Client[pgx.Tx]
}

func newProducer(ctx context.Context, s setup) (role, answer, error) {
	p := &producer{setup: s}
	var err error
	if s.Emulator != "" {
		err = errors.Join(err, p.useEmulator(ctx))
	}
	if s.Redis != "" {
		p.rdb = redis.NewClient(&redis.Options{Addr: s.Redis})
		p.asynq = asynq.NewClient(asynq.RedisClientOpt{Addr: s.Redis})
	}
	if s.Postgres != "" {
		err = errors.Join(err, p.usePostgres(ctx))
	}
	return p, answer{}, err
}

func (p *producer) useEmulator(ctx context.Context) error {
	options := []option.ClientOption{
		option.WithEndpoint(p.setup.Emulator),
		option.WithoutAuthentication(),
		option.WithTelemetryDisabled(), // on neither side: it costs more than what is measured here
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
	var err error
	if p.tasks, err = cloudtasks.NewClient(ctx, options...); err != nil {
		return err
	}
	p.typed, err = handoff.NewClient(ctx, handoff.ClientConfig{
		Project: "bench", Location: "here",
		Target:  handoff.HTTPTarget{URL: p.setup.Worker, ServiceAccount: oidctest.Email, Audience: oidctest.Audience},
		Policy:  handoff.Policy{Queue: queue},
		Options: options,
	})
	return err
}

func (p *producer) usePostgres(ctx context.Context) error {
	var err error
	if p.pool, err = pgxpool.New(ctx, p.setup.Postgres); err != nil {
		return err
	}
	p.river, err = river.NewClient(riverpgxv5.New(p.pool), &river.Config{Logger: riverLog()})
	return err
}

// makeQueues makes one that dispatches, so many at once, and one that keeps its
// tasks, and the emulator its peace.
func makeQueues(ctx context.Context, emulator string, atOnce int) error {
	client, err := cloudtasks.NewClient(ctx, option.WithEndpoint(emulator), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		return err
	}
	defer client.Close()
	for _, id := range []string{queue, pausedQueue} {
		_, err := client.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: &cloudtaskspb.Queue{
			Name:       location + "/queues/" + id,
			RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 1_000_000, MaxConcurrentDispatches: int32(atOnce)},
		}})
		if err != nil {
			return err
		}
	}
	_, err = client.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: location + "/queues/" + pausedQueue})
	return err
}

func (p *producer) carryOut(ctx context.Context, o order) (answer, error) {
	switch o.Do {
	case "handoff":
		return answer{}, send(ctx, o, func() error {
			_, err := p.typed.Enqueue(ctx, sentNow())
			return err
		})
	case "asynq":
		return answer{}, send(ctx, o, func() error {
			_, err := p.asynq.EnqueueContext(ctx, asynq.NewTask(kind, body(sentNow())))
			return err
		})
	case "compare":
		costs, err := p.compare(ctx, o)
		return answer{Costs: costs}, err
	case "batch":
		return p.largeBatch(ctx, o.Tasks)
	}
	return answer{}, fmt.Errorf("cannot %q", o.Do)
}

func sentNow() invoice {
	in := newInvoice()
	in.Sent = time.Now().UnixNano()
	return in
}

// send makes the calls that the order asks for. At a rate, each is made at its
// time, or late if the callers cannot keep up.
func send(ctx context.Context, o order, call func() error) error {
	var next, failed atomic.Int64
	var first atomic.Value
	begun := time.Now()
	var work sync.WaitGroup
	for range o.Callers {
		work.Go(func() {
			for i := next.Add(1) - 1; i < int64(o.Tasks) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if o.Rate > 0 {
					time.Sleep(time.Until(begun.Add(time.Duration(float64(i) / o.Rate * float64(time.Second)))))
				}
				if err := call(); err != nil {
					failed.Add(1)
					first.CompareAndSwap(nil, err)
				}
			}
		})
	}
	work.Wait()
	if err, _ := first.Load().(error); err != nil {
		return fmt.Errorf("%d of %d could not be enqueued: %w", failed.Load(), o.Tasks, err)
	}
	return ctx.Err()
}

func (p *producer) close() error {
	var errs []error
	if p.tasks != nil {
		errs = append(errs, p.tasks.Close(), p.typed.Close())
	}
	if p.rdb != nil {
		errs = append(errs, p.rdb.Close(), p.asynq.Close())
	}
	if p.pool != nil {
		p.pool.Close()
	}
	return errors.Join(errs...)
}
