package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff"
)

// The pace of a relay.
const (
	relayFlights  = 4                      // batches of the only queue that are on their way at once
	maxFlights    = 16                     // of many queues
	relayRows     = 100                    // of a batch
	relayBytes    = 3 << 20                // of a batch
	relayLease    = time.Minute            // how long rows are left to a relay
	relayTimeout  = 20 * time.Second       // of sending a batch
	relayPoll     = time.Second            // between two looks at an empty outbox
	relayFromZero = 3 * time.Second        // between two looks for rows that committed late
	nudgePause    = 100 * time.Millisecond // between two nudges that are heeded
	minPause      = time.Second            // of a queue that refuses tasks, and of a row; doubles
	maxPause      = time.Minute
)

// relay is what a process knows of the queues.
type relay struct {
	wake chan struct{}

	mu     sync.Mutex
	queues map[string]*queue
	looked time.Time // when the queues were looked up
	busy   bool      // rows were found since
	nudged time.Time // when others were notified
	roused time.Time
	runs   int // calls of Run in progress

	sent, buried, unsure atomic.Int64 // as Stats has them
}

// queue is one queue whose rows are relayed.
type queue struct {
	low     int64         // no row below it is expected
	zeroed  time.Time     // when a scan last began at zero
	turn    int           // how many have
	flights int           // batches on their way
	pause   time.Duration // the queue refuses tasks: what the next pause is made from
	until   time.Time     // no batch before: the queue is paused, or had no rows
}

func newRelay() *relay {
	return &relay{wake: make(chan struct{}, 1), queues: make(map[string]*queue)}
}

// Run sends the rows of the outbox as they come, until ctx ends. Several relays,
// of one process or of many, share the work; one that dies leaves its rows to the
// others for a minute.
//
// A queue that does not exist, or that refuses tasks for lack of rights or quota,
// is tried again with one row, at growing intervals of up to a minute; other
// queues do not wait for it. A row that the service calls invalid is parked. A row
// that has expired becomes a dead letter of [DB.DeadLetters].
func (o *Outbox) Run(ctx context.Context) error {
	if err := o.sends(ctx); err != nil {
		return err
	}
	defer o.listen(ctx)()
	air := o.takeOff(ctx)
	defer air.wait()
	timer, nudged := time.NewTimer(relayPoll), false
	defer timer.Stop()
	for ctx.Err() == nil {
		if err := air.launch(); err != nil && ctx.Err() == nil {
			o.db.log.WarnContext(ctx, "sqlstore: the outbox could not be relayed", "error", err)
		}
		select {
		case <-ctx.Done():
		case l := <-air.landed:
			air.land()
			if l.err != nil && ctx.Err() == nil {
				o.db.log.WarnContext(ctx, "sqlstore: the outbox could not be relayed", "queue", l.queue, "error", l.err)
			}
		case <-o.relay.wake:
			nudged = true
			timer.Reset(nudgePause) // for the commits whose nudges were too many
		case <-timer.C:
			if nudged {
				o.relay.forget()
			}
			nudged = false
			timer.Reset(relayPoll)
		}
	}
	return nil
}

// sends returns an error if the client cannot send.
func (o *Outbox) sends(ctx context.Context) error {
	if o.client == nil {
		return errNoClient
	}
	for _, err := range o.client.Send(ctx, slices.Values([]handoff.Draft(nil))) {
		return fmt.Errorf("sqlstore: the outbox's client cannot relay: %w", err)
	}
	return nil
}

// Send sends the rows that are due and returns how many tasks it created. It is
// for where no goroutine runs on after a response, such as on Cloud Run: call it
// after the commit, before the response, or in a sweep by [Outbox.Handler].
func (o *Outbox) Send(ctx context.Context) (int, error) {
	if err := o.sends(ctx); err != nil {
		return 0, err
	}
	o.relay.forget()
	air := o.takeOff(ctx)
	defer air.wait()
	sent, errs := 0, []error(nil)
	for {
		if len(errs) == 0 {
			if err := air.launch(); err != nil {
				errs = append(errs, err)
			}
		}
		if air.flights == 0 {
			return sent, errors.Join(errs...)
		}
		l := <-air.landed
		air.land()
		sent += l.created
		if l.err != nil {
			errs = append(errs, l.err)
		}
	}
}

// Handler returns a handler that sends what is due in the outbox and responds
// 200 when that is done: a relay by Cloud Scheduler, for a service that scales to
// zero. The verifier decides who may call it.
func (o *Outbox) Handler(verifier handoff.Verifier) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := verifier.Verify(r); err != nil {
			switch {
			case errors.Is(err, handoff.ErrForbidden):
				w.WriteHeader(http.StatusForbidden)
			case errors.Is(err, handoff.ErrUnavailable):
				w.WriteHeader(http.StatusServiceUnavailable)
			default:
				w.WriteHeader(http.StatusUnauthorized)
			}
			return
		}
		if _, err := o.Send(r.Context()); err != nil {
			o.db.log.ErrorContext(r.Context(), "sqlstore: the outbox could not be relayed", "error", err)
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
}

