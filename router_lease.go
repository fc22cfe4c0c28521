package handoff

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"
)

// storeTimeout is the timeout of a call of the Store or the dead-letter store.
const storeTimeout = 5 * time.Second

var errNoResponse = fmt.Errorf("no response within %s: %w", storeTimeout, context.DeadlineExceeded)

// leaseKeeper renews the leases of all running deliveries of a router. It has
// one goroutine, which makes at most one Store call a tick for all of them.
//
// It also treats a lease as lost before the lease can run out, by the monotonic
// clock of this process, so that a worker that cannot reach its Store stops in
// time. The time of a lease counts from when the claim or renewal was sent, which
// is before the Store began to count. The handler has a tenth of the lease left
// to stop.
//
// It also stops the reading of a body that takes too long, and cancels claims and
// completions after storeTimeout. A timer for each would cost more than the claim
// itself.
type leaseKeeper struct {
	store Store
	ttl   time.Duration // of every lease
	log   *slog.Logger
	ctx   context.Context // ends after close, once no lease is held
	stop  context.CancelFunc
	wake  chan struct{}
	ended chan struct{}
	calls sync.WaitGroup // of Renew

	mu          sync.Mutex
	held        map[*heldLease]struct{}
	started     bool      // the goroutine was started
	idle        bool      // the goroutine waits for wake
	looks       time.Time // when the goroutine looks next, unless it is idle
	renewing    bool      // a call of Renew has not returned
	closed      bool
	interrupted error // why claims and runs are cancelled; nil if they are not
}

// heldLease is the lease of one delivery, from the reading of the body until the
// delivery is settled. Its fields are guarded by the keeper's mu.
type heldLease struct {
	Lease

	sent     time.Time // when the claim or the last successful renewal was sent; zero before the claim
	ends     time.Time // when the reading or the Store call in progress is cancelled; zero if there is none
	claimed  bool      // the claim returned and was acquired
	settling bool      // the run is over
	lost     bool
	cancel   context.CancelCauseFunc // cancels the current step: the reading, the claim, the run or the settling
}

// newLeaseKeeper returns a keeper. It starts no goroutine before the first delivery.
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

// A lease is renewed after a third of its TTL. A tick of a sixth leaves time for
// three tries before the lease counts as lost. A tick is at most storeTimeout, so
// that claims are cancelled in time.
func (k *leaseKeeper) tick() time.Duration     { return min(k.ttl/6, storeTimeout) }
func (k *leaseKeeper) renewAge() time.Duration { return k.ttl / 3 }

// trusted returns how much longer h counts as held.
func (k *leaseKeeper) trusted(h *heldLease) time.Duration {
	return k.ttl - k.ttl/10 - time.Since(h.sent)
}

// left returns how long until expire must look at h.
func (k *leaseKeeper) left(h *heldLease) time.Duration {
	switch {
	case h.sent.IsZero():
		return time.Until(h.ends)
	case h.ends.IsZero():
		return k.trusted(h)
	}
	return min(k.trusted(h), time.Until(h.ends))
}

// reading adds h before the body is read. The keeper calls stop at the time ends,
// or before if the router is interrupted. stop must not block.
func (k *leaseKeeper) reading(h *heldLease, ends time.Time, stop context.CancelCauseFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.ends, h.cancel = ends, stop
	k.held[h] = struct{}{}
	if k.interrupted != nil {
		stop(k.interrupted)
	}
	switch {
	case !k.started && k.ctx.Err() == nil:
		k.started, k.looks = true, time.Now().Add(k.tick())
		go k.run()
	case k.idle || ends.Before(k.looks):
		k.idle, k.looks = false, ends
		select {
		case k.wake <- struct{}{}:
		default: // it is awake already
		}
	}
}

