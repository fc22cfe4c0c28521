package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// worker is the process that receives tasks over HTTP, with one of the
// variants as its handler.
type worker struct {
	*counter

	server   *http.Server
	shutdown func(ctx context.Context) error
	profile  *os.File
}

// Variants of the worker.
const (
	bareEcho      = "echo"
	obviousWay    = "obvious"
	withHandoff   = "handoff"
	withTelemetry = "telemetry"
)

func newWorker(ctx context.Context, s setup) (role, answer, error) {
	w := &worker{counter: newCounter()}
	handler, shutdown, err := w.handler(ctx, s)
	if err != nil {
		return nil, answer{}, err
	}
	w.shutdown = shutdown
	if s.CPUProfile != "" {
		if w.profile, err = os.Create(s.CPUProfile); err != nil {
			return nil, answer{}, err
		}
		if err := pprof.StartCPUProfile(w.profile); err != nil {
			return nil, answer{}, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, answer{}, err
	}
	w.server = &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = w.server.Serve(l) }()
	return w, answer{Addr: l.Addr().String()}, nil
}

// handler makes that of the variant, and what ends it.
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
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := errors.Join(w.server.Shutdown(ctx), w.shutdown(ctx))
	if w.profile != nil {
		pprof.StopCPUProfile()
		err = errors.Join(err, w.profile.Close())
	}
	return err
}

// counter is the empty handler of every side: it counts, and notes how old a
// task is that says when it was sent.
type counter struct {
	handled atomic.Int64
	goal    atomic.Int64
	reached chan struct{}

	mu        sync.Mutex
	latencies []time.Duration
}

func newCounter() *counter { return &counter{reached: make(chan struct{}, 1)} }

func (c *counter) handle(in *invoice) {
	if in.Sent != 0 {
		latency := time.Since(time.Unix(0, in.Sent))
		c.mu.Lock()
		c.latencies = append(c.latencies, latency)
		c.mu.Unlock()
	}
	if c.handled.Add(1) == c.goal.Load() {
		c.reach()
	}
}

func (c *counter) reach() {
	select {
	case c.reached <- struct{}{}:
	default: // it was told already
	}
}

// drain is how long the slowest side may take for the tasks of one run.
const drain = 5 * time.Minute

// await waits until so many tasks have been handled.
func (c *counter) await(ctx context.Context, tasks int) error {
	c.goal.Store(int64(tasks))
	if c.handled.Load() >= int64(tasks) {
		c.reach()
	}
	ctx, cancel := context.WithTimeout(ctx, drain)
	defer cancel()
	select {
	case <-c.reached:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d of %d tasks handled: %w", c.handled.Load(), tasks, ctx.Err())
	}
}

func (c *counter) carryOut(ctx context.Context, o order) (answer, error) {
	switch o.Do {
	case "await":
		return answer{}, c.await(ctx, o.Tasks)
	case "reset":
		c.mu.Lock()
		defer c.mu.Unlock()
		c.handled.Store(0)
		c.goal.Store(0)
		c.latencies = c.latencies[:0]
		select {
		case <-c.reached:
		default:
		}
		return answer{}, nil
	case "tell":
		return c.tell(), nil
	}
	return answer{}, fmt.Errorf("cannot %q", o.Do)
}

func (c *counter) tell() answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.latencies)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return answer{
		Tasks:     int(c.handled.Load()),
		P50:       percentile(c.latencies, 50),
		P99:       percentile(c.latencies, 99),
		Allocated: m.TotalAlloc,
		Heap:      m.HeapInuse,
	}
}
