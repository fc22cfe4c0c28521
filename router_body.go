package handoff

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/brillconsulting/handoff/internal/body"
)

// read takes in the body under its limits of size and time.
func (d *delivery) read() bool {
	limit := d.router.config.MaxBody
	if d.expired() {
		limit = max(limit, maxTaskSize) // it is buried as it came
	}
	d.limitReading()
	var err error
	d.body, d.freeBody, err = body.ReadDelivery(d.req, limit)
	stopped := d.endReading()
	d.bodyRead = err == nil
	switch {
	case err == nil:
	case stopped && d.router.keeper.isInterrupted():
		d.end(Interrupted, fmt.Errorf("handoff: reading the body: %w", ErrInterrupted))
		return false
	case stopped:
		return d.refuse(Malformed, "", fmt.Errorf("handoff: the body did not come within %s: %w", d.limit(), err))
	case errors.Is(err, body.ErrTooLarge) && !d.expired():
		return d.refuse(TooLarge, "", fmt.Errorf("handoff: RouterConfig.MaxBody is %d: %w", d.router.config.MaxBody, err))
	case errors.Is(err, body.ErrEncoding), errors.Is(err, body.ErrTooLarge):
		d.bodyAsSent, d.decodeWhy, d.decodeError = true, ReasonUndecodable, fmt.Errorf("handoff: %w", err)
	default:
		return d.refuse(Malformed, "", fmt.Errorf("handoff: reading the body: %w", err))
	}
	return true
}

// maxTaskSize is more than the service stores of a task (docs/cloud-tasks.md#8.6).
const maxTaskSize = 1 << 20

// limitReading has the reading of the body stopped when the time of the attempt
// is over, or the router is interrupted. Call endReading when the body is read.
func (d *delivery) limitReading() {
	if d.req.Body == nil || d.req.Body == http.NoBody {
		return
	}
	d.readingTimer = time.AfterFunc(d.limit(), d.stopReading)
	d.router.mu.Lock()
	d.router.reading[d] = struct{}{}
	d.router.mu.Unlock()
}

// endReading reports whether the reading was stopped.
func (d *delivery) endReading() (stopped bool) {
	if d.readingTimer == nil {
		return false
	}
	d.readingTimer.Stop()
	d.router.mu.Lock()
	defer d.router.mu.Unlock()
	delete(d.router.reading, d)
	return d.readingStopped
}

// stopReading makes a read of the body that waits return an error. Closing a
// body may wait for that read itself, so it is never called under a lock.
func (d *delivery) stopReading() {
	d.router.mu.Lock()
	_, reading := d.router.reading[d]
	d.readingStopped = d.readingStopped || reading
	d.router.mu.Unlock()
	if !reading {
		return
	}
	if err := http.NewResponseController(d.writer).SetReadDeadline(time.Now()); errors.Is(err, http.ErrNotSupported) || errors.Is(err, os.ErrNoDeadline) {
		_ = d.req.Body.Close()
	}
}

// restTime is how long the server may read what is left of a body after the
// delivery has ended without it.
const restTime = 500 * time.Millisecond

// limitRest bounds that: net/http reads the rest of a body before it sends the
// response. A connection that has no deadline is left to its server.
func (d *delivery) limitRest() {
	if d.req.Body != nil && d.req.Body != http.NoBody && d.req.ContentLength != 0 {
		_ = http.NewResponseController(d.writer).SetReadDeadline(time.Now().Add(restTime))
	}
}

// stopReading ends the reading of all bodies.
func (r *Router) stopReading() {
	r.mu.Lock()
	reading := slices.Collect(maps.Keys(r.reading))
	r.mu.Unlock()
	for _, d := range reading {
		go d.stopReading()
	}
}
