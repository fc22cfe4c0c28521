package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/internal/create"
	"github.com/brillconsulting/handoff/internal/fence"
	"github.com/brillconsulting/handoff/internal/wire"
)

// delivered is a task as a router received it.
type delivered struct {
	queue  string
	stamp  wire.Stamp
	header http.Header // of the request
	body   []byte      // not compressed
	caller Caller
}

// laterCopy is what is asked of a copy for later.
type laterCopy struct {
	due      time.Time
	opens    Opening
	snoozes  int           // 1 if Info.Snoozes counts it
	attempts wire.Attempts // that it continues; zero if they start again
}

// copyForLater creates the next generation of a task: the same work under the same
// fence key, at the target that it was stamped with. If its attempts start again,
// so does its TTL, from the time that the copy is due. Otherwise its expiry is
// unchanged.
//
// The task's name is a hash of its work and generation, so that creating the copy
// twice makes one task. neverCreated reports whether an error is permanent.
func (c *Client) copyForLater(ctx context.Context, d delivered, later laterCopy) error {
	draft, err := c.draftCopy(d, later, time.Now())
	if err != nil {
		return fmt.Errorf("handoff: copy %s: %w", d.stamp.Kind, err)
	}
	_, err = c.create(ctx, draft)
	return err
}

func (c *Client) draftCopy(d delivered, later laterCopy, now time.Time) (*draft, error) {
	if d.stamp.Kind == "" {
		return nil, errors.New("a task that Enqueue did not make cannot be copied")
	}
	at := place{queue: d.queue, due: now}
	if later.due.After(now) {
		var err error
		if at.due, at.later, err = (&call{at: later.due}).due(now); err != nil {
			return nil, err
		}
	}
	stamp := d.stamp
	stamp.Generation++
	stamp.Snoozes += later.snoozes
	stamp.Attempts = later.attempts
	if later.opens == OpensNext {
		stamp.Scheduled, stamp.Expires = at.due, c.expiry(d.stamp, at.due)
	}
	at.name = fence.TaskID("generation", stamp.ID, strconv.Itoa(stamp.Redrives), strconv.Itoa(stamp.Generation))
	header, err := producerHeader(d.header, stamp)
	if err != nil {
		return nil, err
	}
	target, err := c.targetOfCopy(stamp, d.caller, header)
	if err != nil {
		return nil, err
	}
	return c.copyOf(description{stamp: stamp, target: target, header: header, body: d.body, place: at})
}

// expiry returns when a copy expires whose TTL starts again at due. Where the stamp
// does not tell the TTL, it is the client's.
func (c *Client) expiry(stamp wire.Stamp, due time.Time) time.Time {
	life := stamp.Lifetime()
	if life <= 0 && (stamp.ID == "" || !stamp.Expires.IsZero()) {
		life = c.config.Policy.TTL
	}
	if life <= 0 {
		return time.Time{}
	}
	if expires := due.Add(life); expires.Before(wire.Latest()) {
		return expires
	}
	return wire.Latest()
}

// copyOf makes a task that carries the work of an earlier one.
func (c *Client) copyOf(desc description) (*draft, error) {
	if err := checkKind(desc.stamp.Kind); err != nil {
		return nil, err
	}
	var err error
	if desc.url, err = desc.target.address("/" + desc.stamp.Kind); err != nil {
		return nil, err
	}
	return c.typed(desc)
}

// targetOfCopy returns the target that a task was stamped with, signed as the
// delivery of the task was. If the Verifier names no account, it is signed as this
// client signs, provided that the client delivers to the same target and the task
// has no Authorization of its own.
func (c *Client) targetOfCopy(stamp wire.Stamp, caller Caller, header map[string]string) (Target, error) {
	if own := c.targetOf(stamp.Kind); caller.Email == "" && header["Authorization"] == "" && own.base() == stamp.Target {
		return own, nil
	}
	if caller.Email != "" && !c.trusts(stamp.Target, caller.Audience) {
		return nil, untrusted(stamp.Target, caller.Audience)
	}
	return parseTarget(stamp.Target, caller)
}

// trusts reports whether a target that a request named may get what was delivered
// with a token for an audience. The sender of a request chooses its headers, and the
// holder of a leaked token could otherwise have new tokens sent to a server of its
// own, or tasks to App Engine, which believes every task.
func (c *Client) trusts(url, audience string) bool {
	if of := origin(url); of != "" && of == origin(audience) {
		return true
	}
	if within(url, c.config.Target) {
		return true
	}
	for _, own := range c.config.Targets {
		if within(url, own) {
			return true
		}
	}
	return false
}

func within(url string, target Target) bool {
	base := target.base()
	return url == base || strings.HasPrefix(url, base+"/")
}

func untrusted(url, audience string) error {
	return fmt.Errorf("it would go to %s, and its token is for the audience %q, which is not there; if the target is one of yours, put it into ClientConfig.Targets", cmp.Or(origin(url), "a target without an origin"), audience)
}

// producerHeader returns the headers that a producer set on a task. It checks them
// again, because they come from a request or from a dead-letter store.
func producerHeader(h http.Header, stamp wire.Stamp) (map[string]string, error) {
	own := make(map[string]string)
	for name, values := range wire.ProducerHeader(h, stamp) {
		if name == "Content-Type" && stamp.Kind != "" {
			continue
		}
		value := strings.Join(values, ", ")
		canonical, err := create.Header(name, value)
		if err != nil {
			return nil, err
		}
		own[canonical] = value
	}
	return own, nil
}

// neverCreated reports whether a create that failed with err can never succeed:
// the service refused it for good, or the task is over a limit.
func neverCreated(err error) bool {
	if errors.Is(err, ErrUnknown) || errors.Is(err, ErrNotSent) {
		return false
	}
	if _, refused := status.FromError(err); !refused {
		return true // the client returned it, before any call
	}
	switch status.Code(err) {
	case codes.NotFound, codes.PermissionDenied, codes.InvalidArgument:
		return true
	}
	return false
}
