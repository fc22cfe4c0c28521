package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

// Owners of CPU time, the keys of sample.cpu.
const (
	workerCPU   = "worker"
	redisCPU    = "redis"
	producerCPU = "producer"
	loadCPU     = "load" // which Cloud Tasks has in its place: it is shown, and not counted
)

// sample is the result of one run of a case.
type sample struct {
	tasks     int
	wall      time.Duration
	cpu       map[string]time.Duration
	p50, p99  time.Duration
	allocated float64 // bytes a task
}

// meters read the CPU time of processes, by owner.
type meters map[string]func() (time.Duration, error)

// with adds a process and returns m.
func (m meters) with(whose string, pid int) meters {
	m[whose] = func() (time.Duration, error) { return measure.CPUOf(pid) }
	return m
}

func (m meters) read() (map[string]time.Duration, error) {
	used := make(map[string]time.Duration, len(m))
	for whose, read := range m {
		t, err := read()
		if err != nil {
			return nil, err
		}
		used[whose] = t
	}
	return used, nil
}

// during returns the CPU time that each process uses while run runs.
func (m meters) during(run func() error) (map[string]time.Duration, error) {
	before, err := m.read()
	if err != nil {
		return nil, err
	}
	if err := run(); err != nil {
		return nil, err
	}
	after, err := m.read()
	for whose := range after {
		after[whose] -= before[whose]
	}
	return after, err
}

// experiment is one case: the function that is run each round, and the results.
type experiment struct {
	row     Row
	run     func(ctx context.Context) (sample, error)
	samples []sample
	err     error
}

// interleave runs the experiments in turn: a warm-up round, and then the given
// number of rounds. Every second round runs in reverse order, so that a drift of
// the machine favours none. An experiment that failed is not run again, and has no
// figures.
func interleave(ctx context.Context, rounds int, experiments []*experiment, progress func(text string)) {
	for round := range rounds + 1 {
		for i := range experiments {
			if round%2 == 1 {
				i = len(experiments) - 1 - i
			}
			e := experiments[i]
			if e.err != nil || ctx.Err() != nil {
				continue
			}
			progress(fmt.Sprintf("round %d of %d: %s", round, rounds, e.row.title()))
			s, err := e.run(ctx)
			switch {
			case err != nil:
				e.err = err
			case s.tasks == 0:
				e.err = errors.New("no task was done")
			case round > 0:
				e.samples = append(e.samples, s)
			}
		}
	}
}

// result returns the row with its figures, or with the reason why there are none.
func (e *experiment) result() Row {
	r := e.row
	if e.err != nil {
		r.Error = e.err.Error()
		return r
	}
	if len(e.samples) == 0 {
		r.Error = "stopped"
		return r
	}
	r.Rate = figureOf(e.samples, func(s sample) float64 { return float64(s.tasks) / s.wall.Seconds() })
	r.P50 = figureOf(e.samples, func(s sample) float64 { return s.p50.Seconds() * 1e3 })
	r.P99 = figureOf(e.samples, func(s sample) float64 { return s.p99.Seconds() * 1e3 })
	r.Allocated = figureOf(e.samples, func(s sample) float64 { return s.allocated })
	r.CPU = make(map[string]Figure)
	for whose := range e.samples[0].cpu {
		r.CPU[whose] = figureOf(e.samples, func(s sample) float64 { return perTask(s.cpu[whose], s.tasks) })
	}
	r.All = figureOf(e.samples, func(s sample) float64 {
		var all time.Duration
		for whose, used := range s.cpu {
			if whose != loadCPU {
				all += used
			}
		}
		return perTask(all, s.tasks)
	})
	return r
}

// perTask returns the µs used per task.
func perTask(used time.Duration, tasks int) float64 {
	return float64(used.Nanoseconds()) / 1e3 / float64(tasks)
}

// Figure is the median, the minimum and the maximum of the rounds.
type Figure struct {
	Median, Least, Most float64
}

func figureOf(samples []sample, of func(sample) float64) Figure {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	return figure(values)
}

func figure(values []float64) Figure {
	slices.Sort(values)
	return Figure{Median: measure.MedianOf(values), Least: values[0], Most: values[len(values)-1]}
}
