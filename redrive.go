package handoff

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/brillconsulting/handoff/internal/fence"
	"github.com/brillconsulting/handoff/internal/wire"
)

// snoozed is a running task that is to run later instead.
type snoozed struct {
	queue, kind string
	header      http.Header // the producer's own
	body        []byte      // inflated
	stamp       wire.Stamp  // as it was delivered
	at          time.Time
	policy      Policy // of the payload's type, for its pace
}

// snooze creates the copy of a task for later: the same work under the same
// fence key, one generation on. Its name is a hash of just these, so doing it
// twice leaves one copy.
func (c *Client) snooze(ctx context.Context, s snoozed) error {
	stamp := s.stamp
	stamp.Generation++
	stamp.Scheduled = s.at
	if life := s.stamp.Lifetime(); life > 0 {
		stamp.Expires = s.at.Add(life)
	}
	due, later, err := (&call{at: s.at}).due(time.Now())
	if err == nil {
		var d *draft
		name := fence.TaskID("snooze", stamp.ID, strconv.Itoa(stamp.Generation))
		if d, err = c.draftCopy(s, stamp, name, due, later); err == nil {
			_, err = c.create(ctx, d)
			return err
		}
	}
	return fmt.Errorf("handoff: snooze: %w", err)
}

// Redrive enqueues the work of one dead letter again, and deletes the letter
// from store once the task exists. It is a fresh piece of work, due at once:
// attempts count from zero, and a key that the old work had does not hold it
// back. It goes to the client's Target, on the letter's queue.
//
// Its ID is a hash of the letter's, and so is its task's name: redriving a
// letter twice, or at the same time, makes one task and no error; the later
// one is a [Receipt].Duplicate. Redrive returns [ErrNoDeadLetter] if store has
// no such letter. If only deleting the letter fails, the receipt is complete
// beside the error, and redriving again is safe.
func (c *Client) Redrive(ctx context.Context, store DeadLetterStore, id string) (Receipt, error) {
	letter, err := store.Get(ctx, id)
	if err != nil {
		return Receipt{}, fmt.Errorf("handoff: redrive: %w", err)
	}
	d, err := c.draftLetter(letter, time.Now())
	if err != nil {
		return Receipt{}, fmt.Errorf("handoff: redrive letter %s: %w", id, err)
	}
	receipt, err := c.create(ctx, d)
	if err != nil {
		return receipt, err
	}
	if err := store.Delete(ctx, id); err != nil {
		return receipt, fmt.Errorf("handoff: redrive: %s is enqueued, but its letter is still there: %w", receipt.Name, err)
	}
	return receipt, nil
}

func (c *Client) draftLetter(letter DeadLetter, now time.Time) (*draft, error) {
	old, err := wire.ReadStamp(letter.Header)
	if err != nil {
		return nil, err
	}
	stamp := wire.Stamp{
		ID:          fence.Key("redrive", letter.ID),
		Enqueued:    now,
		Deadline:    old.Deadline,
		MaxAttempts: old.MaxAttempts, // not stated: the receiving type's own
		Redriven:    letter.ID,
		OldKey:      old.Key,
	}
	if ttl := cmp.Or(old.Lifetime(), c.policy.TTL); ttl != NoTTL {
		stamp.Expires = now.Add(ttl)
	}
	s := snoozed{queue: letter.Queue, kind: letter.Kind, header: letter.Header, body: letter.Payload}
	return c.draftCopy(s, stamp, fence.TaskID("redrive", letter.ID), now, false)
}

// draftCopy makes a task that carries the work of an earlier one.
func (c *Client) draftCopy(s snoozed, stamp wire.Stamp, name string, due time.Time, later bool) (*draft, error) {
	pr, err := c.newProfile(s.kind, Policy{Retry: s.policy.Retry})
	if err != nil {
		return nil, err
	}
	task, header := c.typedTask(pr, s.body)
	for name, values := range s.header {
		if !wire.IsReserved(name) && name != "Authorization" && name != "Content-Type" && name != "Content-Encoding" {
			header[name] = strings.Join(values, ", ")
		}
	}
	return c.address(task, stamp, addressing{kind: s.kind, queue: s.queue, name: name, due: due, later: later})
}
