package main

import (
	"context"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// scene is an emulator with something in it.
type scene struct {
	name    string
	queues  int
	pending int
}

func measureFlat(ctx context.Context, l *lab) ([]figure, error) {
	scenes := []scene{
		{"a thousand pending", 1, l.tasks(1000)},
		{"a hundred thousand pending", 1, l.tasks(100_000)},
		{"a thousand queues", l.tasks(1000), l.tasks(1000)},
	}
	if l.all {
		scenes = append(scenes, scene{"five million pending", 1, l.tasks(5_000_000)})
	}
	emulators, queues := make([]*emulator, len(scenes)), make([][]string, len(scenes))
	for i, s := range scenes {
		// At such rates a queue holds nothing back.
		e, names, err := l.emulator(ctx, s.queues, &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 1e6}, "--no-limits")
		if err != nil {
			return nil, err
		}
		defer e.stop()
		queues[i] = names
		if err := l.wait(ctx, e, queues[i], s.pending); err != nil {
			return nil, err
		}
		emulators[i] = e
	}
	costs := make([][]float64, len(scenes))
	for round := range l.rounds + 1 {
		for i, e := range emulators {
			cost, err := l.createAndDispatch(ctx, e, queues[i], l.tasks(10_000))
			if err != nil {
				return nil, err
			}
			if round > 0 {
				costs[i] = append(costs[i], cost)
			}
		}
	}
	least := median(costs[0])
	figures := []figure{{"CPU a create and a dispatch, " + scenes[0].name, least, "µs", aim{}}}
	for i, s := range scenes[1:] {
		cost := median(costs[i+1])
		figures = append(figures, figure{"  " + s.name, cost, "µs", atMost(1.2 * least)})
	}
	return figures, nil
}

// createAndDispatch is what it costs to create a task that is due, and to
// dispatch it.
func (l *lab) createAndDispatch(ctx context.Context, e *emulator, queues []string, n int) (float64, error) {
	wait := l.target.expect(n, 0)
	return e.cost(n, func() error {
		err := create(ctx, e.client, queues, n, 16, func(int) *cloudtaskspb.Task { return l.small(time.Time{}) })
		if err != nil {
			return err
		}
		return wait(ctx)
	})
}
