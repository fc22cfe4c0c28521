// Package engine is the heart of the emulator: queues of tasks and the
// scheduler that dispatches them. It knows the service's rules about time,
// rates, retries and names (docs/cloud-tasks.md is cited
// where they apply) and nothing about gRPC or HTTP.
//
// Every queue is on its own: one lock, one timer, one agenda. Queues share
// nothing on the way of a task, nothing runs for a task that waits, and an idle
// queue costs no goroutine.
package engine

import (
	"context"
	"errors"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// Reasons to refuse an operation. The caller writes the texts for clients.
var (
	ErrQueueMissing = errors.New("emulator: no such queue")
	ErrQueueExists  = errors.New("emulator: queue exists")
	ErrQueueRecent  = errors.New("emulator: queue existed recently")
	ErrTaskMissing  = errors.New("emulator: no such task")
	ErrTaskGone     = errors.New("emulator: task existed recently")
	ErrTaskExists   = errors.New("emulator: task exists")
	ErrTaskRecent   = errors.New("emulator: a task of this name existed recently")
	ErrClosed       = errors.New("emulator: closed")
)

// Config configures an engine. All fields are required but those with a
// meaning of zero.
type Config struct {
	// Dispatch sends one request and returns when it has ended. It must honour
	// its context, which also carries the dispatch deadline.
	Dispatch func(context.Context, *Dispatch) Outcome

	TombstoneTTL time.Duration // how long a task name stays reserved, unless its queue says; 0: not at all
	TaskTTL      time.Duration // how old a task may grow, unless its queue says
	QueueWindow  time.Duration // how long a queue name stays reserved; 0: not at all
	History      int           // finished tasks a queue remembers
	Throttle     bool          // slow a queue down on 429 and 503
}

// Engine holds the queues. Its methods and those of its queues may be
// called concurrently.
type Engine struct {
	cfg    Config
	queues sync.Map // full name: *Queue

	mu     sync.Mutex // creating, deleting, resetting, closing
	gone   map[string]time.Time
	closed bool
	epoch  *epoch

	held    atomic.Bool // no dispatch begins any more
	stopped atomic.Bool // Wait fails if tasks are left
	settled settled

	messages messages
}

// epoch is the time between two resets, and the dispatches that began in it.
type epoch struct {
	ctx        context.Context
	cancel     context.CancelFunc
	dispatches sync.WaitGroup
}

func newEpoch() *epoch {
	p := new(epoch)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// end cancels the dispatches in flight and returns when they have ended.
func (p *epoch) end() {
	p.cancel()
	p.dispatches.Wait()
}

// New returns an engine without queues.
func New(cfg Config) *Engine {
	e := &Engine{cfg: cfg, gone: make(map[string]time.Time), epoch: newEpoch(), messages: messages{limit: keptBytes}}
	e.settled.changed = make(chan struct{})
	return e
}

// Queue returns the queue of this full name, or nil.
func (e *Engine) Queue(name string) *Queue {
	if q, ok := e.queues.Load(name); ok {
		return q.(*Queue)
	}
	return nil
}

// Queues returns all queues in the order of their names.
func (e *Engine) Queues() []*Queue {
	var all []*Queue
	for _, q := range e.queues.Range {
		all = append(all, q.(*Queue))
	}
	sort.Slice(all, func(i, j int) bool { return all[i].name < all[j].name })
	return all
}

// Create makes a running queue, or reports ErrQueueExists or ErrQueueRecent.
func (e *Engine) Create(d Definition) (*Queue, error) {
	name := d.Queue.GetName()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	if q := e.Queue(name); q != nil {
		return q, ErrQueueExists
	}
	if end, ok := e.gone[name]; ok {
		if time.Since(end) < e.cfg.QueueWindow {
			return nil, ErrQueueRecent
		}
		delete(e.gone, name)
	}
	q := newQueue(e, d)
	e.queues.Store(name, q)
	return q, nil
}

// Delete removes a queue with all its tasks. Dispatches in flight run on, without
// effect. What the service does with them is unknown.
func (e *Engine) Delete(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.Queue(name)
	if q == nil {
		return ErrQueueMissing
	}
	e.queues.Delete(name)
	q.discard()
	if e.cfg.QueueWindow > 0 {
		e.gone[name] = time.Now()
	}
	e.settled.announce()
	return nil
}

// Reset removes every queue and frees every name. It cancels the dispatches in
// flight and returns when they have ended: none begins after.
func (e *Engine) Reset() {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	for _, q := range e.queues.Range {
		q.(*Queue).discard()
	}
	e.queues.Clear()
	clear(e.gone)
	old := e.epoch
	e.epoch = newEpoch()
	e.mu.Unlock()
	old.end()
	e.settled.announce()
}

// Hold makes the engine start no further dispatch.
func (e *Engine) Hold() { e.held.Store(true) }

// Drain returns when no dispatch of an engine on hold is in flight, or with the
// error of ctx. From then on Wait fails if tasks are left.
func (e *Engine) Drain(ctx context.Context) error {
	err := e.await(ctx, func() (bool, error) { return e.inFlight() == 0, nil })
	e.stopWaiting()
	return err
}

// Close stops the scheduler, cancels the dispatches in flight and returns
// when they have ended.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closed = true
	last := e.epoch
	e.mu.Unlock()
	for _, q := range e.Queues() {
		q.close()
	}
	last.end()
	e.stopWaiting()
}

func (e *Engine) stopWaiting() {
	e.stopped.Store(true)
	e.settled.announce()
}

// settled lets callers of Wait sleep until something has changed. While nobody
// waits it costs an atomic load for each dispatch.
type settled struct {
	waiting atomic.Int32
	mu      sync.Mutex
	changed chan struct{}
}

func (s *settled) announce() {
	if s.waiting.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Wait returns when every task has settled: no dispatch is in flight, and no
// task is left but in queues that do not dispatch. It fails with ErrClosed if
// tasks are left when the engine is drained or closed.
func (e *Engine) Wait(ctx context.Context) error {
	return e.await(ctx, func() (bool, error) {
		stopped := e.stopped.Load()
		if e.quiet() {
			return true, nil
		}
		if stopped {
			return true, ErrClosed
		}
		return false, nil
	})
}

// await calls check at first and after each change, until it reports that it is
// done.
func (e *Engine) await(ctx context.Context, check func() (done bool, err error)) error {
	e.settled.waiting.Add(1)
	defer e.settled.waiting.Add(-1)
	for {
		e.settled.mu.Lock()
		changed := e.settled.changed
		e.settled.mu.Unlock()
		if done, err := check(); done {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inFlight is the number of dispatches in flight.
func (e *Engine) inFlight() int {
	n := 0
	for _, q := range e.queues.Range {
		q := q.(*Queue)
		q.mu.Lock()
		n += q.running
		q.mu.Unlock()
	}
	return n
}

// Unsettled is what Wait waits for: the tasks that wait in queues that
// dispatch, and the dispatches that run.
func (e *Engine) Unsettled() int {
	n := 0
	for _, q := range e.queues.Range {
		q := q.(*Queue)
		q.mu.Lock()
		n += q.unsettled()
		q.mu.Unlock()
	}
	return n
}

// quiet looks at every queue twice. A task that moves from a queue not yet
// seen to one already seen would escape one look; between two looks that
// find everything at rest, with no activity begun in between, everything
// was at rest at once.
func (e *Engine) quiet() bool {
	first, ok := e.look()
	if !ok {
		return false
	}
	second, ok := e.look()
	return ok && first == second
}

func (e *Engine) look() (activity uint64, atRest bool) {
	for _, q := range e.queues.Range {
		q := q.(*Queue)
		q.mu.Lock()
		activity += q.activity
		left := q.unsettled()
		q.mu.Unlock()
		if left > 0 {
			return 0, false
		}
	}
	return activity, true
}
