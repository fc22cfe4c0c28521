package main

import (
	"context"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
)

func measureCreate(ctx context.Context, l *lab) ([]figure, error) {
	ours, bare, err := l.compareCreates(ctx, l.tasks(20_000), func(client *cloudtasks.Client, queue string, n int) error {
		return create(ctx, client, []string{queue}, n, 16, usual)
	})
	return []figure{
		{"CPU a create", ours, "µs", atMost(42)},
		{"  of a gRPC server that does nothing", bare, "µs", aim{}},
	}, err
}

func measureBatch(ctx context.Context, l *lab) ([]figure, error) {
	ours, bare, err := l.compareCreates(ctx, l.tasks(100_000), func(client *cloudtasks.Client, queue string, n int) error {
		return createBatches(ctx, client, []string{queue}, n, usual)
	})
	return []figure{
		{"CPU a task", ours, "µs", atMost(9)},
		{"  of a gRPC server that does nothing", bare, "µs", aim{}},
	}, err
}

// compareCreates gives the CPU time, in µs a task, of the emulator with a
// paused queue and of a bare server: medians of rounds in turn, after one that
// warms up.
func (l *lab) compareCreates(ctx context.Context, n int, load func(client *cloudtasks.Client, queue string, n int) error) (ours, bare float64, err error) {
	e, queues, err := l.emulator(ctx, 1, nil)
	if err != nil {
		return 0, 0, err
	}
	defer e.stop()
	if err := e.pauseAll(ctx, queues); err != nil {
		return 0, 0, err
	}
	b, addr, err := l.bare(ctx, "grpc")
	if err != nil {
		return 0, 0, err
	}
	defer b.end()
	client, err := connect(ctx, addr)
	if err != nil {
		return 0, 0, err
	}
	defer client.Close()
	var costs, floors []float64
	for round := range l.rounds + 1 {
		cost, err := e.cost(n, func() error { return load(e.client, queues[0], n) })
		if err != nil {
			return 0, 0, err
		}
		if err := e.purge(ctx, queues[0]); err != nil {
			return 0, 0, err
		}
		floor, err := b.cost(n, func() error { return load(client, queues[0], n) })
		if err != nil {
			return 0, 0, err
		}
		if round > 0 {
			costs, floors = append(costs, cost), append(floors, floor)
		}
	}
	return median(costs), median(floors), nil
}
