package handoff

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// storeTimeout is how long a call of the Store or the dead-letter store may
// wait for its answer.
const storeTimeout = 5 * time.Second

var errNoAnswer = fmt.Errorf("no answer within %s: %w", storeTimeout, context.DeadlineExceeded)

// leaseKeeper renews the leases of all running deliveries of a router together:
// one goroutine and one Store call a tick, however many there are.
//
// It also gives leases up, by this process's own monotonic clock and without
// asking anyone, so that a worker cut off from its Store stops in time. The
// clock starts when the claim or renewal was sent, which is before the Store
// began to count, and a tenth of the lease is left for the handler to stop.
//
// And it ends claims and completions that the Store does not answer: a timer
// for each would cost every delivery more than the claim itself.
type leaseKeeper struct {
	store Store
	ttl   time.Duration // of every lease
	log   *slog.Logger
	ctx   context.Context // ends when nothing is held any more after close
	stop  context.CancelFunc
	wake  chan struct{}
	ended chan struct{}
	calls sync.WaitGroup // of Renew

	mu          sync.Mutex
	held        map[*heldLease]struct{}
	started     bool // the goroutine exists
	idle        bool // and waits for wake
	renewing    bool // a call of Renew has not returned
	closed      bool
	interrupted error // why nothing may be claimed or run any more
}

// heldLease is the lease of one delivery, from before its claim until it is
// settled. The keeper's lock guards it.
type heldLease struct {
	Lease

	sent     time.Time // when the claim or the last successful renewal was sent
	asked    time.Time // when the call that waits for its answer was sent; zero: none does
	claimed  bool      // the claim was answered, and acquired
	settling bool      // the run is over
	lost     bool
	cancel   context.CancelCauseFunc // of what goes on now: the claim, the run, the settling
}

// newLeaseKeeper returns a keeper. It starts no goroutine before the first claim.
func newLeaseKeeper(store Store, ttl time.Duration, log *slog.Logger) *leaseKeeper {
	ctx, stop := context.WithCancel(context.Background())
	return &leaseKeeper{
		store: store,
		ttl:   ttl,
		log:   log,
		ctx:   ctx,
		stop:  stop,
		wake:  make(chan struct{}, 1),
		ended: make(chan struct{}),
		held:  make(map[*heldLease]struct{}),
	}
}

// A lease is renewed at a third of its life; looking twice as often leaves
// room for three tries before it is given up. Claims are looked after at least
// as often as they may wait.
func (k *leaseKeeper) tick() time.Duration     { return min(k.ttl/6, storeTimeout) }
func (k *leaseKeeper) renewAge() time.Duration { return k.ttl / 3 }

// trusted is how long h may still be believed to be held.
func (k *leaseKeeper) trusted(h *heldLease) time.Duration {
	return k.ttl - k.ttl/10 - time.Since(h.sent)
}

// left is how long nothing has to be done about h.
func (k *leaseKeeper) left(h *heldLease) time.Duration {
	left := k.trusted(h)
	if !h.asked.IsZero() {
		left = min(left, storeTimeout-time.Since(h.asked))
	}
	return left
}

// claiming takes h into care before its claim is sent. cancel ends the claim,
// and later the run, if it comes to that.
func (k *leaseKeeper) claiming(h *heldLease, cancel context.CancelCauseFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	h.sent, h.asked, h.cancel = now, now, cancel
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

// acquired notes that the claim succeeded, and reports whether that was in
// time: from now on h is renewed. A claim that was given up is not.
func (k *leaseKeeper) acquired(h *heldLease) (inTime bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h.lost {
		return false
	}
	h.claimed, h.asked = true, time.Time{}
	return true
}

// settle reports whether the lease was kept to the end of the run. If so, it is
// kept until remove, and cancel is called in case it is lost before that.
func (k *leaseKeeper) settle(h *heldLease, cancel context.CancelCauseFunc) (kept bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.cancel, h.settling, h.asked = cancel, true, time.Time{}
	h.lost = h.lost || k.trusted(h) <= 0
	return !h.lost
}

// ask notes that a call of the Store is about to be sent: if it is not answered
// in time, what goes on is ended. It reports whether the lease is still kept,
// without which nobody watches the call.
func (k *leaseKeeper) ask(h *heldLease) (kept bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.asked = time.Now()
	return !h.lost
}

// answered notes that the call has returned, and reports whether the lease is
// still kept.
func (k *leaseKeeper) answered(h *heldLease) (kept bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.asked = time.Time{}
	return !h.lost
}

// interrupt ends all claims and runs, and those to come. What settles goes on.
func (k *leaseKeeper) interrupt(cause error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.interrupted = cause
	for h := range k.held {
		if !h.settling {
			h.cancel(cause)
		}
	}
}

// isInterrupted reports whether interrupt was called.
func (k *leaseKeeper) isInterrupted() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.interrupted != nil
}

