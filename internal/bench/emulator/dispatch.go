package main

import (
	"context"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// backlog has n due tasks in paused queues, ready to go.
func (l *lab) backlog(ctx context.Context, e *emulator, queues []string, n int) error {
	if err := e.pauseAll(ctx, queues); err != nil {
		return err
	}
	return createBatches(ctx, e.client, queues, n, func(int) *cloudtaskspb.Task { return l.small(time.Time{}) })
}

// drained resumes the queues and waits until n tasks have been answered. It
// returns how long that took and what it cost, in µs of CPU each.
func (l *lab) drained(ctx context.Context, e *emulator, queues []string, n int, work time.Duration) (took time.Duration, each float64, err error) {
	wait := l.target.expect(n, work)
	begun := time.Now()
	each, err = e.cost(n, func() error {
		if err := e.resumeAll(ctx, queues); err != nil {
			return err
		}
		return wait(ctx)
	})
	return time.Since(begun), each, err
}

func measureDispatch(ctx context.Context, l *lab) ([]figure, error) {
	e, queues, err := l.emulator(ctx, 10, nil)
	if err != nil {
		return nil, err
	}
	defer e.stop()
	n := l.tasks(30_000)
	var costs, floors []float64
	for range min(l.rounds, 5) {
		if err := l.backlog(ctx, e, queues, n); err != nil {
			return nil, err
		}
		_, cost, err := l.drained(ctx, e, queues, n, 0)
		if err != nil {
			return nil, err
		}
		_, floor, err := l.bareDrained(ctx, n, 0, 0)
		if err != nil {
			return nil, err
		}
		costs, floors = append(costs, cost), append(floors, floor)
	}
	return []figure{
		{"CPU a dispatch", median(costs), "µs", atMost(90)},
		{"  of an HTTP client that does nothing else", median(floors), "µs", aim{}},
	}, nil
}

// bareDrained has a bare client send n requests, so many a second or, at 0, as
// fast as it can. It returns what drained does.
func (l *lab) bareDrained(ctx context.Context, n, rate int, work time.Duration) (took time.Duration, each float64, err error) {
	b, _, err := l.bare(ctx, "http")
	if err != nil {
		return 0, 0, err
	}
	defer b.end()
	wait := l.target.expect(n, work)
	begun := time.Now()
	each, err = b.cost(n, func() error {
		if err := b.bareHTTP(n, rate, l.target.url); err != nil {
			return err
		}
		return wait(ctx)
	})
	return time.Since(begun), each, err
}

func measurePaced(ctx context.Context, l *lab) ([]figure, error) {
	n := l.tasks(5000)
	_, costs, err := l.drainOf(ctx, 1, n, nil, 0)
	if err != nil {
		return nil, err
	}
	_, floor, err := l.bareDrained(ctx, n, 500, 0)
	if err != nil {
		return nil, err
	}
	return []figure{
		{"CPU a dispatch", median(costs), "µs", atMost(160)},
		{"  of an HTTP client that does nothing else", floor, "µs", aim{}},
	}, nil
}

func measureDrain(ctx context.Context, l *lab) ([]figure, error) {
	limits := &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 500, MaxConcurrentDispatches: 100}
	rate, cost, err := l.drainOf(ctx, 40, l.tasks(100_000), limits, 0)
	if err != nil {
		return nil, err
	}
	return []figure{
		{"tasks a second", median(rate), "", atLeast(14_000)},
		{"CPU a dispatch", median(cost), "µs", aim{}},
	}, nil
}

func measureSlow(ctx context.Context, l *lab) ([]figure, error) {
	const work = 50 * time.Millisecond
	limits := &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 10_000, MaxConcurrentDispatches: bareCallers}
	n := l.tasks(20_000)
	rates, costs, err := l.drainOf(ctx, 1, n, limits, work)
	if err != nil {
		return nil, err
	}
	took, floor, err := l.bareDrained(ctx, n, 0, work)
	if err != nil {
		return nil, err
	}
	return []figure{
		{"tasks a second", median(rates), "", atLeast(1950)},
		{"  of an HTTP client that does nothing else", float64(n) / took.Seconds(), "", aim{}},
		{"CPU a dispatch", median(costs), "µs", aim{}},
		{"  of an HTTP client that does nothing else", floor, "µs", aim{}},
	}, nil
}

// drainOf lets n tasks go from so many queues, three times, and returns how
// many it were a second, and what each cost.
func (l *lab) drainOf(ctx context.Context, queues, n int, limits *cloudtaskspb.RateLimits, work time.Duration) (rates, costs []float64, err error) {
	e, names, err := l.emulator(ctx, queues, limits, "--no-limits")
	if err != nil {
		return nil, nil, err
	}
	defer e.stop()
	for range 3 {
		if err := l.backlog(ctx, e, names, n); err != nil {
			return nil, nil, err
		}
		took, cost, err := l.drained(ctx, e, names, n, work)
		if err != nil {
			return nil, nil, err
		}
		rates, costs = append(rates, float64(n)/took.Seconds()), append(costs, cost)
	}
	return rates, costs, nil
}
