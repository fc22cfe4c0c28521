package handoff

import (
	"context"
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

// hold is one running delivery's lease in the keeper's hands.
type hold struct {
	lease  Lease
	sent   time.Time // when the last successful claim or renewal was sent
	cancel context.CancelCauseFunc
	lost   bool // guarded by keeper.mu
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
func (k *keeper) giveUp(h *hold) time.Time { return h.sent.Add(k.ttl - k.ttl/10) }

func (k *keeper) add(h *hold) {
	k.mu.Lock()
	defer k.mu.Unlock()
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

// remove ends the keeper's care for h and says whether the lease was lost.
func (k *keeper) remove(h *hold) (lost bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.held, h)
	return h.lost || time.Now().After(k.giveUp(h))
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
		if !h.lost && time.Since(h.sent) >= k.renewAge() {
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
	h.cancel(ErrLeaseLost)
}
