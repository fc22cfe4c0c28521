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

// read reads the body, within the limits of size and time.
func (d *delivery) read() bool {
	limit := d.router.config.MaxBody
	if d.expired() {
		limit = max(limit, maxTaskSize) // it is buried, whatever its size
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
		return d.refuse(Malformed, "", fmt.Errorf("handoff: the body did not arrive within %s: %w", d.limit(), err))
	case errors.Is(err, body.ErrTooLarge) && !d.expired():
		return d.refuse(TooLarge, "", fmt.Errorf("handoff: RouterConfig.MaxBody is %d: %w", d.router.config.MaxBody, err))
	case errors.Is(err, body.ErrEncoding) && d.raw():
		d.bodyAsSent = true
	case errors.Is(err, body.ErrEncoding), errors.Is(err, body.ErrTooLarge):
		d.bodyAsSent, d.decodeWhy, d.decodeError = true, ReasonUndecodable, fmt.Errorf("handoff: %w", err)
	default:
		return d.refuse(Malformed, "", fmt.Errorf("handoff: reading the body: %w", err))
	}
	return true
}

// maxTaskSize is at least the service's limit for a task (docs/cloud-tasks.md#8.6).
const maxTaskSize = 1 << 20

// limitReading stops the reading of the body when the time of the attempt is over
// or the router is interrupted, until endReading is called.
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

// stopReading makes a blocked read of the body return an error. It must not be
// called under a lock, because closing a body may wait for that read.
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

// restTime is how long the server may read the rest of a body that the delivery
// did not read.
const restTime = 500 * time.Millisecond

// limitRest sets the read deadline to restTime from now, because net/http reads
// the rest of a body before it sends the response. It does nothing for a
// connection without deadlines.
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
