package handoff

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff/internal/create"
	"github.com/brillconsulting/handoff/internal/wire"
)

// Draft is a task that is ready to be created: its ID, key, name, schedule and
// headers are fixed. Use it to store a task, for example in a database
// transaction, and to send it later from another process. A Draft that is sent
// twice is still one piece of work. It cannot be changed, except by
// UnmarshalBinary. The zero Draft is empty and cannot be sent.
type Draft struct {
	req *cloudtaskspb.CreateTaskRequest
}

// draftVersion is the first byte that MarshalBinary writes.
const draftVersion = 1

// Draft makes the task that carries p without creating it, and makes no call. It
// takes the options of [Client.Enqueue] and returns the same errors of the call
// and the payload. The task may be due later than the service's limit of 30 days;
// [Client.Send] returns an error until it is within the limit.
//
// The context is for [ClientConfig].Instrument: the task's trace is that of the
// caller of Draft, not that of Send, which also calls Instrument.
func (c *Client) Draft(ctx context.Context, p Payload, opts ...Option) (Draft, error) {
	call, err := newCall(opts)
	if err != nil {
		return Draft{}, err
	}
	call.drafting = true
	d, err := c.draft(p, call, time.Now())
	if err != nil {
		return Draft{}, err
	}
	return c.publish(ctx, d)
}

// DraftRequest is [Client.Draft] for a task that is not typed. It refuses
// [Request].Unnamed: without a name, two sends would be two tasks.
func (c *Client) DraftRequest(ctx context.Context, r Request, opts ...Option) (Draft, error) {
	call, err := newCall(opts)
	if err != nil {
		return Draft{}, err
	}
	call.drafting = true
	if r.Unnamed {
		return Draft{}, errors.New("handoff: draft request: Request.Unnamed is set, so that two sends would be two tasks")
	}
	d, err := c.draftRequest(r, call, time.Now())
	if err != nil {
		return Draft{}, fmt.Errorf("handoff: draft request: %w", err)
	}
	return c.publish(ctx, d)
}

// publish has Instrument see a draft before it is fixed.
func (c *Client) publish(ctx context.Context, d *draft) (Draft, error) {
	d.step = drafted
	_, err := c.begin(ctx, d)
	if err != nil {
		err = fmt.Errorf("handoff: draft: %w", err)
	}
	public := Draft{req: d.req}
	if err == nil {
		d.receipt = public.Receipt()
	}
	c.observed(d, err)
	if err != nil {
		return Draft{}, err
	}
	return public, nil
}

// Send creates the tasks of drafts, up to 100 in one call, and yields a receipt and
// an error for each, in order, as [EnqueueBatch] does. Sending a draft again yields
// a Duplicate if the draft has a name. Otherwise it may create a second task, which
// the receiving router recognises. Drafts must be of this client's project and
// location.
func (c *Client) Send(ctx context.Context, drafts iter.Seq[Draft]) iter.Seq2[Receipt, error] {
	return func(yield func(Receipt, error) bool) {
		b, err := c.newBatch(ctx, nil)
		if err != nil {
			yield(Receipt{}, err)
			return
		}
		defer b.close()
		for d := range drafts {
			task, err := c.accept(d)
			if !b.addDraft(task, err, yield) {
				return
			}
			if ctx.Err() != nil {
				break
			}
		}
		b.finish(yield)
	}
}

// accept checks a Draft and returns it as a draft of this client.
func (c *Client) accept(d Draft) (*draft, error) {
	switch {
	case d.req == nil:
		return nil, errors.New("handoff: send: the Draft is empty")
	case !strings.HasPrefix(d.req.Parent, c.queues):
		return nil, fmt.Errorf("handoff: send: the Draft is for %s and this client is for %s", d.req.Parent, strings.TrimSuffix(c.queues, "/queues/"))
	}
	stamp := d.stamp()
	receipt := d.receipt(stamp)
	if ahead := time.Until(receipt.ScheduledAt); ahead > create.MaxAhead {
		return nil, fmt.Errorf("handoff: send: the Draft is due in %s; the service's limit is %s (30 days)", ahead.Round(time.Second), create.MaxAhead)
	}
	req := d.req
	if c.config.Instrument != nil {
		req = proto.CloneOf(req) // Instrument may add headers, and the caller may send d again
	}
	return &draft{req: req, receipt: receipt, stamp: stamp, step: sent}, nil
}

