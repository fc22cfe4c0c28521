package handoff

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/brillconsulting/handoff/internal/wire"
)

// goOnLater ends a delivery whose work goes on in a copy of the task, after
// Snooze, RetryIn, BusyFor or Continue.
func (d *delivery) goOnLater(outcome Outcome, err error) {
	switch {
	case outcome == Retried && d.result.Info.LastAttempt():
		d.bury([]Reason{ReasonExhausted}, err)
		return
	case outcome == Continued && !d.marker.progressed(): // nothing continues for ever
		d.fail(Failed, fmt.Errorf("%w: the attempt made no progress: its memo is that of the attempt before", err))
		return
	}
	in, _ := errors.AsType[*intent](err)
	switch why := d.copyless(); {
	case why != nil && in.opens == OpensUncounted:
		d.retry(Busy, errors.Join(err, why), false)
		return
	case why != nil:
		d.fail(Failed, fmt.Errorf("%w: %w", why, err))
		return
	}
	later := laterCopy{due: time.Now().Add(in.wait), opens: in.opens}
	if in.opens == OpensNext && outcome == Snoozed {
		later.snoozes = 1
	}
	if in.opens != OpensNext {
		later.attempts = d.attempts(in.opens)
	}
	d.createCopy(later, outcome, err)
}

// attempts returns the attempts whose count a copy continues.
func (d *delivery) attempts(opens Opening) wire.Attempts {
	a := wire.Attempts{Earlier: d.earlier, Counted: d.claim.Attempt - d.earlier, First: d.claim.First.UnixMicro()}
	if opens == OpensUncounted {
		a.Counted--
	}
	if a.Counted < 0 || a.First < 0 { // there is no record
		return wire.Attempts{}
	}
	return a
}

// copyless returns why the task cannot be copied, or nil if it can. It logs a
// missing Client once, and any other reason once for each kind.
func (d *delivery) copyless() error {
	switch {
	case d.untyped():
		d.handler.cannotCopy.Do(func() {
			d.log(slog.LevelWarn, "handoff: this kind gets tasks that Enqueue did not create, which cannot be copied for later; their attempts fail, or are busy after BusyFor, and are retried at the queue's pace")
		})
		return errors.New("handoff: a task that Enqueue did not create cannot be copied for later")
	case d.router.config.Client == nil:
		d.router.copyless.Do(func() {
			d.log(slog.LevelError, "handoff: RouterConfig.Client is nil, so tasks cannot be copied for later; they are retried with their backoff")
		})
		return errors.New("handoff: RouterConfig.Client is nil, so the task cannot be copied for later")
	}
	return nil
}

const copyTimeout = 10 * time.Second

// createCopy enqueues the copy and then opens its generation in the Store. In this
// order a crash in between leaves a second copy, which the fence stops. In the
// other order it would lose the work.
func (d *delivery) createCopy(later laterCopy, outcome Outcome, err error) {
	ctx, cancel := context.WithTimeout(d.ctx, copyTimeout)
	defer cancel()
	cerr := d.router.config.Client.copyForLater(ctx, delivered{
		queue:  d.result.Info.Queue,
		stamp:  d.stamp,
		header: d.req.Header,
		body:   d.body,
		caller: d.result.Info.Caller,
	}, later)
	if cerr != nil && neverCreated(cerr) {
		d.fail(Failed, fmt.Errorf("%w: its copy: %w", err, cerr))
		return
	}
	if cerr != nil {
		// If the copy may exist, the attempt counts, so that the next one
		// keeps its mark long enough for the copy to find: see mayHaveCopy.
		d.retry(Unavailable, fmt.Errorf("%w: its copy for later: %w", err, cerr), errors.Is(cerr, ErrUnknown) && !d.result.Info.LastAttempt())
		return
	}
	l := d.lease.Lease
	l.Opens, l.Window = later.opens, d.windowUntil(later.due.Add(taskLife))
	d.complete(l, outcome, err)
}
