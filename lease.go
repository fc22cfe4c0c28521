package handoff

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// defaultLease is short, so that a killed worker's task runs again soon, and
// renewed, so that a long handler keeps it.
const defaultLease = 30 * time.Second

// keeper renews the leases of all running deliveries of a router together:
// one goroutine and one Store call a tick, however many there are.
//
// It also gives leases up, by this process's own monotonic clock and without
// asking anyone, so that a worker cut off from its Store stops in time. The
// clock starts when the claim or renewal was sent, which is before the Store
// began to count, and a tenth of the lease is left for the handler to stop.
//
// And it ends claims that the Store does not answer: a timer each would cost
// every delivery more than the claim itself.
type keeper struct {
	store Store
	ttl   time.Duration
	log   *slog.Logger
	ctx   context.Context // ends with close
	stop  context.CancelFunc
	wake  chan struct{}
	ended chan struct{}

	mu      sync.Mutex
	held    map[*hold]struct{}
	started bool // the goroutine exists
	idle    bool // and waits for wake
}

// hold is one delivery's lease in the keeper's hands, from before its claim
// until it is settled. The keeper's lock guards it.
type hold struct {
	lease   Lease
	sent    time.Time // when the claim or the last successful renewal was sent
	claimed bool      // the claim was answered, and acquired
	lost    bool
	cancel  context.CancelCauseFunc // of whatever goes on now: the claim, the run, the mark
}

func newKeeper(store Store, ttl time.Duration, log *slog.Logger) *keeper {
	ctx, stop := context.WithCancel(context.Background())
	return &keeper{
		store: store,
		ttl:   ttl,
		log:   log,
		ctx:   ctx,
		stop:  stop,
		wake:  make(chan struct{}, 1),
		ended: make(chan struct{}),
		held:  make(map[*hold]struct{}),
	}
}

// A lease is renewed at a third of its life; looking twice as often leaves
// room for three tries before it is given up.
func (k *keeper) tick() time.Duration     { return k.ttl / 6 }
func (k *keeper) renewAge() time.Duration { return k.ttl / 3 }

// giveUp is when h may no longer be trusted.
func (k *keeper) giveUp(h *hold) time.Time {
	if !h.claimed {
		return h.sent.Add(min(storeTimeout, k.ttl-k.ttl/10))
	}
	return h.sent.Add(k.ttl - k.ttl/10)
}

// claiming takes h into care before its claim is sent.
func (k *keeper) claiming(h *hold) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.sent = time.Now()
	k.held[h] = struct{}{}
	switch {
	case !k.started && k.ctx.Err() == nil:
		k.started = true
		go k.run()
	case k.idle:
		k.idle = false
		k.wake <- struct{}{} // never blocks: idle is set once for each receive
	}
}

// acquired notes that the claim succeeded: from now on h is renewed.
func (k *keeper) acquired(h *hold) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.claimed = true
}

// settling says whether the lease was kept to the end of the run. If so, it is
// kept until remove, and cancel is called in case it is lost before that.
func (k *keeper) settling(h *hold, cancel context.CancelCauseFunc) (kept bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h.cancel = cancel
	h.lost = h.lost || !time.Now().Before(k.giveUp(h))
	return !h.lost
}

// remove ends the keeper's care for h.
func (k *keeper) remove(h *hold) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.held, h)
}

// close stops the goroutine and waits for it.
func (k *keeper) close() {
	k.stop()
	k.mu.Lock()
	started := k.started
	k.mu.Unlock()
	if started {
		<-k.ended
	}
}

func (k *keeper) run() {
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
		next, any := k.next()
		if !any {
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
func (k *keeper) next() (wait time.Duration, any bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.held) == 0 {
		k.idle = true
		return 0, false
	}
	wait = k.tick()
	for h := range k.held {
		if !h.lost {
			wait = min(wait, max(0, time.Until(k.giveUp(h))))
		}
	}
	return wait, true
}

func (k *keeper) renew() {
	due, leases := k.due()
	if len(due) > 0 {
		ctx, cancel := context.WithTimeout(k.ctx, k.tick())
		sent := time.Now()
		kept, err := k.store.Renew(ctx, leases)
		cancel()
		if err != nil {
			k.log.Warn("handoff: leases could not be renewed", "leases", len(due), "error", err)
		} else {
			k.renewed(due, kept, sent)
		}
	}
	k.expire()
}

func (k *keeper) due() ([]*hold, []Lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var due []*hold
	var leases []Lease
	for h := range k.held {
		if h.claimed && !h.lost && time.Since(h.sent) >= k.renewAge() {
			due = append(due, h)
			leases = append(leases, h.lease)
		}
	}
	return due, leases
}

func (k *keeper) renewed(due []*hold, kept []bool, sent time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, h := range due {
		if _, still := k.held[h]; !still {
			continue // it settled meanwhile
		}
		if i < len(kept) && kept[i] {
			h.sent = sent
		} else {
			k.lose(h)
		}
	}
}

func (k *keeper) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for h := range k.held {
		if !h.lost && !now.Before(k.giveUp(h)) {
			k.lose(h)
		}
	}
}

func (k *keeper) lose(h *hold) {
	h.lost = true
	if h.claimed {
		h.cancel(ErrLeaseLost)
	} else {
		h.cancel(errNoAnswer)
	}
}

var errNoAnswer = fmt.Errorf("no answer within %s: %w", storeTimeout, context.DeadlineExceeded)