// Kind returns the kind of a typed task. It is empty for a [Request].
func (d Draft) Kind() string { return d.stamp().Kind }

// Receipt returns what is known of the task before it is sent. Its Name is empty
// if the service will choose it.
func (d Draft) Receipt() Receipt { return d.receipt(d.stamp()) }

func (d Draft) receipt(stamp wire.Stamp) Receipt {
	header, _ := create.Parts(d.req.GetTask())
	_, queue, _ := strings.Cut(d.req.GetParent(), "/queues/")
	r := Receipt{ID: wire.StampedID(header), Name: d.req.GetTask().GetName(), Queue: queue}
	if at := d.req.GetTask().GetScheduleTime(); at != nil {
		r.ScheduledAt = at.AsTime()
	} else {
		r.ScheduledAt = stamp.Enqueued
	}
	return r
}

// Expires returns when the task's TTL ends. It is zero if the task has none.
func (d Draft) Expires() time.Time { return d.stamp().Expires }

func (d Draft) stamp() wire.Stamp {
	header, _ := create.Parts(d.req.GetTask())
	stamp, _ := wire.ReadStored(header) // it was written by this package
	return stamp
}

func (d Draft) header() map[string][]string {
	flat, _ := create.Parts(d.req.GetTask())
	header := make(map[string][]string, len(flat))
	for name, value := range flat {
		header[name] = []string{value}
	}
	return header
}

// Letter returns a dead letter of the draft, for a task that will not be created,
// such as one that expired while it was stored.
func (d Draft) Letter(reason Reason) (DeadLetter, error) {
	task, stamp := d.req.GetTask(), d.stamp()
	flat, payload := create.Parts(task)
	if stamp.Kind != "" && flat["Content-Encoding"] == "gzip" {
		zr, err := gzip.NewReader(bytes.NewReader(payload))
		if err == nil {
			payload, err = io.ReadAll(zr)
		}
		if err != nil {
			return DeadLetter{}, fmt.Errorf("handoff: the payload of the Draft: %w", err)
		}
	}
	http, now := task.GetHttpRequest(), time.Now()
	token := http.GetOidcToken()
	return DeadLetter{
		ID:        stamp.ID + ".0",
		HandoffID: stamp.ID,
		Queue:     d.Receipt().Queue,
		Kind:      stamp.Kind,
		Key:       stamp.Key,
		Target:    http.GetUrl(),
		Method:    http.GetHttpMethod().String(),
		Header:    wire.LetterHeader(d.header(), stamp),

		ServiceAccount: token.GetServiceAccountEmail(),
		Audience:       token.GetAudience(),

		Payload:  bytes.Clone(payload),
		Reasons:  []Reason{reason},
		FirstAt:  now,
		BuriedAt: now,
		Redrives: stamp.Redrives,
	}, nil
}

// MarshalBinary encodes the draft. Later versions of this package can decode it.
// The encoding is not encrypted: it holds the payload and the headers.
func (d Draft) MarshalBinary() ([]byte, error) {
	if d.req == nil {
		return nil, errors.New("handoff: the Draft is empty")
	}
	b, err := proto.MarshalOptions{}.MarshalAppend([]byte{draftVersion}, d.req)
	if err != nil {
		return nil, fmt.Errorf("handoff: draft: %w", err)
	}
	return b, nil
}

// UnmarshalBinary decodes what MarshalBinary returned.
func (d *Draft) UnmarshalBinary(data []byte) error {
	if len(data) == 0 || data[0] != draftVersion {
		return fmt.Errorf("handoff: not a Draft of version %d", draftVersion)
	}
	req := new(cloudtaskspb.CreateTaskRequest)
	if err := proto.Unmarshal(data[1:], req); err != nil {
		return errors.New("handoff: the stored value is not a Draft") // the error must not quote the payload
	}
	if req.GetTask() == nil {
		return errors.New("handoff: the Draft has no task")
	}
	d.req = req
	return nil
}
