package main

import (
	"fmt"
	"math"
	"time"
)

// Size is what so many tasks a second take.
type Size struct {
	Rate       float64       // tasks a second
	Workers    float64       // processors, tokens seen before
	WorkersNew float64       // processors, every token new
	RedisCPU   float64       // processors of Redis, of which a shard uses one
	Keep       time.Duration // how long a record is kept
	RedisGB    float64       // memory of the records
	Shards     float64
	Queues     float64
	Projects   float64       // and regions, for the quotas
	RampUp     time.Duration // from a cold start
}

// How full things are allowed to be.
const (
	busyWorker = 0.6 // of a processor, so that a burst finds room
	busyRedis  = 0.5 // of a shard's one processor
	shardGB    = 16  // of memory of a shard: one that fails over in reasonable time
)

// Limits of the service (docs/cloud-tasks.md#13).
const (
	queueRate    = 500 // dispatches a second of one queue
	coldRate     = 500 // operations a second to begin with
	rampFactor   = 1.5 // each rampStep
	rampStep     = 5 * time.Minute
	projectCalls = 6_000_000.0 / 60 // API requests a second of a project in a region; each task of a batch is one
	projectQueue = 1000             // queues of a project in a region, by default
)

// sizesOf applies the costs of this run. The handlers' own work comes on top.
func sizesOf(r *Report) []Size {
	seen, ok1 := r.row("worker", withHandoff, seenToken)
	fresh, ok2 := r.row("worker", withHandoff, newTokens)
	if !ok1 || !ok2 || len(r.Memory) == 0 {
		return nil
	}
	bytes := r.Memory[len(r.Memory)-1].Bytes
	var sizes []Size
	for _, rate := range []float64{100, 10_000, 1_000_000} {
		for _, keep := range []time.Duration{25 * time.Hour, 2 * time.Hour} {
			sizes = append(sizes, sizeOf(rate, seen, fresh, keep, bytes))
		}
	}
	return sizes
}

func sizeOf(rate float64, seen, fresh Row, keep time.Duration, bytes float64) Size {
	processors := func(micros, busy float64) float64 { return rate * micros / 1e6 / busy }
	s := Size{
		Rate:       rate,
		Workers:    processors(seen.CPU[workerCPU].Median, busyWorker),
		WorkersNew: processors(fresh.CPU[workerCPU].Median, busyWorker),
		RedisCPU:   processors(seen.CPU[redisCPU].Median, busyRedis),
		Keep:       keep,
		RedisGB:    rate * keep.Seconds() * bytes / 1e9,
		Queues:     math.Ceil(rate / queueRate),
	}
	s.Shards = math.Ceil(max(s.RedisCPU, s.RedisGB/shardGB, 1))
	s.Projects = math.Ceil(max(rate/projectCalls, s.Queues/projectQueue))
	if steps := math.Ceil(math.Log(rate/coldRate) / math.Log(rampFactor)); steps > 0 {
		s.RampUp = time.Duration(steps) * rampStep
	}
	return s
}

func sizeTable(r *Report) table {
	t := table{
		title: "Sizing",
		notes: []string{"Processors of the handlers' own work come on top."},
		head: []string{
			"tasks/s", "records kept", "workers' processors (every token new)", "Redis processors", "Redis memory", "Redis shards", "queues", "projects or regions", "ramp-up",
		},
	}
	for _, s := range r.Sizes {
		ramp := "none"
		if s.RampUp > 0 {
			ramp = fmt.Sprintf("%.0f min", s.RampUp.Minutes())
		}
		t.rows = append(t.rows, []string{
			grouped(int64(s.Rate)), fmt.Sprintf("%.0f h", s.Keep.Hours()),
			fmt.Sprintf("%s (%s)", processors(s.Workers), processors(s.WorkersNew)), processors(s.RedisCPU),
			number(s.RedisGB) + " GB", grouped(int64(s.Shards)), grouped(int64(s.Queues)), grouped(int64(s.Projects)), ramp,
		})
	}
	return t
}

func processors(n float64) string {
	if n < 10 {
		return fmt.Sprintf("%.2g", n)
	}
	return grouped(int64(math.Ceil(n)))
}
