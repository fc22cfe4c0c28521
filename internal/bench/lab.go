package main

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// scale is how much of everything is run.
type scale struct {
	rounds      int
	length      time.Duration // of one run under load
	tasksMax    int           // maximum of tasks in it
	levels      []int         // requests in flight
	tokens      int           // how many always-new tokens to sign
	asynqTasks  int
	creates     int   // per round
	batchMemory int   // payloads in the batch whose memory is measured
	remembered  []int // tasks in Redis

	dispatched, drained, scheduled, done, waiting int           // tasks in each part of the emulator section
	settled, watched                              time.Duration // wait before memory is read; time for which an idle emulator's CPU is measured
}

var (
	full = scale{
		rounds: 3, length: 1500 * time.Millisecond, tasksMax: 1 << 30, levels: []int{1, 16, 100, 500}, tokens: forgotten,
		asynqTasks: 10_000, creates: 2_000, batchMemory: 1_000_000, remembered: []int{1_000, 10_000, 100_000, 1_000_000},
		dispatched: 30_000, drained: 100_000, scheduled: 3_000, done: 99_000, waiting: 1_000_000, settled: settled, watched: time.Minute,
	}
	// quick only shows that everything works. Its figures mean nothing.
	quick = scale{
		rounds: 1, length: 100 * time.Millisecond, tasksMax: 200, levels: []int{16}, tokens: 900,
		asynqTasks: 200, creates: 100, batchMemory: 10_000, remembered: []int{100, 1_000},
		dispatched: 300, drained: 1_000, scheduled: 30, done: 990, waiting: 10_000, settled: 100 * time.Millisecond, watched: 100 * time.Millisecond,
	}
)

// lab holds the processes that the experiments use. Each is started when a section
// first needs it, and stopped by close.
type lab struct {
	scale

	progress func(text string)

	redisServer *daemon
	rdb         *redis.Client
	keys        *signer
	tokens      []string // used in turn, so that each is new to the verifier
	stops       []func() error
}

// close stops everything in the reverse order of its start.
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

// empty flushes Redis before a run.
func (l *lab) empty(ctx context.Context) error { return l.rdb.FlushAll(ctx).Err() }
