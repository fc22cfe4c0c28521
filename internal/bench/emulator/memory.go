package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// quiet is how long memory is left alone before it is read.
const quiet = 10 * time.Second

func measurePending(ctx context.Context, l *lab) ([]figure, error) {
	million, err := l.pendingBytes(ctx, l.tasks(1_000_000))
	if err != nil {
		return nil, err
	}
	figures := []figure{{"resident bytes a task, at a million", million, "B", atMost(600)}}
	if l.all {
		five, err := l.pendingBytes(ctx, l.tasks(5_000_000))
		if err != nil {
			return nil, err
		}
		figures = append(figures, figure{"the same at five million", five, "B", atMost(1.1 * million)})
	}
	return figures, nil
}

// pendingBytes is by how much a process has grown for each of n tasks.
func (l *lab) pendingBytes(ctx context.Context, n int) (float64, error) {
	e, queues, err := l.emulator(ctx, 1, nil)
	if err != nil {
		return 0, err
	}
	defer e.stop()
	grown, err := l.growth(ctx, e, func() error { return l.wait(ctx, e, queues, n) })
	return grown / float64(n), err
}

// wait creates n tasks for much later.
func (l *lab) wait(ctx context.Context, e *emulator, queues []string, n int) error {
	later := time.Now().Add(24 * time.Hour)
	return createBatches(ctx, e.client, queues, n, func(int) *cloudtaskspb.Task { return l.small(later) })
}

// growth is by how many bytes the process is larger some time after load.
func (l *lab) growth(ctx context.Context, e *emulator, load func() error) (float64, error) {
	before, err := e.rss()
	if err != nil {
		return 0, err
	}
	if err := load(); err != nil {
		return 0, err
	}
	if err := pause(ctx, l.time(quiet)); err != nil {
		return 0, err
	}
	after, err := e.rss()
	return after - before, err
}

func measureFinished(ctx context.Context, l *lab) ([]figure, error) {
	e, queues, err := l.emulator(ctx, 10, nil)
	if err != nil {
		return nil, err
	}
	defer e.stop()
	grown, err := l.growth(ctx, e, func() error {
		_, err := l.createAndDispatch(ctx, e, queues, l.tasks(99_000))
		return err
	})
	if err != nil {
		return nil, err
	}
	return []figure{{"resident memory added", grown / 1e6, "MB", atMost(15)}}, nil
}

func measureIdle(ctx context.Context, l *lab) ([]figure, error) {
	var figures []figure
	for _, paused := range []bool{true, false} {
		share, err := l.idleShare(ctx, paused)
		if err != nil {
			return nil, err
		}
		name := "of a core, tasks of tomorrow"
		if paused {
			name = "of a core, due tasks of a paused queue"
		}
		figures = append(figures, figure{name, 100 * share, "%", atMost(0.2)})
	}
	return figures, nil
}

// idleShare is the part of a core that is used while tasks wait: due ones of a
// paused queue, or those of tomorrow.
func (l *lab) idleShare(ctx context.Context, paused bool) (float64, error) {
	e, queues, err := l.emulator(ctx, 1, nil)
	if err != nil {
		return 0, err
	}
	defer e.stop()
	if paused {
		err = l.backlog(ctx, e, queues, l.tasks(100_000))
	} else {
		err = l.wait(ctx, e, queues, l.tasks(100_000))
	}
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, l.time(quiet)); err != nil { // for what the creates left to do
		return 0, err
	}
	var early atomic.Int64
	l.target.each(func(string, time.Time) { early.Add(1) })
	span := l.time(time.Minute)
	used, err := e.cost(1, func() error { return pause(ctx, span) })
	if n := early.Load(); n > 0 {
		err = fmt.Errorf("%d tasks were dispatched", n)
	}
	return used / float64(span.Microseconds()), err
}
