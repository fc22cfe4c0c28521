package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// target is a worker that succeeds. It is in this process: what it costs is
// not the emulator's.
type target struct {
	url     string
	server  *http.Server
	arrival atomic.Pointer[func(path string, at time.Time)]
}

func newTarget() (*target, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &target{url: "http://" + l.Addr().String()}
	t.server = &http.Server{Handler: t, ReadHeaderTimeout: time.Minute}
	go func() { _ = t.server.Serve(l) }()
	return t, nil
}

func (t *target) close() { _ = t.server.Close() }

func (t *target) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	now := time.Now()
	_, _ = io.Copy(io.Discard, r.Body)
	if arrival := t.arrival.Load(); arrival != nil {
		(*arrival)(r.URL.Path, now)
	}
}

// job is the work of a handler.
type job struct {
	end  time.Time
	done chan struct{}
}

// finish ends jobs, which all take equally long, at their time: a Go timer is
// up to a millisecond late on Linux, a fiftieth of the work to be done.
func finish(jobs <-chan job, done <-chan struct{}) {
	for {
		select {
		case j := <-jobs:
			sleepUntil(j.end)
			close(j.done)
		case <-done:
			return
		}
	}
}

// each calls arrival at each arrival from now on, several at a time, before
// it is answered.
func (t *target) each(arrival func(path string, at time.Time)) { t.arrival.Store(&arrival) }

// expect makes the target work for so long at each arrival, and returns what
// waits until n have been answered.
func (t *target) expect(n int, work time.Duration) (wait func(context.Context) error) {
	var got atomic.Int64
	done := make(chan struct{})
	var working chan job
	if work > 0 {
		working = make(chan job, n)
		go finish(working, done)
	}
	t.each(func(_ string, now time.Time) {
		if work > 0 {
			j := job{now.Add(work), make(chan struct{})}
			working <- j
			select {
			case <-j.done:
			case <-done: // one too many
			}
		}
		if got.Add(1) == int64(n) {
			close(done)
		}
	})
	return func(ctx context.Context) error {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%d of %d tasks arrived: %w", got.Load(), n, ctx.Err())
		}
	}
}
