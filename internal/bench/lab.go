package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

// scale is how long and how often everything runs.
type scale struct {
	rounds      int
	length      time.Duration // of one run of a load
	most        int           // tasks of it
	levels      []int         // in flight
	tokens      int           // of those that are always new
	asynqTasks  int
	riverJobs   int
	riverSlow   int // jobs of the configuration that does a thousand a second
	endToEnd    int // tasks
	paced       int
	creates     int // of one round
	createRuns  int // rounds of the comparison of enqueues for each of the others: its differences are small
	kinds       []int
	inFlight    []int
	payloads    []int // bytes
	remembered  []int // keys in Redis
	soak        time.Duration
	batchMemory int // payloads of the batch whose memory is measured
}

var (
	full = scale{
		rounds: 5, length: 1500 * time.Millisecond, most: 1 << 30, levels: []int{1, 16, 100, 500}, tokens: forgotten,
		asynqTasks: 10_000, riverJobs: 20_000, riverSlow: 3_000,
		endToEnd: 20_000, paced: 2_000, creates: 2_000, createRuns: 6,
		kinds: []int{1, 10, 100, 1000}, inFlight: []int{1, 10, 100, 1000}, payloads: []int{100, 1_000, 10_000, 100_000, 1_000_000},
		remembered: []int{1_000, 10_000, 100_000, 1_000_000}, soak: 10 * time.Minute, batchMemory: 1_000_000,
	}
	// quick shows that everything works. Its figures are worth nothing.
	quick = scale{
		rounds: 1, length: 100 * time.Millisecond, most: 200, levels: []int{16}, tokens: 900,
		asynqTasks: 200, riverJobs: 500, riverSlow: 100,
		endToEnd: 300, paced: 50, creates: 100, createRuns: 1,
		kinds: []int{1, 1000}, inFlight: []int{1, 100}, payloads: []int{100, 100_000},
		remembered: []int{100, 1_000}, soak: time.Second, batchMemory: 10_000,
	}
)

// lab has what the experiments run on. What a section needs is started when it
// asks for it, and everything is stopped at the end.
type lab struct {
	scale

	profile  string // file for the CPU profile of the worker with handoff
	progress func(text string)

	redisServer *daemon
	rdb         *redis.Client
	postgres    *daemon
	pool        *pgxpool.Pool
	keys        *signer
	tokens      []string // always new, in turn
	stops       []func() error
}

// close stops what was started last first.
func (l *lab) close() error {
	var errs []error
	for i := range l.stops {
		errs = append(errs, l.stops[len(l.stops)-1-i]())
	}
	l.stops = nil
	return errors.Join(errs...)
}

func (l *lab) onClose(stop func() error) { l.stops = append(l.stops, stop) }

func (l *lab) needRedis(ctx context.Context) error {
	if l.redisServer != nil {
		return nil
	}
	d, err := startRedis(ctx)
	if err != nil {
		return err
	}
	l.redisServer = d
	l.rdb = redis.NewClient(&redis.Options{Addr: d.addr})
	l.onClose(d.stop)
	l.onClose(l.rdb.Close)
	return nil
}

func (l *lab) needPostgres(ctx context.Context) error {
	if l.postgres != nil {
		return nil
	}
	d, err := startPostgres(ctx)
	if err != nil {
		return err
	}
	l.postgres = d
	l.onClose(d.stop)
	if l.pool, err = pgxpool.New(ctx, d.postgres()); err != nil {
		return err
	}
	l.onClose(func() error { l.pool.Close(); return nil })
	return migrateRiver(ctx, l.pool)
}

func (l *lab) needTokens() error {
	if l.keys != nil {
		return nil
	}
	s, err := startSigner()
	if err != nil {
		return err
	}
	l.keys = s
	l.onClose(s.stop)
	l.progress("signing tokens")
	l.tokens = s.sign(l.scale.tokens)
	return nil
}

// child starts a process of this program.
func (l *lab) child(ctx context.Context, name string, s setup) (*child, error) {
	c, err := startChild(ctx, name, s)
	if err != nil {
		return nil, err
	}
	l.onClose(c.stop)
	return c, nil
}

// empty forgets what was in Redis, before a run.
func (l *lab) empty(ctx context.Context) error { return l.rdb.FlushAll(ctx).Err() }