// look finds out which queues have rows, now and then: the scan reads the rows
// that were deleted under an old snapshot.
func (o *Outbox) look(ctx context.Context) error {
	r := o.relay
	r.mu.Lock()
	age := relayPoll
	if r.busy {
		age = relayFromZero
	}
	fresh := time.Since(r.looked) < age
	r.mu.Unlock()
	if fresh {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	if err := o.db.check(ctx); err != nil {
		return err
	}
	rows, err := o.db.query(ctx, o.db.sql.queuesOutbox)
	if err != nil {
		return err
	}
	defer rows.Close()
	found := make(map[string]bool)
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		found[name] = true
	}
	if err := rows.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked, r.busy = time.Now(), false
	for name := range found {
		if r.queues[name] == nil {
			r.queues[name] = new(queue)
		}
	}
	for name := range r.queues {
		if !found[name] && r.queues[name].flights == 0 {
			delete(r.queues, name)
		}
	}
	return nil
}

// taken is a row in this relay's hands.
type taken struct {
	id      int64
	lease   int64 // its next_at now
	expired bool
	unknown bool // an earlier send may have created the task
	tries   int
	draft   handoff.Draft
	text    []byte
}

// relayQueue claims a batch of rows and sends it.
func (o *Outbox) relayQueue(ctx context.Context, name string) (int, error) {
	rows, err := o.take(ctx, name)
	if err != nil || len(rows) == 0 {
		o.relay.rest(name)
		return 0, o.db.explain(err)
	}
	var fate settlement
	var alive []taken
	for _, row := range rows {
		switch err := row.draft.UnmarshalBinary(row.text); {
		case err != nil:
			fate.park(row, err)
		case row.expired:
			o.bury(ctx, row, &fate)
		default:
			alive = append(alive, row)
		}
	}
	fate.refused = o.send(ctx, alive, &fate)
	o.relay.pace(name, fate.refused, len(fate.gone)+len(fate.parked) > 0)
	// What became of the rows must be told although the caller may be gone.
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), resolvePatience)
	defer cancel()
	return fate.created, o.settle(within, &fate)
}

// take claims rows by moving their next_at on.
func (o *Outbox) take(ctx context.Context, name string) ([]taken, error) {
	// A connection that swallows everything must not stop the relay.
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	from := o.relay.scan(name)
	rows, err := o.db.query(ctx, o.db.sql.takeOutbox, name, from.low, from.limit, relayBytes, micros(relayLease))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []taken
	last := int64(0)
	for rows.Next() {
		var row taken
		var was int64
		if err := rows.Scan(&row.id, &was, &row.lease, &row.expired, &row.unknown, &row.tries, &row.text); err != nil {
			return nil, err
		}
		last = max(last, was)
		all = append(all, row)
	}
	o.relay.scanned(name, from, last)
	return all, rows.Err()
}

// scan is where a scan of a queue begins, and how many rows it takes.
type scan struct {
	low   int64
	limit int
	turn  int // how many scans had begun at zero
}

func (r *relay) scan(name string) scan {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.queues[name]
	if q == nil {
		return scan{limit: relayRows}
	}
	from := scan{low: q.low, limit: relayRows}
	if q.pause > 0 {
		from.limit = 1
	}
	if time.Since(q.zeroed) >= relayFromZero {
		from.low, q.low, q.zeroed = 0, 0, time.Now()
		q.turn++
	}
	from.turn = q.turn
	return from
}

// scanned notes the last row that a scan took. What is below it was taken, is locked
// by others, or is not committed yet; the next scan from zero finds what is left. A
// scan that began before the last one from zero would skip what that one has found.
func (r *relay) scanned(name string, from scan, last int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.queues[name]; q != nil && q.turn == from.turn {
		q.low = max(q.low, last)
	}
}

// send creates the tasks of rows. It reports whether the queue refuses tasks.
func (o *Outbox) send(ctx context.Context, rows []taken, fate *settlement) (refused bool) {
	if len(rows) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	drafts := func(yield func(handoff.Draft) bool) {
		for _, row := range rows {
			if !yield(row.draft) {
				return
			}
		}
	}
	i := 0
	for _, err := range o.client.Send(ctx, drafts) {
		row := rows[i]
		i++
		switch code := status.Code(err); {
		case err == nil:
			fate.created++
			fate.gone = append(fate.gone, row.id)
		case errors.Is(err, handoff.ErrUnknown):
			fate.back(row, true)
		case code == codes.InvalidArgument:
			fate.park(row, err)
		case code == codes.NotFound, code == codes.PermissionDenied, code == codes.ResourceExhausted, code == codes.FailedPrecondition:
			if !refused {
				o.db.log.WarnContext(ctx, "sqlstore: a queue takes no tasks", "queue", row.draft.Receipt().Queue, "error", err)
			}
			refused = true
			fate.back(row, false)
		default:
			fate.back(row, false)
		}
	}
	for _, row := range rows[i:] { // never sent: ctx ended
		fate.back(row, false)
	}
	return refused
}

// pace pauses a queue that refuses tasks, and ends the pauses of one that takes
// them.
func (r *relay) pace(name string, refused, took bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.queues[name]
	switch {
	case q == nil:
	case refused && q.pause > 0 && time.Now().Before(q.until): // by another batch of the same moment
	case refused:
		q.pause = min(max(2*q.pause, minPause), maxPause)
		q.until = time.Now().Add(q.pause)
	case took:
		r.busy, q.pause, q.until = true, 0, time.Time{}
	default: // no row of the batch was settled: not again at once
		q.until = time.Now().Add(max(q.pause, relayPoll))
	}
}
