package main

import (
	"fmt"

	"github.com/brillconsulting/handoff/internal/bench/producer"
)

// Aim is what the library means to reach, and what it reached in this run.
type Aim struct {
	Of       string
	Aim      string
	Measured string
	Met      bool
}

// aimsOf judges the aims whose cases were run.
func aimsOf(r *Report) []Aim {
	var aims []Aim
	aim := func(of, aim, measured string, met bool) {
		aims = append(aims, Aim{Of: of, Aim: aim, Measured: measured, Met: met})
	}
	most := func(of, unit string, measured, limit float64) {
		aim(of, fmt.Sprintf("≤ %g%s", limit, unit), fmt.Sprintf("%.2f%s", measured, unit), measured <= limit)
	}
	least := func(of string, measured, limit float64) {
		aim(of, fmt.Sprintf("≥ %g times", limit), fmt.Sprintf("%.2f times", measured), measured >= limit)
	}
	seen, measured := r.row("worker", withHandoff, seenToken, 100)
	if measured {
		most("Go, 100 in flight, token seen before", " µs", seen.CPU[workerCPU].Median, 45)
		if bare, ok := r.row("worker", bareEcho, seenToken, 100); ok {
			most("the same, as a multiple of bare echo with the same decode", "", seen.CPU[workerCPU].Median/bare.CPU[workerCPU].Median, 1.5)
		}
		most("Redis, 100 in flight", " µs", seen.CPU[redisCPU].Median, 14)
	}
	if fresh, ok := r.row("worker", withHandoff, newTokens, 100); ok {
		most("Go, 100 in flight, every token new", " µs", fresh.CPU[workerCPU].Median, 110)
	}
	for _, inFlight := range []int{1, 16} {
		if row, ok := r.row("worker", withHandoff, seenToken, inFlight); ok {
			most(fmt.Sprintf("Go, %d in flight", inFlight), " µs", row.CPU[workerCPU].Median, 70)
		}
	}
	if worker, all, ok := r.bestAsynq("asynq", ""); ok && measured {
		least("tasks a worker-CPU-second against asynq processing", worker/seen.CPU[workerCPU].Median, 2.2)
		least("the same, Redis's CPU counted on both sides", all/seen.All.Median, 2.5)
	}
	if _, all, ok := r.bestAsynq("end to end", fastest); ok {
		if way, ok := r.way(handoffSide, fastest); ok {
			least("end to end, tasks a CPU-second of all processes against asynq", all/way.All.Median, 1)
		}
	}
	for _, row := range r.Rows {
		switch {
		case row.Section != "enqueue" || row.Added == nil:
		case row.Name == producer.Enqueue:
			over := "Enqueue over the bare client, " + callers(row.InFlight)
			most(over, " µs", row.Added.CPU, 3)
			most(over, " allocations", row.Added.Allocs, 10)
		case row.Name == producer.Batch:
			most("EnqueueBatch", " µs", row.CPU[producerCPU].Median, 8)
		}
	}
	if r.Soak != nil && r.Soak.Error == "" {
		most(fmt.Sprintf("growth of a worker's memory at 500 in flight over %s", r.Soak.Length), " %", 100*r.Soak.grown(), 5)
	}
	return aims
}

// bestAsynq is the least CPU of a task of asynq's configurations: the worker's,
// and that of all processes.
func (r *Report) bestAsynq(section, of string) (worker, all float64, ok bool) {
	for _, row := range r.Rows {
		if row.Section != section || row.Of != of || row.Error != "" || row.Name == handoffSide {
			continue
		}
		if w := row.CPU[workerCPU].Median; !ok || w < worker {
			worker = w
		}
		if a := row.All.Median; !ok || a < all {
			all = a
		}
		ok = true
	}
	return worker, all, ok
}

// way finds one way from enqueue to done.
func (r *Report) way(name, of string) (Row, bool) {
	for _, row := range r.Rows {
		if row.Section == "end to end" && row.Name == name && row.Of == of && row.Error == "" {
			return row, true
		}
	}
	return Row{}, false
}

func callers(n int) string {
	if n == 1 {
		return "one caller"
	}
	return fmt.Sprintf("%d callers", n)
}
