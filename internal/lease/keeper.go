// Package lease keeps the leases of a router's deliveries: renews them, gives
// them up in time, and ends claims that are never answered.
package lease

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// AnswerTime is how long a claim may wait for its answer: a worker that waits
// longer for its Store serves nobody.
const AnswerTime = 5 * time.Second

var errNoAnswer = fmt.Errorf("no answer within %s: %w", AnswerTime, context.DeadlineExceeded)

// Config says what to keep. Every field is required.
type Config[L any] struct {
	Renew func(ctx context.Context, leases []L) (kept []bool, err error)
	TTL   time.Duration // of every lease
	Lost  error         // the cause of the context of a delivery whose lease is lost
	Log   *slog.Logger
}

// Keeper renews the leases of all running deliveries of a router together:
// one goroutine and one Store call a tick, however many there are.
//
// It also gives leases up, by this process's own monotonic clock and without
// asking anyone, so that a worker cut off from its Store stops in time. The
// clock starts when the claim or renewal was sent, which is before the Store
// began to count, and a tenth of the lease is left for the handler to stop.
//
// And it ends claims that the Store does not answer: a timer each would cost
// every delivery more than the claim itself.
type Keeper[L any] struct {
	config Config[L]
	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	wake   chan struct{}
	ended  chan struct{}

	mu      sync.Mutex
	held    map[*Hold[L]]struct{}
	started bool // the goroutine exists
	idle    bool // and waits for wake

	interrupted error // why nothing may be claimed or run any more
}

// Hold is one delivery's lease in the keeper's hands, from before its claim
// until it is settled. The keeper's lock guards it.
type Hold[L any] struct {
	Lease L

	sent     time.Time // when the claim or the last successful renewal was sent
	claimed  bool      // the claim was answered, and acquired
	settling bool      // the run is over
	lost     bool
	cancel   context.CancelCauseFunc // of whatever goes on now: the claim, the run, the mark
}

// New returns a keeper. It starts no goroutine before the first claim.
func New[L any](config Config[L]) *Keeper[L] {
	ctx, stop := context.WithCancel(context.Background()) //nolint:gosec // Close calls stop
	return &Keeper[L]{
		config: config,
		ctx:    ctx,
		stop:   stop,
		wake:   make(chan struct{}, 1),
		ended:  make(chan struct{}),
		held:   make(map[*Hold[L]]struct{}),
	}
}

// A lease is renewed at a third of its life; looking twice as often leaves
// room for three tries before it is given up.
func (k *Keeper[L]) tick() time.Duration     { return k.config.TTL / 6 }
func (k *Keeper[L]) renewAge() time.Duration { return k.config.TTL / 3 }

// left is how long h may still be trusted.
func (k *Keeper[L]) left(h *Hold[L]) time.Duration {
	trusted := k.config.TTL - k.config.TTL/10
	if !h.claimed {
		trusted = min(trusted, AnswerTime)
	}
	return trusted - time.Since(h.sent)
}

// Claiming takes h into care before its claim is sent. cancel ends the claim,
// and later the run, if it comes to that.
func (k *Keeper[L]) Claiming(h *Hold[L], cancel context.CancelCauseFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.sent, h.cancel = time.Now(), cancel
	k.held[h] = struct{}{}
	if k.interrupted != nil {
		cancel(k.interrupted)
	}
	switch {
	case !k.started && k.ctx.Err() == nil:
		k.started = true
		go k.run()
	case k.idle:
		k.idle = false
		k.wake <- struct{}{} // never blocks: idle is set once for each receive
	}
}

// Acquired notes that the claim succeeded: from now on h is renewed.
func (k *Keeper[L]) Acquired(h *Hold[L]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.claimed = true
}

// Settling says whether the lease was kept to the end of the run. If so, it is
// kept until Remove, and cancel is called in case it is lost before that.
func (k *Keeper[L]) Settling(h *Hold[L], cancel context.CancelCauseFunc) (kept bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.cancel, h.settling = cancel, true
	h.lost = h.lost || k.left(h) <= 0
	return !h.lost
}

// Interrupt ends all claims and runs, and those to come. What settles goes on.
func (k *Keeper[L]) Interrupt(cause error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.interrupted = cause
	for h := range k.held {
		if !h.settling {
			h.cancel(cause)
		}
	}
}

// Interrupted says whether Interrupt was called.
func (k *Keeper[L]) Interrupted() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.interrupted != nil
}

// Remove ends the keeper's care for h.
func (k *Keeper[L]) Remove(h *Hold[L]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.held, h)
}

// Close stops the goroutine and waits for it.
func (k *Keeper[L]) Close() {
	k.stop()
	k.mu.Lock()
	started := k.started
	k.mu.Unlock()
	if started {
		<-k.ended
	}
}

func (k *Keeper[L]) run() {
	defer close(k.ended)
	timer := time.NewTimer(k.tick())
	defer timer.Stop()
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-timer.C:
		}
		k.renew()
		next, some := k.next()
		if !some {
			select {
			case <-k.ctx.Done():
				return
			case <-k.wake:
			}
			next = k.tick()
		}
		timer.Reset(next)
	}
}

// next says how long to wait: a tick, or less if a lease is to be given up
// before it. With nothing held it notes that the goroutine is about to idle.
func (k *Keeper[L]) next() (wait time.Duration, some bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.held) == 0 {
		k.idle = true
		return 0, false
	}
	wait = k.tick()
	for h := range k.held {
		if !h.lost {
			wait = min(wait, max(0, k.left(h)))
		}
	}
	return wait, true
}

func (k *Keeper[L]) renew() {
	due, leases := k.due()
	if len(due) > 0 {
		ctx, cancel := context.WithTimeout(k.ctx, k.tick())
		sent := time.Now()
		kept, err := k.config.Renew(ctx, leases)
		cancel()
		if err != nil {
			k.config.Log.Warn("handoff: leases could not be renewed", "leases", len(due), "error", err)
		}
		k.renewed(due, kept, sent, err == nil)
	}
	k.expire()
}

func (k *Keeper[L]) due() ([]*Hold[L], []L) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var due []*Hold[L]
	var leases []L
	for h := range k.held {
		if h.claimed && !h.lost && time.Since(h.sent) >= k.renewAge() {
			due = append(due, h)
			leases = append(leases, h.Lease)
		}
	}
	return due, leases
}

// renewed takes in the answer. Unless it is complete, as with one node of a
// Cluster out of reach, what was not kept may still be held.
func (k *Keeper[L]) renewed(due []*Hold[L], kept []bool, sent time.Time, complete bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, h := range due {
		if _, still := k.held[h]; !still {
			continue // it settled meanwhile
		}
		switch {
		case i < len(kept) && kept[i]:
			h.sent = sent
		case complete:
			k.lose(h)
		}
	}
}

func (k *Keeper[L]) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for h := range k.held {
		if !h.lost && k.left(h) <= 0 {
			k.lose(h)
		}
	}
}

func (k *Keeper[L]) lose(h *Hold[L]) {
	h.lost = true
	if h.claimed {
		h.cancel(k.config.Lost)
	} else {
		h.cancel(errNoAnswer)
	}
}
