package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"sync"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

func measureArrival(ctx context.Context, l *lab) ([]figure, error) {
	e, queues, err := l.emulator(ctx, 1, nil)
	if err != nil {
		return nil, err
	}
	defer e.stop()
	b, addr, err := l.bare(ctx, "relay")
	if err != nil {
		return nil, err
	}
	defer b.end()
	relay, err := connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer relay.Close()
	arrived := make(chan arrival, 1)
	l.target.each(func(path string, at time.Time) { arrived <- arrival{path: path, at: at} })
	var figures []figure
	for _, rest := range rests {
		n := l.tasks(2000)
		taken, floor, called := make([]float64, 0, n), make([]float64, 0, n), make([]float64, 0, n)
		for i := range n + 100 { // of which the first are to warm up
			ours, err := l.createOne(ctx, e.client, queues, arrived, rest)
			if err != nil {
				return nil, err
			}
			bare, err := l.createOne(ctx, relay, queues, arrived, rest)
			if err != nil {
				return nil, err
			}
			call, err := strconv.ParseInt(path.Base(bare.path), 10, 64)
			if err != nil {
				return nil, err
			}
			if i >= 100 {
				taken = append(taken, milliseconds(ours.at.Sub(ours.begun)))
				floor = append(floor, milliseconds(bare.at.Sub(bare.begun)))
				called = append(called, milliseconds(time.Unix(0, call).Sub(bare.begun)))
			}
		}
		figures = append(figures,
			figure{fmt.Sprintf("p50, %v after the task before", rest), median(taken), "ms", atMost(0.5)},
			figure{"  of a gRPC server that sends it on at once", median(floor), "ms", aim{}},
			figure{"  of which until that server is called", median(called), "ms", aim{}},
			figure{"p99", quantile(taken, 0.99), "ms", atMost(1.2)},
			figure{"  of a gRPC server that sends it on at once", quantile(floor, 0.99), "ms", aim{}})
	}
	return figures, nil
}

// rests are how long nothing happens between two tasks. The first keeps to the
// rate of a queue and no more. In the second the machine goes to sleep, after
// which every step takes longer, of the caller and the target too.
var rests = []time.Duration{time.Millisecond, 5 * time.Millisecond}

// arrival is a task that has come to the target.
type arrival struct {
	path  string
	at    time.Time
	begun time.Time // before it was created
}

// createOne creates a task, and returns when it has arrived and the rest is over.
func (l *lab) createOne(ctx context.Context, client *cloudtasks.Client, queues []string, arrived <-chan arrival, rest time.Duration) (arrival, error) {
	begun := time.Now()
	if err := create(ctx, client, queues, 1, 1, func(int) *cloudtaskspb.Task { return l.small(time.Time{}) }); err != nil {
		return arrival{}, err
	}
	select {
	case a := <-arrived:
		a.begun = begun
		return a, pause(ctx, rest)
	case <-ctx.Done():
		return arrival{}, ctx.Err()
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

func measureLate(ctx context.Context, l *lab) ([]figure, error) {
	var p50, p99, most, early []float64
	for range 3 {
		late, err := l.lateness(ctx, l.tasks(3000), l.time(10*time.Second))
		if err != nil {
			return nil, err
		}
		p50, p99, most = append(p50, median(late)), append(p99, quantile(late, 0.99)), append(most, quantile(late, 1))
		n := 0.0
		for _, ms := range late {
			if ms < 0 {
				n++
			}
		}
		early = append(early, n)
	}
	floor, err := l.bareLateness(ctx, l.tasks(3000), 300)
	if err != nil {
		return nil, err
	}
	return []figure{
		{"p50", median(p50), "ms", atMost(0.5)},
		{"  of an HTTP client that does nothing else", median(floor), "ms", aim{}},
		{"p99", median(p99), "ms", atMost(1.5)},
		{"  of an HTTP client that does nothing else", quantile(floor, 0.99), "ms", aim{}},
		{"max", median(most), "ms", atMost(4)},
		{"  of an HTTP client that does nothing else", quantile(floor, 1), "ms", aim{}},
		{"early, of three runs", early[0] + early[1] + early[2], "", atMost(0)},
	}, nil
}

// lateness is by how many milliseconds tasks that are due at even distances
// arrive after that.
func (l *lab) lateness(ctx context.Context, n int, span time.Duration) ([]float64, error) {
	e, queues, err := l.emulator(ctx, 1, nil)
	if err != nil {
		return nil, err
	}
	defer e.stop()
	var mu sync.Mutex
	at, got, failed, done := make([]time.Time, n), 0, error(nil), make(chan struct{})
	l.target.each(func(path string, now time.Time) {
		mu.Lock()
		defer mu.Unlock()
		i, err := strconv.Atoi(path[1:])
		if err == nil && !at[i].IsZero() {
			err = errors.New("it has arrived before")
		}
		if err != nil {
			failed = fmt.Errorf("task %s: %w", path, err)
			return
		}
		at[i] = now
		if got++; got == n {
			close(done)
		}
	})
	// Whole microseconds: the service keeps no more of a schedule time.
	first := time.Now().Add(2 * time.Second).Truncate(time.Microsecond)
	due := func(i int) time.Time {
		return first.Add(span * time.Duration(i) / time.Duration(n)).Truncate(time.Microsecond)
	}
	err = createBatches(ctx, e.client, queues, n, func(i int) *cloudtaskspb.Task { return small(fmt.Sprintf("%s/%d", l.target.url, i), due(i)) })
	if err != nil {
		return nil, err
	}
	if time.Now().After(first) {
		return nil, errors.New("creating the tasks took longer than they were to wait")
	}
	select {
	case <-done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	mu.Lock()
	defer mu.Unlock()
	late := make([]float64, n)
	for i := range late {
		late[i] = milliseconds(at[i].Sub(due(i)))
	}
	return late, failed
}

// bareLateness is by how many milliseconds requests of a bare client, so many a
// second, arrive after they are due.
func (l *lab) bareLateness(ctx context.Context, n, rate int) ([]float64, error) {
	b, _, err := l.bare(ctx, "http")
	if err != nil {
		return nil, err
	}
	defer b.end()
	var mu sync.Mutex
	late := make([]float64, 0, n)
	l.target.each(func(path string, now time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if due, err := strconv.ParseInt(path[1:], 10, 64); err == nil {
			late = append(late, milliseconds(now.Sub(time.Unix(0, due))))
		}
	})
	if err := b.bareHTTP(n, rate, l.target.url); err != nil {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	if len(late) != n {
		return nil, fmt.Errorf("%d of %d requests arrived", len(late), n)
	}
	return late, nil
}
