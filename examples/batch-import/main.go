// Batch-import turns the rows of a CSV file into a million tasks: in batches, in
// little memory. It can be stopped and started again, and each row becomes
// exactly one task.
//
//	go run ./examples/batch-import
//
// Without a file it makes one, and interrupts itself to show how it resumes. It
// starts an emulator in a process of its own, unless CLOUD_TASKS_EMULATOR_HOST
// names one. With that one, Ctrl-C stops the import and the same command resumes
// it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"google.golang.org/api/option"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
)

const (
	project  = "batch-import"
	location = "europe-west1"
	queue    = "customers"
)

func main() {
	file := flag.String("file", "", "CSV file to import; without it, one is made")
	rows := flag.Int("rows", 1_000_000, "rows of the file that is made")
	interrupt := flag.Float64("interrupt", 0.4, "interrupt the import of a file that is made after this share of its rows; 0: do not")
	serve := flag.Bool("serve", false, "be the emulator (used by the program itself)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *serve {
		exitOn(serveEmulator())
		return
	}
	exitOn(run(ctx, os.Stdout, *file, *rows, *interrupt))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, file string, rows int, interrupt float64) error {
	if file != "" {
		interrupt = 0
	} else {
		dir, err := os.MkdirTemp("", "batch-import")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		file = filepath.Join(dir, "customers.csv")
		if err := writeSample(file, rows); err != nil {
			return err
		}
	}
	options, stop, err := connect(ctx)
	if err != nil {
		return err
	}
	im, err := newImporter(file, out)
	if err != nil {
		return err
	}
	if stop != nil { // the emulator's tasks end with this program, so there is nothing to resume
		defer stop()
		defer os.Remove(im.checkpoint())
		im.alone = true
	}
	err = im.importAll(ctx, interrupt, options)
	if errors.Is(err, errInterrupted) && !im.alone && interrupt == 0 {
		err = fmt.Errorf("%w; the same command goes on from there", err)
	}
	return err
}

// importAll prepares the queue, imports the file, in two runs if interrupt is
// set, and checks the tasks of the queue.
func (im *importer) importAll(ctx context.Context, interrupt float64, options []option.ClientOption) error {
	control, err := admin.New(ctx, admin.Config{Project: project, Location: location, Options: options})
	if err != nil {
		return err
	}
	defer control.Close()
	if err := prepareQueue(ctx, control); err != nil {
		return err
	}
	im.client, err = handoff.NewClient(ctx, handoff.ClientConfig{
		Project:  project,
		Location: location,
		Target:   handoff.HTTPTarget{URL: "https://worker.example.com/tasks", ServiceAccount: "tasks@batch-import.iam.gserviceaccount.com"},
		Options:  options,
	})
	if err != nil {
		return err
	}
	defer im.client.Close()
	if interrupt > 0 {
		err := im.runUntil(ctx, int(interrupt*float64(im.total)))
		if !errors.Is(err, errInterrupted) || ctx.Err() != nil {
			return err
		}
		fmt.Fprintf(im.out, "%v\nstarted again\n", err)
	}
	if err := im.run(ctx); err != nil {
		return err
	}
	return im.summary(ctx, control)
}

// prepareQueue makes the queue and pauses it: the tasks are only counted here,
// so nothing receives them.
func prepareQueue(ctx context.Context, control *admin.Admin) error {
	if _, err := control.Queues().Ensure(ctx, admin.QueueConfig{ID: queue}); err != nil {
		return err
	}
	_, err := control.Queues().Pause(ctx, queue)
	return err
}