// remove ends the keeper's care for h.
func (k *leaseKeeper) remove(h *heldLease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.held, h)
	k.stopIfDone()
}

// close ends the goroutine once nothing is held, and waits for it if that is
// now. What is still held is renewed for as long as the process lives, since a
// lease that ran out would let another worker in beside its handler.
func (k *leaseKeeper) close() {
	k.mu.Lock()
	k.closed = true
	k.stopIfDone()
	wait := k.started && len(k.held) == 0
	k.mu.Unlock()
	if wait {
		<-k.ended
		k.calls.Wait()
	}
}

func (k *leaseKeeper) stopIfDone() {
	if k.closed && len(k.held) == 0 {
		k.stop()
	}
}

func (k *leaseKeeper) run() {
	defer close(k.ended)
	timer := time.NewTimer(k.tick())
	defer timer.Stop()
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-timer.C:
		}
		k.expire()
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

// next returns how long to wait: a tick, or less if something has to be given
// up before it. With nothing held it notes that the goroutine is about to idle.
func (k *leaseKeeper) next() (wait time.Duration, some bool) {
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

// expire gives up the leases and the calls whose time is over.
func (k *leaseKeeper) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for h := range k.held {
		switch {
		case h.lost || k.left(h) > 0:
		case h.claimed && k.trusted(h) > 0: // a call that was not answered
			h.asked = time.Time{}
			h.cancel(errNoAnswer)
		default:
			k.lose(h)
		}
	}
}

func (k *leaseKeeper) lose(h *heldLease) {
	h.lost = true
	if h.claimed {
		h.cancel(ErrLeaseLost)
	} else {
		h.cancel(errNoAnswer)
	}
}

// renew renews what is due, in a goroutine of its own: while a Store hangs,
// leases have to be given up all the same. One call at a time.
func (k *leaseKeeper) renew() {
	due, leases, limit := k.due()
	if len(due) == 0 {
		return
	}
	k.calls.Go(func() {
		defer k.renewEnded()
		ctx, cancel := context.WithTimeout(k.ctx, limit)
		defer cancel()
		sent := time.Now()
		var kept []bool
		err := guard("Store.Renew", func() (err error) {
			kept, err = k.store.Renew(ctx, leases)
			return err
		})
		if err != nil {
			k.log.Warn("handoff: leases could not be renewed", "leases", len(due), "error", err)
		}
		k.renewed(due, kept, sent, err == nil)
	})
}

// due returns what is to be renewed, and the time that the call may take: no
// longer than the lease that ends first.
func (k *leaseKeeper) due() (due []*heldLease, leases []Lease, limit time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.renewing {
		return nil, nil, 0
	}
	limit = k.tick()
	for h := range k.held {
		if h.claimed && !h.lost && time.Since(h.sent) >= k.renewAge() {
			due = append(due, h)
			leases = append(leases, h.Lease)
			limit = min(limit, k.trusted(h))
		}
	}
	k.renewing = len(due) > 0
	return due, leases, limit
}

func (k *leaseKeeper) renewEnded() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.renewing = false
}

// renewed takes in the answer. Unless it is complete, as with one node of a
// Cluster out of reach, what was not kept may still be held.
func (k *leaseKeeper) renewed(due []*heldLease, kept []bool, sent time.Time, complete bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, h := range due {
		if _, still := k.held[h]; !still || h.lost {
			continue // it settled or was given up meanwhile
		}
		switch {
		case i < len(kept) && kept[i]:
			h.sent = sent
		case complete:
			k.lose(h)
		}
	}
}
