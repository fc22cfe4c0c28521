// Migrate-from-asynq is one small program twice: on asynq in folder before, on
// handoff in folder after. It sends mail at once, later, only once, after a
// failure, and never. README.md compares the two.
//
//	go run -C examples/migrate-from-asynq .
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/brillconsulting/handoff/examples/migrate-from-asynq/after"
	"github.com/brillconsulting/handoff/examples/migrate-from-asynq/before"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	fmt.Fprintln(out, "before, on asynq:")
	if err := before.Run(ctx, out); err != nil {
		return err
	}
	fmt.Fprintln(out, "after, on handoff:")
	return after.Run(ctx, out)
}
