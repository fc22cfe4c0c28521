// Command enqueue measures what handoff adds to Google's client, in one run
// over loopback. The emulator runs as a process of its own, so that the CPU
// time of this one is the client's alone. It is the part of the enqueue section
// of the report that needs no other server.
//
//	go run -C internal/bench ./enqueue
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"

	"github.com/brillconsulting/handoff/internal/bench/measure"
	"github.com/brillconsulting/handoff/internal/bench/producer"
)

func main() {
	var b bench
	flag.IntVar(&b.rounds, "rounds", 31, "rounds of each comparison")
	flag.IntVar(&b.calls, "calls", 2000, "calls in a round")
	flag.IntVar(&b.items, "items", 1_000_000, "payloads of the batch whose memory is measured")
	serve := flag.Bool("serve", false, "be the emulator")
	flag.Parse()
	log.SetFlags(0)
	run := func() error { return b.run(context.Background(), os.Stdout) }
	if *serve {
		run = serveEmulator
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

type bench struct {
	rounds, calls, items int

	emulator *emulatorProcess
	producer *producer.Producer
	out      io.Writer
}

func (b *bench) run(ctx context.Context, out io.Writer) (err error) {
	b.out = out
	if b.emulator, err = startEmulator(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.emulator.stop()) }()
	if b.producer, err = producer.New(ctx, b.emulator.addr, "https://worker.example.com/tasks"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.producer.Close()) }()
	if err := producer.MakeQueues(ctx, b.emulator.addr, 1); err != nil {
		return err
	}
	for _, c := range []struct{ callers, calls int }{{1, b.calls / 4}, {64, b.calls}} {
		if err := b.one(ctx, c.callers, c.calls); err != nil {
			return err
		}
	}
	if err := b.many(ctx, 10*b.calls); err != nil {
		return err
	}
	peak, cpu, err := b.producer.LargeBatch(ctx, b.items)
	b.printf("a batch of %d: peak heap %.1f MB, %.1f µs CPU a task\n", b.items, float64(peak)/1e6, cpu)
	return err
}

func (b *bench) one(ctx context.Context, callers, calls int) error {
	costs, err := producer.Compare(b.rounds, calls, b.producer.One(ctx, b.emulator.pid(), callers))
	if err != nil {
		return err
	}
	b.printf("one task a call, %d at once (medians of %d rounds of %d)\n", callers, b.rounds, calls)
	b.rows(costs)
	plain, same, enqueue := costs[0], costs[1], costs[2]
	b.added("Enqueue adds to the plain one", enqueue, plain)
	b.added("Enqueue adds to the same one", enqueue, same)
	b.printf("\n")
	return nil
}

func (b *bench) many(ctx context.Context, n int) error {
	single := b.producer.One(ctx, b.emulator.pid(), 64)[0]
	costs, err := producer.Compare(b.rounds, n, slices.Concat([]producer.Way{single}, b.producer.Many(ctx, b.emulator.pid())))
	if err != nil {
		return err
	}
	b.printf("many tasks (medians of %d rounds of %d)\n", b.rounds, n)
	b.rows(costs)
	one, batch := measure.Median(costs[0].Costs, measure.ByCPU), measure.Median(costs[2].Costs, measure.ByCPU)
	b.printf("  EnqueueBatch takes %.1f times less CPU a task than CreateTask, 64 at once\n\n", one/batch)
	return nil
}

func (b *bench) rows(ways []producer.Costs) {
	for _, w := range ways {
		b.printf("  %-44s %8.2f µs CPU  %8.1f µs  %6.1f allocs\n", w.Name,
			measure.Median(w.Costs, measure.ByCPU), measure.Median(w.Costs, measure.ByWall), measure.Median(w.Costs, measure.ByAllocs))
	}
}

func (b *bench) added(name string, way, to producer.Costs) {
	b.printf("  %-44s %+8.2f µs CPU  %+8.1f µs  %+6.1f allocs\n", name,
		measure.MedianDifference(way.Costs, to.Costs, measure.ByCPU),
		measure.MedianDifference(way.Costs, to.Costs, measure.ByWall),
		measure.MedianDifference(way.Costs, to.Costs, measure.ByAllocs))
}

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(b.out, format, args...) }
