package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
)

// Customer is a row.
type Customer struct {
	ID    string `json:"id"`
	Email string `json:"email"`
	Cents int    `json:"cents"`
}

// Kind implements handoff.Payload.
func (Customer) Kind() string { return "import-customer" }

// Policy names the queue.
func (Customer) Policy() handoff.Policy { return handoff.Policy{Queue: queue} }

// IdempotencyKey makes each row one task, however often it is enqueued. So an
// import may resume a little before the row where it stopped.
func (c Customer) IdempotencyKey() string { return c.ID }

var errInterrupted = errors.New("interrupted")

// saveEvery is how many rows are done between two checkpoints. After a crash at
// most so many are enqueued again, as duplicates.
const saveEvery = 10_000

// importer imports one file. Its checkpoint is a file beside it.
type importer struct {
	client *handoff.Client
	file   string
	total  int // rows
	out    io.Writer
	alone  bool // no other program adds tasks to the queue

	duplicates int // of all runs
}

func newImporter(file string, out io.Writer) (*importer, error) {
	total, err := countRows(file)
	if err != nil {
		return nil, err
	}
	if total == 0 {
		return nil, fmt.Errorf("%s has no rows", file)
	}
	return &importer{file: file, total: total, out: out}, nil
}

// tally counts the rows of one run.
type tally struct {
	done                        int // rows at the start of the file that are all tasks
	duplicates, unknown, unsent int
}

func (t tally) String() string {
	return fmt.Sprintf("%s rows are done; of the rows in flight, %d may or may not be tasks, and %d were not sent",
		number(t.done), t.unknown, t.unsent)
}

// run imports the rows that are not done yet.
func (im *importer) run(ctx context.Context) error { return im.runUntil(ctx, im.total+1) }

// runUntil is run, but interrupts itself after stopAt rows.
func (im *importer) runUntil(ctx context.Context, stopAt int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done, err := im.load()
	if err != nil {
		return err
	}
	t, bar := tally{done: done}, newProgress(im.out, im.total)
	rows := &rowReader{file: im.file, skip: done}
	var failure error
	whole := true // no gap so far
	for receipt, err := range handoff.EnqueueBatch(ctx, im.client, rows.all()) {
		switch {
		case err == nil && receipt.Duplicate:
			t.duplicates++
		case errors.Is(err, handoff.ErrUnknown):
			t.unknown++
		case errors.Is(err, handoff.ErrNotSent):
			t.unsent++
		}
		if whole = whole && err == nil; whole {
			t.done++
		} else if failure == nil && ctx.Err() == nil {
			failure = fmt.Errorf("row %d: %w", t.done+1, err)
			cancel() // so that no later row is done before this one
		}
		if whole && t.done%saveEvery == 0 {
			if err := im.save(t.done); err != nil {
				return err
			}
		}
		if t.done >= stopAt {
			cancel()
		}
		bar.show(t.done)
	}
	bar.end()
	im.duplicates += t.duplicates
	if err := errors.Join(failure, rows.err, im.save(t.done)); err != nil {
		return err
	}
	if t.done < im.total {
		return fmt.Errorf("%w: %v", errInterrupted, t)
	}
	return nil
}

func (im *importer) checkpoint() string { return im.file + ".done" }

// load returns how many rows are done.
func (im *importer) load() (int, error) {
	text, err := os.ReadFile(im.checkpoint())
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	done, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s does not hold a number of rows: %w", im.checkpoint(), err)
	}
	return done, nil
}

// save replaces the checkpoint atomically, so that a crash cannot leave half of
// it.
func (im *importer) save(done int) error {
	next := im.checkpoint() + ".new"
	if err := os.WriteFile(next, []byte(strconv.Itoa(done)+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(next, im.checkpoint())
}

// summary prints the result, and checks that each row is one task.
func (im *importer) summary(ctx context.Context, control *admin.Admin) error {
	tasks := 0
	for _, err := range control.Tasks().List(ctx, queue, admin.Basic) {
		if err != nil {
			return err
		}
		tasks++
	}
	fmt.Fprintf(im.out, "\n%-28s %11s\n%-28s %11s\n%-28s %11s\n%-28s %11s\n",
		"rows in the file", number(im.total),
		"tasks in the queue", number(tasks),
		"enqueued again, and refused", number(im.duplicates),
		"peak memory (RSS)", fmt.Sprintf("%.0f MB", float64(peakMemory())/1e6))
	if tasks < im.total || im.alone && tasks > im.total {
		return fmt.Errorf("%d rows became %d tasks", im.total, tasks)
	}
	return os.Remove(im.checkpoint())
}

// rowReader reads customers from a file, one at a time.
type rowReader struct {
	file string
	skip int
	err  error // why it stopped, if not at the end of the file
}

func (r *rowReader) all() iter.Seq[Customer] {
	return func(yield func(Customer) bool) {
		r.err = eachRow(r.file, func(row int, fields []string) (bool, error) {
			if row <= r.skip {
				return true, nil
			}
			cents, err := strconv.Atoi(fields[2])
			if err != nil {
				return false, fmt.Errorf("row %d: %w", row, err)
			}
			return yield(Customer{ID: fields[0], Email: fields[1], Cents: cents}), nil
		})
	}
}
