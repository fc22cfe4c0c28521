package sqlstore

import (
	"context"
	"fmt"
	"time"
)

// air has the batches that one Run or Send is sending, called flights. A queue does
// not wait for the flights of another.
type air struct {
	outbox  *Outbox
	ctx     context.Context
	flights int
	landed  chan landing
}

// landing is the end of a flight.
type landing struct {
	queue   string
	created int
	err     error
}

func (o *Outbox) takeOff(ctx context.Context) *air {
	return &air{outbox: o, ctx: ctx, landed: make(chan landing, maxFlights)}
}

// launch starts batches of the queues that have rows to send.
func (a *air) launch() error {
	o := a.outbox
	if err := o.look(a.ctx); err != nil {
		return fmt.Errorf("sqlstore: relay: %w", o.db.explain(err))
	}
	for _, name := range o.relay.due(maxFlights - a.flights) {
		a.flights++
		go func() {
			created, err := o.relayQueue(a.ctx, name)
			o.relay.ended(name)
			a.landed <- landing{name, created, err}
		}()
	}
	return nil
}

// land notes that a landing was received.
func (a *air) land() { a.flights-- }

// wait returns when all flights have landed.
func (a *air) wait() {
	for ; a.flights > 0; a.flights-- {
		<-a.landed
	}
}

// due returns the queues to take a batch of, at most so many, and counts a flight
// for each. A queue that refuses tasks has one flight at a time, as a probe. The
// others share relayFlights.
func (r *relay) due(limit int) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, open := time.Now(), 0
	for _, q := range r.queues {
		if q.pause == 0 {
			open++
		}
	}
	var all []string
	for name, q := range r.queues {
		share := 1
		if q.pause == 0 {
			share = max(1, relayFlights/open)
		}
		for ; q.flights < share && len(all) < limit && !now.Before(q.until); q.flights++ {
			all = append(all, name)
		}
	}
	return all
}

func (r *relay) ended(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.queues[name]; q != nil {
		q.flights--
	}
}

// rest leaves a queue alone for a while: it had no rows, or they could not be read.
func (r *relay) rest(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.queues[name]; q != nil {
		q.until = time.Now().Add(max(q.pause, relayPoll))
	}
}
