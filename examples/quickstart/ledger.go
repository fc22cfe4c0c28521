package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
)

// expected counts tasks by how they should end, or did end.
type expected struct{ done, retried, duplicate, dead int }

// ledger prints the table, and compares what was enqueued with what happened.
type ledger struct {
	mu    sync.Mutex
	out   io.Writer
	start time.Time
	live  bool // out is a terminal, so the waiting line can be redrawn
	tasks int
	want  expected
	got   expected
}

func newLedger(out *os.File) *ledger {
	info, err := out.Stat()
	l := &ledger{out: out, start: time.Now()}
	l.live = err == nil && info.Mode()&os.ModeCharDevice != 0
	l.row("TIME", "KIND", "WHAT", "ATTEMPT", "STATUS", "OUTCOME")
	return l
}

func (l *ledger) row(cells ...any) {
	l.clearWaiting()
	fmt.Fprintf(l.out, "%-8v %-10v %-28v %-8v %-7v %v\n", cells...)
}

func (l *ledger) since() string { return fmt.Sprintf("%6.2fs", time.Since(l.start).Seconds()) }

// enqueue enqueues one task and counts how it should end.
func (l *ledger) enqueue(ctx context.Context, client *handoff.Client, p handoff.Payload, what string, want expected, opts ...handoff.Option) error {
	receipt, err := client.Enqueue(ctx, p, append(opts, handoff.Header(whatHeader, what))...)
	if err != nil {
		return err
	}
	if receipt.Duplicate {
		l.duplicate(p.Kind(), what, want)
		return nil
	}
	l.enqueued(want)
	return nil
}

// whatHeader travels with each task, for the table to show.
const whatHeader = "X-Quickstart-What"

// duplicate counts a task that the service did not create.
func (l *ledger) duplicate(kind, what string, want expected) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expect(want)
	l.got.duplicate++
	l.row(l.since(), kind, what, "-", "-", "duplicate: not created")
}

// enqueued counts a task that was created.
func (l *ledger) enqueued(want expected) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expect(want)
	l.tasks++
}

func (l *ledger) expect(want expected) {
	l.want.done += want.done
	l.want.retried += want.retried
	l.want.duplicate += want.duplicate
	l.want.dead += want.dead
}

// delivered is told by the router how each delivery ended.
func (l *ledger) delivered(_ context.Context, d handoff.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch d.Outcome {
	case handoff.Done:
		l.got.done++
	case handoff.Failed:
		l.got.retried++
	case handoff.Dead:
		l.got.dead++
	case handoff.Duplicate:
		l.got.duplicate++
	}
	ending := d.Outcome.String()
	if d.Err != nil {
		ending += ": " + strings.TrimPrefix(d.Err.Error(), "handoff: "+ending+": ")
	}
	l.row(l.since(), d.Info.Kind, d.Info.Header.Get(whatHeader), d.Info.Attempt, d.Status, ending)
}

// wait returns when Cloud Tasks has no task left. It shows the progress.
func (l *ledger) wait(ctx context.Context, tasks *emulator.Server) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("quickstart: tasks are left after 20 s"))
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	settled := make(chan error, 1)
	go func() { settled <- tasks.Wait(ctx) }()
	for {
		select {
		case err := <-settled:
			l.mu.Lock()
			defer l.mu.Unlock()
			l.clearWaiting()
			l.live = false
			return err
		case <-ticker.C:
			l.showWaiting(len(tasks.Tasks(queue)))
		}
	}
}

func (l *ledger) showWaiting(left int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.live {
		fmt.Fprintf(l.out, "\r\033[K%s  %d of %d tasks left", l.since(), left, l.tasks)
	}
}

func (l *ledger) clearWaiting() {
	if l.live {
		fmt.Fprint(l.out, "\r\033[K")
	}
}

// summary prints the totals, and returns an error unless they are as expected.
func (l *ledger) summary(ctx context.Context, letters handoff.DeadLetterStore) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept, err := letters.CountByKind(ctx)
	if err != nil {
		return err
	}
	inStore := 0
	for _, n := range kept {
		inStore += n
	}
	fmt.Fprintf(l.out, "\n%d tasks in %.1f s\n\n%-20s %9s %9s\n", l.tasks, time.Since(l.start).Seconds(), "", "EXPECTED", "HAPPENED")
	agree := true
	for _, line := range []struct {
		what      string
		want, got int
	}{
		{"delivered", l.want.done, l.got.done},
		{"retried", l.want.retried, l.got.retried},
		{"duplicates stopped", l.want.duplicate, l.got.duplicate},
		{"dead", l.want.dead, l.got.dead},
		{"dead letters kept", l.want.dead, inStore},
	} {
		mark := "ok"
		if line.want != line.got {
			mark, agree = "WRONG", false
		}
		fmt.Fprintf(l.out, "%-20s %9d %9d  %s\n", line.what, line.want, line.got, mark)
	}
	if !agree {
		return errors.New("quickstart: the tasks did not end as expected")
	}
	return nil
}
