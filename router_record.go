package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/brillconsulting/handoff/internal/fence"
)

// This file decides the key of a record in the Store and how long it lives. Windows
// are counted from the arrival of the delivery. The Store counts from its call, so a
// record lives longer than needed, by the time of the run.

// fenceKey returns the key of the work's record in the Store.
func (d *delivery) fenceKey() string {
	switch {
	case d.key != "":
		return d.key
	case d.foreign():
		return fence.Key("task", d.router.config.Project, d.result.Info.Queue, d.result.Info.Task)
	}
	return fence.IDKey(d.stamp.ID)
}

// byName reports whether the work is known by the name of a foreign task only,
// which may be that of an earlier one.
func (d *delivery) byName() bool { return d.foreign() && d.key == "" }

// letterID returns the ID of the work's letter. Of work that is known by the name
// of its task, it includes the time of the first claim.
func (d *delivery) letterID() string {
	if d.byName() {
		return d.lease.Key + "." + strconv.FormatInt(d.claim.First.UnixMicro(), 10)
	}
	return cmp.Or(d.key, d.stamp.ID)
}

const (
	taskLife    = 31 * 24 * time.Hour       // beyond its due time (docs/cloud-tasks.md#8.9)
	nameLife    = 2 * time.Hour             // a name is free again about an hour after its task
	keyedWindow = 24 * time.Hour            // a name may stay reserved this long (docs/cloud-tasks.md#8.3)
	noTTLWindow = 24 * time.Hour            // for work that never expires
	lastMargin  = time.Hour                 // added to the time of the last possible retry
	maxWindow   = 11 * 365 * 24 * time.Hour // limit of what a stamp may ask for: the longest Every and a margin
)

// unfinishedWindow returns how long the record of unfinished work lives: as long
// as the service can deliver its task. There are few such records.
func (d *delivery) unfinishedWindow() time.Duration {
	due := cmp.Or(d.stamp.Scheduled, d.stamp.Enqueued, d.result.Received)
	if eta := d.result.Info.ScheduledAt; d.stamp.Generation > 0 && eta.After(due) {
		due = eta // of the copy
	}
	return d.windowUntil(due.Add(taskLife))
}

func (d *delivery) windowUntil(end time.Time) time.Duration {
	return max(min(end.Sub(d.result.Received), maxWindow), lastMargin, d.router.config.Lease)
}

// finalLease returns the lease to complete with, if the work is over.
func (d *delivery) finalLease() Lease {
	l := d.lease.Lease
	l.Window = d.finalWindow()
	return l
}

// finalWindow returns how long the mark of finished work lives: until no retry and
// no second task of the same work can arrive. Most records of a Store are such
// marks, so it is as short as that allows.
func (d *delivery) finalWindow() time.Duration {
	window := max(d.maxBackoff()+lastMargin, d.router.config.Lease, min(d.stamp.Window, maxWindow))
	switch {
	case d.foreign():
		window = max(window, nameLife)
	case d.result.Info.ExpiresAt.IsZero():
		window = max(window, noTTLWindow)
	default:
		window = max(window, min(d.result.Info.ExpiresAt.Sub(d.result.Received), maxWindow)+lastMargin)
	}
	if d.key != "" {
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

// mayHaveCopy reports whether an earlier attempt may have created a copy for later
// without marking it, because its worker died or the response to the create was
// lost. The copy may arrive up to 30 days later and must then find the mark of
// this attempt. A last attempt whose create has no response is given back, so where
// there is only one, its number tells nothing.
func (d *delivery) mayHaveCopy() bool {
	return d.router.config.Client != nil && !d.foreign() && (d.claim.Attempt > 1 || d.result.Info.MaxAttempts == 1)
}

// deadWindow returns how long the mark of dead work lives: as long as its letter.
// The mark of work that is known by its task's name lives no longer than a final
// one, because the name may be used again.
func (d *delivery) deadWindow() time.Duration {
	if d.byName() {
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
		d.log(slog.LevelError, "handoff: the dead-letter store's Retention panicked", "error", err)
	}
	return min(life, maxWindow)
}

// maxBackoff returns the longest time between two dispatches of the task.
func (d *delivery) maxBackoff() time.Duration {
	backoff := d.stamp.Backoff.Max
	if backoff == 0 && d.handler != nil {
		backoff = d.handler.policy.Retry.MaxBackoff
	}
	return min(cmp.Or(backoff, defaultMaxBackoff), taskLife)
}

// free is called if the claim found dead work. If the letter of the work was
// deleted, free repeats the claim, so that the work starts again, and returns
// true. Otherwise it ends the delivery and returns false.
func (d *delivery) free() bool {
	id := d.claim.Letter
	if d.router.config.DeadLetters == nil {
		d.end(Dead, errors.New("handoff: the work was buried before, and RouterConfig.DeadLetters is not set"))
		d.result.Reason = ReasonDeadBefore
		return false
	}
	letter, err := d.letterOf(id)
	switch {
	case errors.Is(err, ErrNoDeadLetter):
		d.lease.Freed = id
		return d.ask() && d.stillGone(id)
	case err != nil:
		return d.refuse(Unavailable, ReasonDeadLetterStore, fmt.Errorf("handoff: the letter that holds the key: %w", err))
	case !letter.RedrivenAt.IsZero() && d.byName():
		// The redriven task has an ID made from its letter, so it never claims this record.
		d.end(Duplicate, fmt.Errorf("handoff: the task was buried, and its letter %s was redriven as another task", id))
	case !letter.RedrivenAt.IsZero():
		d.end(Busy, fmt.Errorf("handoff: letter %s, which holds the key, was redriven, and its task has not begun", id))
	default:
		d.endHeld(id)
	}
	return false
}

func (d *delivery) letterOf(id string) (letter DeadLetter, err error) {
	err = guard("DeadLetterStore.Get", func() (err error) {
		ctx, cancel := context.WithTimeout(d.ctx, storeTimeout)
		defer cancel()
		letter, err = d.router.config.DeadLetters.Get(ctx, id)
		return err
	})
	return letter, err
}

// stillGone looks for the letter again, once the claim that frees its work was
// acquired: another task may have begun the work before that and been buried in a
// letter with the same ID. The work is then marked as dead again.
func (d *delivery) stillGone(id string) bool {
	if d.claim.Status != ClaimAcquired {
		return true
	}
	if _, err := d.letterOf(id); err != nil {
		return true
	}
	l := d.lease.Lease
	l.Letter, l.Window = id, d.deadWindow()
	if err := guard("Store.Complete", func() error { return d.router.config.Store.Complete(d.ctx, l) }); err != nil {
		d.disown()
		return d.refuse(Unavailable, ReasonStore, fmt.Errorf("handoff: the key is held by dead letter %s: %w", id, err))
	}
	d.endHeld(id)
	return false
}

func (d *delivery) endHeld(id string) {
	d.claim.Status = ClaimDead
	d.end(Duplicate, fmt.Errorf("handoff: the key is held by dead letter %s; redrive or delete it", id))
}
