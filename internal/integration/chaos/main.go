// Chaos runs many tasks through real worker processes and a real Redis while
// both are killed, drained, cut off and slowed, and Cloud Tasks delivers
// twice. Every process writes down what it did; at the end the ledger is held
// against what handoff promises, and each violation is printed.
//
//	go run -C internal/integration/chaos . -tasks 100000
//
// With -sql the tasks are enqueued in transactions of a real PostgreSQL, relayed by
// its workers and run in transactions: in the end every order that was committed
// has exactly one effect.
//
// It exits 1 if there is a violation. The seed is printed; it decides what the
// tasks do and in which order things go wrong, not how processes interleave.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"
)

func main() {
	if asWorker() {
		return
	}
	var c config
	flag.BoolVar(&c.sql, "sql", false, "use PostgreSQL and its outbox, not Redis")
	flag.IntVar(&c.tasks, "tasks", 5000, "how many tasks")
	flag.IntVar(&c.workers, "workers", 4, "how many worker processes at a time")
	flag.Uint64Var(&c.seed, "seed", 0, "what goes wrong; 0 picks one")
	flag.DurationVar(&c.limit, "limit", 10*time.Minute, "how long all of it may take")
	flag.DurationVar(&c.trouble, "trouble", 8*time.Minute, "how long things go wrong at most")
	flag.Parse()
	if c.seed == 0 {
		c.seed = rand.Uint64()
	}
	fmt.Printf("seed %d: %d tasks, %d workers\n", c.seed, c.tasks, c.workers)
	exitOn(c.runAndPrint())
}

func (c config) runAndPrint() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := c.run
	if c.sql {
		run = c.runSQL
	}
	report, err := run(ctx)
	if err != nil {
		return err
	}
	report.print(os.Stdout)
	if n := len(report.violations); n > 0 {
		return fmt.Errorf("%d violations", n)
	}
	return nil
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}
