package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"
)

// worker is the process that receives tasks over HTTP. Its variant selects the
// handler.
type worker struct {
	*counter

	server   *http.Server
	shutdown func(ctx context.Context) error
}

// Variants of the worker.
const (
	bareEcho      = "echo"
	obviousWay    = "obvious"
	withHandoff   = "handoff"
	withTelemetry = "telemetry"
)

func newWorker(ctx context.Context, s setup) (role, reply, error) {
	w := &worker{counter: newCounter()}
	handler, shutdown, err := w.handler(ctx, s)
	if err != nil {
		return nil, reply{}, err
	}
	w.shutdown = shutdown
	addr, server, err := serve(handler)
	w.server = server
	return w, reply{Addr: addr}, err
}

// handler returns the handler of the variant, and a function that closes it.
func (w *worker) handler(ctx context.Context, s setup) (http.Handler, func(context.Context) error, error) {
	switch s.Variant {
	case bareEcho:
		return newBareEcho(w.counter), func(context.Context) error { return nil }, nil
	case obviousWay:
		return newObviousWay(ctx, w.counter, s)
	case withHandoff, withTelemetry:
		return newHandoff(w.counter, s)
	}
	return nil, nil, fmt.Errorf("no variant %q", s.Variant)
}

func (w *worker) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return errors.Join(w.server.Shutdown(ctx), w.shutdown(ctx))
}

// counter is the handler of every side. It only counts.
type counter struct {
	handled atomic.Int64
	goal    atomic.Int64
	reached chan struct{}
}

func newCounter() *counter { return &counter{reached: make(chan struct{}, 1)} }

func (c *counter) handle(*invoice) {
	if c.handled.Add(1) == c.goal.Load() {
		c.reach()
	}
}

func (c *counter) reach() {
	select {
	case c.reached <- struct{}{}:
	default: // already signalled
	}
}

// drainTimeout limits how long any side may take for the tasks of one run.
const drainTimeout = 5 * time.Minute

// await waits until the given number of tasks have been handled.
func (c *counter) await(ctx context.Context, tasks int) error {
	c.goal.Store(int64(tasks))
	if c.handled.Load() >= int64(tasks) {
		c.reach()
	}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	select {
	case <-c.reached:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d of %d tasks handled: %w", c.handled.Load(), tasks, ctx.Err())
	}
}

func (c *counter) do(ctx context.Context, what command) (reply, error) {
	switch what.Do {
	case "await":
		return reply{}, c.await(ctx, what.Tasks)
	case "reset":
		c.handled.Store(0)
		c.goal.Store(0)
		select {
		case <-c.reached:
		default:
		}
		return reply{}, nil
	case "tell":
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return reply{Tasks: int(c.handled.Load()), Allocated: m.TotalAlloc}, nil
	}
	return reply{}, fmt.Errorf("cannot %q", what.Do)
}