// claiming notes that the body was read and the claim is about to be sent. The
// keeper calls cancel to end the claim and, after that, the run.
func (k *leaseKeeper) claiming(h *heldLease, cancel context.CancelCauseFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	h.sent, h.ends, h.cancel, h.lost = now, now.Add(storeTimeout), cancel, false
	if k.interrupted != nil {
		cancel(k.interrupted)
	}
}

// acquired notes that the claim was acquired, so that h is renewed from now on.
// It returns false if the claim was cancelled before; h is not renewed then.
func (k *leaseKeeper) acquired(h *heldLease) (inTime bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h.lost {
		return false
	}
	h.claimed, h.ends = true, time.Time{}
	return true
}

// settle notes that the run is over, and reports whether the lease was kept until
// now. If so, it is renewed until remove, and cancel is called if it is lost.
func (k *leaseKeeper) settle(h *heldLease, cancel context.CancelCauseFunc) (kept bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.cancel, h.settling, h.ends = cancel, true, time.Time{}
	h.lost = h.lost || k.trusted(h) <= 0
	return !h.lost
}

// ask notes that a Store call is about to be sent, so that the call is cancelled
// after storeTimeout. It reports whether the lease is still kept; if it is not,
// the caller must set the timeout itself.
func (k *leaseKeeper) ask(h *heldLease) (kept bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.ends = time.Now().Add(storeTimeout)
	return !h.lost
}

// returned notes that the call of ask has returned, and reports whether the lease
// is still kept.
func (k *leaseKeeper) returned(h *heldLease) (kept bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.ends = time.Time{}
	return !h.lost
}

// interrupt cancels all claims and runs, also later ones. Settling goes on.
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

// remove drops h, which is not renewed any more.
func (k *leaseKeeper) remove(h *heldLease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.held, h)
	k.stopIfDone()
}

// close ends the goroutine once no lease is held, and waits for it if none is held
// now. Leases that are still held are renewed until their handlers return or the
// process ends: otherwise another worker would run the same work beside them.
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
	timer := time.NewTimer(k.next())
	defer timer.Stop()
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-timer.C:
		case <-k.wake:
		}
		k.expire()
		k.renew()
		timer.Reset(k.next())
	}
}

// next returns how long to wait for wake: a tick, or less if a lease, a reading or
// a call expires before. Without any of them it returns the longest Duration and
// notes that the goroutine is idle.
func (k *leaseKeeper) next() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.idle = len(k.held) == 0
	if k.idle {
		return math.MaxInt64
	}
	wait := k.tick()
	for h := range k.held {
		if !h.lost {
			wait = min(wait, max(0, k.left(h)))
		}
	}
	k.looks = time.Now().Add(wait)
	return wait
}

// expire cancels the calls and readings whose time is over, and the leases that are
// no longer trusted.
func (k *leaseKeeper) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for h := range k.held {
		switch {
		case h.lost || k.left(h) > 0:
		case h.claimed && k.trusted(h) > 0: // a call has timed out
			h.ends = time.Time{}
			h.cancel(errNoResponse)
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
		h.cancel(errNoResponse)
	}
}

// renew renews the leases that are due. It calls the Store in another goroutine,
// one call at a time, so that expire runs in time even while the Store hangs.
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

// due returns the leases to renew and the timeout of the call, which is at most
// the time that the first of them is still trusted. It is less than a tick, so that
// the next tick can try again.
func (k *leaseKeeper) due() (due []*heldLease, leases []Lease, limit time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.renewing {
		return nil, nil, 0
	}
	limit = k.tick() / 10 * 9
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

// renewed records the result of Renew. If it is not complete, because one node of
// a Redis Cluster could not be reached for example, a lease that was not renewed
// may still be held.
func (k *leaseKeeper) renewed(due []*heldLease, kept []bool, sent time.Time, complete bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, h := range due {
		if _, still := k.held[h]; !still || h.lost {
			continue // removed or lost during the call
		}
		switch {
		case i < len(kept) && kept[i]:
			h.sent = sent
		case complete:
			k.lose(h)
		}
	}
}
