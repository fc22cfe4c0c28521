package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// measureRate lets queues of different rates go at the same time.
func measureRate(ctx context.Context, l *lab) ([]figure, error) {
	const span = 8 * time.Second // not scaled: at one a second there is little less to see
	rates := []float64{1, 1.5, 10, 50, 100, 300, 500}
	e, _, err := l.emulator(ctx, 0, nil)
	if err != nil {
		return nil, err
	}
	defer e.stop()
	var mu sync.Mutex
	at := make([][]time.Time, len(rates))
	l.target.each(func(path string, now time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if i, err := strconv.Atoi(path[1:]); err == nil {
			at[i] = append(at[i], now)
		}
	})
	queues := make([]string, len(rates))
	for i, rate := range rates {
		queues[i] = fmt.Sprintf("%s/queues/rate%d", location, i)
		if err := l.loadRate(ctx, e, queues[i], rate, burst(rate)+2*int(math.Ceil(rate*span.Seconds())), fmt.Sprintf("%s/%d", l.target.url, i)); err != nil {
			return nil, err
		}
	}
	resumed := make([]time.Time, len(queues))
	for i, queue := range queues { // not at once: their bursts would hold each other up
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
		resumed[i] = time.Now()
		if err := e.resumeAll(ctx, []string{queue}); err != nil {
			return nil, err
		}
	}
	if err := pause(ctx, span+span/4); err != nil {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	var figures []figure
	for i, rate := range rates {
		slices.SortFunc(at[i], time.Time.Compare) // they queued for the lock
		share, first, err := pace(at[i], resumed[i], rate, span)
		if err != nil {
			return nil, fmt.Errorf("%g a second: %w", rate, err)
		}
		figures = append(figures,
			figure{fmt.Sprintf("%g a second", rate), 100 * share, "%", within(0.2, 100)},
			figure{"  burst", first, "", within(1, float64(burst(rate)))})
	}
	return figures, nil
}

// burst is what the service lets through at once (docs/cloud-tasks.md#6.2).
func burst(rate float64) int { return max(10, int(rate/5)) }

func (l *lab) loadRate(ctx context.Context, e *emulator, queue string, rate float64, n int, url string) error {
	_, err := e.client.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: &cloudtaskspb.Queue{
		Name: queue, RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: rate},
	}})
	if err != nil {
		return err
	}
	if err := e.pauseAll(ctx, []string{queue}); err != nil {
		return err
	}
	return createBatches(ctx, e.client, []string{queue}, n, func(int) *cloudtaskspb.Task { return small(url, time.Time{}) })
}

// pace is the share of the rate that arrivals after the burst had, and by how
// many they were ahead of the rate at most, which is the burst. The first of a
// burst arrives late, while the connections of all are made, so time is counted
// from when the queue was resumed.
func pace(at []time.Time, resumed time.Time, rate float64, span time.Duration) (share, first float64, err error) {
	var paced []time.Time
	for i, t := range at {
		since := t.Sub(resumed)
		if since > span {
			break
		}
		first = max(first, float64(i+1)-rate*since.Seconds())
		if i >= burst(rate) {
			paced = append(paced, t)
		}
	}
	if len(paced) < 2 {
		return 0, 0, fmt.Errorf("%d tasks arrived", len(at))
	}
	took := paced[len(paced)-1].Sub(paced[0])
	return float64(len(paced)-1) / took.Seconds() / rate, first, nil
}
