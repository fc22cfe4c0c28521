package producer

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/brillconsulting/handoff/internal/bench/measure"
)

// Way is one way to enqueue n tasks, and who takes them in.
type Way struct {
	Name   string
	Server int // PID
	Run    func(n int) error
	Empty  func() error // the server, afterwards
}

// Costs are those of one way, by round.
type Costs struct {
	Name   string
	Costs  []measure.Cost
	Server []float64 // µs of the process at the other end
}

// Compare runs the ways in turn, n tasks a round. The call that empties the
// server is one among thousands.
func Compare(rounds, n int, ways []Way) ([]Costs, error) {
	var failed error
	costs := make([]Costs, len(ways))
	runs := make([]func(int), len(ways))
	for i, w := range ways {
		costs[i].Name = w.Name
		runs[i] = func(n int) {
			if failed != nil {
				return
			}
			server, err := w.run(n)
			if err != nil {
				failed = fmt.Errorf("%s: %w", w.Name, err)
			}
			costs[i].Server = append(costs[i].Server, server)
		}
	}
	for i, c := range measure.Rounds(rounds, n, runs...) {
		costs[i].Costs = c
	}
	if failed != nil {
		return nil, failed
	}
	for i := range costs {
		costs[i].Server = costs[i].Server[1:] // the first round warmed up
	}
	return costs, nil
}

// run returns the µs a task of the server.
func (w *Way) run(n int) (server float64, err error) {
	before, err := measure.CPUOfFamily(w.Server)
	if err != nil {
		return 0, err
	}
	if err := w.Run(n); err != nil {
		return 0, err
	}
	after, err := measure.CPUOfFamily(w.Server)
	return perTask(after-before, n), cmp.Or(err, w.Empty())
}

func perTask(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(n) }

// LargeBatch is what an EnqueueBatch of n payloads holds in memory at most, in
// bytes, and the µs of CPU that it takes a task.
func (p *Producer) LargeBatch(ctx context.Context, n int) (peak uint64, cpu float64, err error) {
	before := measure.CPU()
	peak = measure.PeakHeap(func() { err = p.enqueueBatch(ctx, n) })
	return peak, perTask(measure.CPU()-before, n), cmp.Or(err, p.purge(ctx))
}
