package handoff

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/brillconsulting/handoff/internal/create"
	"github.com/brillconsulting/handoff/internal/fence"
	"github.com/brillconsulting/handoff/internal/wire"
)

// Redrive enqueues the work of one dead letter again, due at once, and marks
// the letter as redriven once the task exists. The work keeps its ID, key, attempt
// limit and backoff. Its attempts, snoozes and TTL start again.
//
// A typed task goes to the client's target of its kind, which must be the one
// that it was enqueued for; otherwise Redrive refuses, naming both, unless
// [Retarget] is given. A request, or a task that handoff did not create, goes to
// the URL that it was delivered to. If its token's audience is not the origin of
// that URL, the URL must be within a target of the client. The letter does not hold the credentials
// that a task had in Authorization or Cookie; Redrive refuses such a letter
// unless [Header] gives them anew. These two are the only options it takes.
//
// The task is named by a hash of the letter and of how often it was redriven:
// redriving a letter twice, or at the same time, makes one task and no error;
// the later one is a [Receipt].Duplicate. Redrive returns [ErrNoDeadLetter] if
// store has no such letter. If only marking the letter fails, the receipt is
// complete beside the error, and redriving again is safe.
func (c *Client) Redrive(ctx context.Context, store DeadLetterStore, id string, opts ...Option) (Receipt, error) {
	call, err := newCall(opts)
	if err == nil {
		err = call.onlyForRedrive()
	}
	if err != nil {
		return Receipt{}, err
	}
	letter, err := store.Get(ctx, id)
	if err != nil {
		return Receipt{}, fmt.Errorf("handoff: redrive: %w", err)
	}
	d, err := c.draftLetter(letter, call, time.Now())
	if err != nil {
		return Receipt{}, fmt.Errorf("handoff: redrive letter %s: %w", id, err)
	}
	receipt, err := c.create(ctx, d)
	if err != nil {
		return receipt, err
	}
	if err := store.MarkRedriven(ctx, id, letter.BuriedAt); err != nil {
		return receipt, fmt.Errorf("handoff: redrive: %s is enqueued, but its letter could not be marked: %w", receipt.Name, err)
	}
	return receipt, nil
}

// onlyForRedrive refuses the options that Redrive does not take.
func (c *call) onlyForRedrive() error {
	rest := *c
	rest.header, rest.retarget = nil, false
	if rest.policy != (Policy{}) || rest.in != 0 || !rest.at.IsZero() || rest.key != "" || rest.name != "" || rest.every != 0 {
		return errors.New("handoff: Redrive takes the options Header and Retarget only; everything else is the letter's")
	}
	return nil
}

func (c *Client) draftLetter(letter DeadLetter, call *call, now time.Time) (*draft, error) {
	stamp, err := wire.ReadStamp(letter.Header)
	if err != nil {
		return nil, err
	}
	header, err := letterHeader(letter, stamp, call.header)
	if err != nil {
		return nil, err
	}
	expires := c.expiry(stamp, now)
	if stamp.ID == "" { // of a task that handoff did not create
		stamp = wire.Stamp{ID: fence.Key("redrive", letter.ID), Key: letter.Key, MaxAttempts: letter.MaxAttempts}
	}
	stamp.Expires = expires
	stamp.Redrives, stamp.Generation, stamp.Snoozes, stamp.Attempts = stamp.Redrives+1, 0, 0, wire.Attempts{}
	stamp.Enqueued, stamp.Scheduled = now, time.Time{}
	at := place{queue: letter.Queue, due: now, name: fence.TaskID("redrive", letter.ID, strconv.Itoa(stamp.Redrives))}
	if stamp.Kind == "" {
		return c.redriveRequest(letter, stamp, header, at)
	}
	target := c.targetOf(stamp.Kind)
	if own := target.base(); stamp.Target != own {
		if !call.retarget {
			return nil, fmt.Errorf("it was enqueued for %s, and this client delivers %q to %s; use a client of that target, or Retarget (handoff dead redrive --to) to send it to this one", shown(stamp.Target), stamp.Kind, own)
		}
		stamp.Target = own
	}
	coding := strings.Join(letter.Header["Content-Encoding"], ", ") // the payload is as it was sent
	if _, err := create.Header("Content-Encoding", coding); err != nil {
		return nil, err
	}
	return c.copyOf(description{stamp: stamp, target: target, header: header, body: letter.Payload, coding: coding, place: at})
}

// letterHeader returns the producer's headers of a letter, with those given
// anew. It refuses a letter whose task had headers that are not there.
func letterHeader(letter DeadLetter, stamp wire.Stamp, given map[string]string) (map[string]string, error) {
	header, err := producerHeader(letter.Header, stamp)
	if err != nil {
		return nil, err
	}
	maps.Copy(header, given)
	missing := slices.DeleteFunc(letter.Withheld(), func(name string) bool { return header[name] != "" })
	if len(missing) > 0 {
		return nil, fmt.Errorf("its task carried %s, which letters never hold; give it anew with the option Header", strings.Join(missing, " and "))
	}
	return header, nil
}

// redriveRequest makes the task of a letter whose task had no payload type: it
// goes where it was delivered, signed as it was.
func (c *Client) redriveRequest(letter DeadLetter, stamp wire.Stamp, header map[string]string, at place) (*draft, error) {
	r := Request{
		URL: letter.Target, Method: letter.Method, Header: make(http.Header), Body: letter.Payload,
		ServiceAccount: letter.ServiceAccount, Audience: letter.Audience,
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	if coding := letter.Header["Content-Encoding"]; len(coding) > 0 {
		r.Header["Content-Encoding"] = coding // the payload is as it was sent
	}
	if r.ServiceAccount != "" && !c.trusts(r.URL, r.Audience) {
		return nil, untrusted(r.URL, r.Audience)
	}
	if own, ok := c.config.Target.(HTTPTarget); ok && r.ServiceAccount == "" && strings.HasPrefix(r.URL, own.base()+"/") {
		r.ServiceAccount, r.Audience = own.ServiceAccount, own.Audience // as every delivery there
	}
	if own, ok := c.config.Target.(AppEngineTarget); ok && letter.ServiceAccount == "" {
		u, err := url.Parse(letter.Target)
		if err != nil {
			return nil, errors.New("the URL that it was delivered to cannot be parsed")
		}
		r.URL, r.AppEngine = u.RequestURI(), &own
	}
	if b := stamp.Backoff; b != (wire.Backoff{}) {
		r.Retry = Retry{MinBackoff: b.Min, MaxBackoff: b.Max, MaxDoublings: b.Doublings, MaxAttempts: stamp.MaxAttempts}
		if b.Doublings == 0 {
			r.Retry.MaxDoublings = NoDoublings
		}
	}
	parts, err := r.parts(nil)
	if err != nil {
		return nil, err
	}
	stamp.Headers = wire.HeaderNames(parts.header)
	return c.put(parts.task, stamp, at)
}
