package sqlstore

import (
	"context"
	"sync"
	"time"
)

// Nudge has a relay look for rows at once. Call it after a commit, as often as you
// like. It wakes the relay of this process. If none runs here, it notifies those of
// other processes that have a [Config].Listen, at most ten times a second. Nudge only
// saves time: a relay looks every second anyway.
func (o *Outbox) Nudge(ctx context.Context) {
	local, due := o.relay.nudge()
	switch {
	case local:
		o.relay.rouse()
	case due && o.db.sql.notify != "":
		ctx, cancel := context.WithTimeout(ctx, notifyTimeout)
		defer cancel()
		if _, err := o.db.exec(ctx, o.db.sql.notify, channel, o.db.schema); err != nil {
			o.db.log.DebugContext(ctx, "sqlstore: the relays were not notified; they look every second", "error", err)
		}
	}
}

const (
	// channel is the channel of PostgreSQL's NOTIFY. The payload is the schema.
	channel = "handoff_outbox"

	notifyTimeout = time.Second
	listenPause   = 5 * time.Second // before another Listen, when one has failed
)

// nudge reports whether a relay runs here and, if not, whether another
// notification may be sent.
func (r *relay) nudge() (local, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.runs > 0 {
		return true, false
	}
	if time.Since(r.nudged) < nudgePause {
		return false, false
	}
	r.nudged = time.Now()
	return false, true
}

// rouse has Run look at all queues at once.
func (r *relay) rouse() {
	r.mu.Lock()
	recent := time.Since(r.roused) < nudgePause
	if !recent {
		r.roused = time.Now()
	}
	r.mu.Unlock()
	if recent {
		return // Run looks again after the pause
	}
	r.forget()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// forget has the next scans begin at zero, with all queues.
func (r *relay) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked = time.Time{}
	for _, q := range r.queues {
		q.zeroed = time.Time{}
		if q.pause == 0 {
			q.until = time.Time{}
		}
	}
}

// listen has notifications rouse the relay, until the function that it returns is
// called.
func (o *Outbox) listen(ctx context.Context) (stop func()) {
	o.relay.running(1)
	ctx, cancel := context.WithCancel(ctx)
	var ears sync.WaitGroup
	if o.db.listen != nil {
		ears.Go(func() { o.hear(ctx) })
	}
	return func() {
		cancel()
		ears.Wait()
		o.relay.running(-1)
	}
}

func (r *relay) running(more int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs += more
}

func (o *Outbox) hear(ctx context.Context) {
	for {
		err := o.db.listen(ctx, channel, func(payload string) {
			if payload == o.db.schema {
				o.relay.rouse()
			}
		})
		if ctx.Err() != nil {
			return
		}
		o.db.log.WarnContext(ctx, "sqlstore: no notifications are heard; the relay looks every second", "error", err)
		if sleep(ctx, listenPause) != nil {
			return
		}
	}
}
