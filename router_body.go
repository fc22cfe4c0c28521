package handoff

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/brillconsulting/handoff/internal/body"
)

// read reads the body, within the limits of size and time.
func (d *delivery) read() bool {
	limit := d.router.config.MaxBody
	if d.expired() {
		limit = max(limit, maxTaskSize) // it is buried, whatever its size
	}
	ends := d.result.Received.Add(d.limit())
	d.router.keeper.reading(&d.lease, ends, d.stopReading)
	var err error
	d.body, d.freeBody, err = body.ReadDelivery(d.req, limit)
	d.bodyRead = err == nil
	switch {
	case err == nil:
	case errors.Is(err, body.ErrTooLarge) && !d.expired():
		return d.refuse(TooLarge, "", fmt.Errorf("handoff: RouterConfig.MaxBody is %d: %w", d.router.config.MaxBody, err))
	case errors.Is(err, body.ErrEncoding) && d.raw():
		d.bodyAsSent = true
	case errors.Is(err, body.ErrEncoding), errors.Is(err, body.ErrTooLarge):
		d.bodyAsSent, d.decodeWhy, d.decodeError = true, ReasonUndecodable, fmt.Errorf("handoff: %w", err)
	case d.router.keeper.isInterrupted():
		d.end(Interrupted, fmt.Errorf("handoff: reading the body: %w", ErrInterrupted))
		return false
	case !time.Now().Before(ends):
		return d.refuse(Malformed, "", fmt.Errorf("handoff: the body did not arrive within %s: %w", d.limit(), err))
	default:
		return d.refuse(Malformed, "", fmt.Errorf("handoff: reading the body: %w", err))
	}
	return true
}

// maxTaskSize is at least the service's limit for a task (docs/cloud-tasks.md#8.6).
const maxTaskSize = 1 << 20

// stopReading makes a blocked read of the body return an error. The keeper calls
// it under its lock, so it does not wait: closing a body may wait for that read.
func (d *delivery) stopReading(error) {
	if d.req.Body == nil {
		return
	}
	go func() {
		err := http.NewResponseController(d.writer).SetReadDeadline(time.Now())
		if errors.Is(err, http.ErrNotSupported) || errors.Is(err, os.ErrNoDeadline) {
			_ = d.req.Body.Close()
		}
	}()
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
