package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/brillconsulting/handoff/internal/fence"
)

// What the record of a delivery's work is called, and how long it lives.

// fenceKey returns the key under which the Store knows the work.
func (d *delivery) fenceKey() string {
	switch {
	case d.stamp.Key != "":
		return d.stamp.Key
	case d.foreign():
		return fence.Key("task", d.router.config.Project, d.result.Info.Queue, d.result.Info.Task)
	}
	return fence.IDKey(d.stamp.ID)
}

// letterID names the letter of the work. A foreign task may have the name of an
// earlier one, so its letter is named by its first claim, too.
func (d *delivery) letterID() string {
	if d.foreign() {
		return d.lease.Key + "." + strconv.FormatInt(d.claim.First.UnixMicro(), 10)
	}
	return cmp.Or(d.stamp.Key, d.stamp.ID)
}

const (
	taskLife    = 31 * 24 * time.Hour       // beyond its due time (docs/cloud-tasks.md#8.9)
	nameLife    = 2 * time.Hour             // a name is free again about an hour after its task
	keyedWindow = 24 * time.Hour            // a name may stay reserved so long (docs/cloud-tasks.md#8.3)
	noTTLWindow = 24 * time.Hour            // after the end of work that never expires
	lastMargin  = time.Hour                 // beyond the last moment at which a retry can come
	maxWindow   = 11 * 365 * 24 * time.Hour // of a stamp: that of the longest Every, and a margin
)

// unfinishedWindow is how long the record of work that is not finished lives:
// as long as the service can deliver it. Such records are few.
func (d *delivery) unfinishedWindow() time.Duration {
	due := cmp.Or(d.stamp.Scheduled, d.stamp.Enqueued, d.result.Received)
	if eta := d.result.Info.ScheduledAt; d.stamp.Generation > 0 && eta.After(due) {
		due = eta // of the copy
	}
	return d.windowUntil(due.Add(taskLife))
}

func (d *delivery) windowUntil(end time.Time) time.Duration {
	return max(time.Until(end), lastMargin, d.router.config.Lease)
}

// finalWindow is how long the mark of finished work lives: until no retry and no
// second task of the same work can come any more. These marks are what fills a
// Store.
func (d *delivery) finalWindow() time.Duration {
	window := max(d.maxBackoff()+lastMargin, d.router.config.Lease, min(d.stamp.Window, maxWindow))
	switch {
	case d.foreign():
		window = max(window, nameLife)
	case d.stamp.Expires.IsZero():
		window = max(window, noTTLWindow)
	default:
		window = max(window, time.Until(d.stamp.Expires)+lastMargin)
	}
	if d.stamp.Key != "" {
		window = max(window, keyedWindow)
	}
	if d.stamp.Redrives > 0 {
		window = max(window, d.letterLife()) // its letter may be redriven once more
	}
	if d.mayHaveCopy() {
		window = max(window, taskLife)
	}
	return window
}

// mayHaveCopy reports whether an earlier attempt may have left a copy for later
// that no mark tells of: its worker died, or its response was lost, between the
// copy and the mark. Such a copy comes up to 30 days later, and must find what
// this attempt made of the work.
func (d *delivery) mayHaveCopy() bool {
	return d.router.config.Client != nil && !d.foreign() && d.claim.Attempt > 1
}

// deadWindow is how long work that is dead is remembered: as long as its letter,
// unless the name of the task may be used again before.
func (d *delivery) deadWindow() time.Duration {
	if d.foreign() {
		return d.finalWindow()
	}
	return max(d.finalWindow(), d.letterLife())
}

func (d *delivery) letterLife() time.Duration {
	if d.router.config.DeadLetters == nil {
		return 0
	}
	var life time.Duration
	if err := guard("DeadLetterStore.Retention", func() error { life = d.router.config.DeadLetters.Retention(); return nil }); err != nil {
		d.router.log.Error("handoff: the dead-letter store does not say how long it keeps letters", d.attrs("error", err)...)
	}
	return min(life, maxWindow)
}

// maxBackoff is the longest pause between two dispatches of the task.
func (d *delivery) maxBackoff() time.Duration {
	backoff := d.stamp.Backoff.Max
	if backoff == 0 && d.handler != nil {
		backoff = d.handler.policy.Retry.MaxBackoff
	}
	return min(cmp.Or(backoff, defaultMaxBackoff), taskLife)
}

// free is called for work that is dead. Its letter holds it: if that was deleted,
// the work begins afresh, and the claim is repeated. It reports whether the
// delivery goes on by what the claim says then.
func (d *delivery) free() bool {
	letters, id := d.router.config.DeadLetters, d.claim.Letter
	if letters == nil {
		d.end(Dead, errors.New("handoff: its work has died before, and RouterConfig.DeadLetters is not set"))
		d.result.Reason = ReasonDeadBefore
		d.router.log.Error("handoff: task died", d.attrs("reasons", []Reason{ReasonDeadBefore}, "error", d.result.Err)...)
		return false
	}
	var letter DeadLetter
	err := guard("DeadLetterStore.Get", func() (err error) {
		ctx, cancel := context.WithTimeout(d.ctx, storeTimeout)
		defer cancel()
		letter, err = letters.Get(ctx, id)
		return err
	})
	switch {
	case errors.Is(err, ErrNoDeadLetter):
		d.lease.Freed = id
		return d.ask()
	case err != nil:
		return d.refuse(Unavailable, ReasonDeadLetterStore, fmt.Errorf("handoff: the letter that holds the key: %w", err))
	case !letter.RedrivenAt.IsZero():
		d.end(Busy, fmt.Errorf("handoff: letter %s, which holds the key, was redriven, and its task has not begun", id))
	default:
		d.end(Duplicate, fmt.Errorf("handoff: the key is held by dead letter %s; redrive or delete it", id))
		d.router.log.Warn("handoff: a task of dead work was deleted", d.attrs("letter", id)...)
	}
	return false
}
