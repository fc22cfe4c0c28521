package main

import (
	"context"

	"github.com/brillconsulting/handoff/internal/bench/measure"
	"github.com/brillconsulting/handoff/internal/bench/producer"
)

// enqueuing compares the ways to enqueue: one task a call, alone and 64 at
// once, and many.
func (l *lab) enqueuing(ctx context.Context, report *Report) error {
	if err := l.needRedis(ctx); err != nil {
		return err
	}
	if err := l.needPostgres(ctx); err != nil {
		return err
	}
	emulator, err := l.child(ctx, "emulator", setup{})
	if err != nil {
		return err
	}
	if err := producer.MakeQueues(ctx, emulator.first.Addr, 1000); err != nil {
		return err
	}
	p, err := l.child(ctx, "producer", setup{
		Emulator: emulator.first.Addr, Worker: "https://worker.example.com/tasks", Redis: l.redisServer.addr, Postgres: l.postgres.postgres(),
		EmulatorPID: emulator.pid(), RedisPID: l.redisServer.pid(), PostgresPID: l.postgres.pid(),
	})
	if err != nil {
		return err
	}
	for _, o := range []order{
		{Do: "compare", Callers: 1, Tasks: l.creates / 4},
		{Do: "compare", Callers: 64, Tasks: l.creates},
		{Do: "compare", Tasks: 10 * l.creates},
	} {
		l.progress("enqueue, " + map[int]string{1: "one caller", 64: "64 callers", 0: "many"}[o.Callers])
		o.Rounds = l.createRuns * l.rounds
		a, err := p.ask(o)
		if err != nil {
			return err
		}
		report.Rows = append(report.Rows, enqueueRows(a.Costs, o.Callers)...)
	}
	l.progress("memory of a large batch")
	a, err := p.ask(order{Do: "batch", Tasks: l.batchMemory})
	if err != nil {
		return err
	}
	report.Batch = &Batch{Tasks: l.batchMemory, Peak: a.Heap, CPU: a.Costs[0].Costs[0].CPU}
	return nil
}

func enqueueRows(costs []producer.Costs, callers int) []Row {
	rows := make([]Row, len(costs))
	for i, side := range costs {
		rows[i] = Row{
			Section: "enqueue", Name: side.Name, InFlight: callers,
			Rate:      figureOfCosts(side.Costs, func(c measure.Cost) float64 { return 1e6 / c.Wall }),
			CPU:       map[string]Figure{producerCPU: figureOfCosts(side.Costs, measure.ByCPU), "server": figure(side.Server)},
			Allocated: figureOfCosts(side.Costs, measure.ByAllocs),
		}
		// Each way is compared with the first of its table, which is the bare client's.
		if i > 0 && (side.Name == producer.SameCreate || side.Name == producer.Enqueue || side.Name == producer.Batch) {
			rows[i].Added = &Added{
				CPU:    measure.MedianDifference(side.Costs, costs[0].Costs, measure.ByCPU),
				Allocs: measure.MedianDifference(side.Costs, costs[0].Costs, measure.ByAllocs),
			}
		}
	}
	return rows
}

func figureOfCosts(costs []measure.Cost, of func(measure.Cost) float64) Figure {
	values := make([]float64, len(costs))
	for i, c := range costs {
		values[i] = of(c)
	}
	return figure(values)
}
