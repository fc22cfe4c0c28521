package engine

import (
	"sync"
	"sync/atomic"
)

// workers carry out attempts. Some stay for the next one when they are done:
// a goroutine begins with a small stack, and growing it in the depths of
// net/http, where every frame has to be looked at, is a tenth of the cost of a
// dispatch that comes alone.
type workers struct {
	next    chan *run // to those that stay
	staying atomic.Int32
	closed  chan struct{}
	all     sync.WaitGroup
}

// mostStaying is about what ten queues wake for at once.
const mostStaying = 64

func newWorkers() workers {
	return workers{next: make(chan *run), closed: make(chan struct{})}
}

// start has a worker carry out r.
func (w *workers) start(r *run) {
	select {
	case w.next <- r:
	default:
		w.all.Go(func() { w.work(r) })
	}
}

func (w *workers) work(r *run) {
	for r != nil {
		r.queue.work(r)
		r = w.stay()
	}
}

// stay returns the next attempt, nil if there are enough workers without this one.
func (w *workers) stay() *run {
	defer w.staying.Add(-1)
	if w.staying.Add(1) > mostStaying {
		return nil
	}
	select {
	case r := <-w.next:
		return r
	case <-w.closed:
		return nil
	}
}

// close returns when the workers have ended. No attempt may be under way.
func (w *workers) close() {
	close(w.closed)
	w.all.Wait()
}
