package handoff

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/internal/create"
	"github.com/brillconsulting/handoff/internal/fence"
	"github.com/brillconsulting/handoff/internal/wire"
)

// draft is a task that is ready to be created.
type draft struct {
	req     *cloudtaskspb.CreateTaskRequest
	form    *create.Form
	header  create.Headers // in the scratch of the call, as is the body; nil once they are in req
	body    []byte
	receipt Receipt
	kind    string
	once    bool                 // do not try again: nothing would recognise a second copy
	batch   bool                 // it goes with others
	size    int                  // bytes on the wire, at most
	observe func(Receipt, error) // of ClientConfig.Instrument; may be nil
}

// draft makes the task that carries p.
func (c *Client) draft(p Payload, call *call, now time.Time) (*draft, error) {
	pr, err := c.profile(p)
	if err != nil {
		return nil, err
	}
	d, err := c.draftOf(p, pr, call, now)
	if err != nil {
		return nil, fmt.Errorf("handoff: enqueue %s: %w", pr.kind, err)
	}
	return d, nil
}

func (c *Client) draftOf(p Payload, pr *profile, call *call, now time.Time) (*draft, error) {
	if err := validate(p); err != nil {
		return nil, fmt.Errorf("payload is invalid: %w", err)
	}
	body, err := call.scratch.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("payload does not marshal: %w", err)
	}
	due, later, err := call.due(now)
	if err != nil {
		return nil, err
	}
	policy := call.policy.over(pr.policy)
	stamp := wire.Stamp{ID: fence.NewID(), Enqueued: now, MaxAttempts: policy.Retry.MaxAttempts, Deadline: policy.Deadline}
	if policy.TTL != NoTTL {
		stamp.Expires = due.Add(policy.TTL)
	}
	if later {
		stamp.Scheduled = due
	}
	name, err := c.identify(p, pr.kind, call, due, &stamp)
	if err != nil {
		return nil, err
	}
	d := &draft{kind: pr.kind, form: pr.form, header: call.scratch.Header[:0], receipt: Receipt{ID: stamp.ID, Queue: policy.Queue, ScheduledAt: due}}
	c.encode(d, body)
	stamp.Write(d.header.Set)
	if err := c.addHeader(d, call.header); err != nil {
		return nil, err
	}
	return d, c.address(d, name, later, policy.Deadline)
}

// address puts the task on its queue, under its name and at its time, to be
// dispatched within its deadline if it has one.
func (c *Client) address(d *draft, name string, later bool, deadline time.Duration) error {
	if d.receipt.Queue == "" {
		return errors.New("no queue: name one in the payload's Policy, in ClientConfig.Policy or by OnQueue")
	}
	task := new(cloudtaskspb.Task)
	if deadline != 0 {
		if err := create.Deadline(deadline, d.form.AppEngine); err != nil {
			return err
		}
		task.DispatchDeadline = durationpb.New(deadline)
	}
	parent := c.queues + d.receipt.Queue
	if name != "" {
		task.Name = parent + "/tasks/" + name
	}
	if later {
		task.ScheduleTime = timestamppb.New(d.receipt.ScheduledAt)
	}
	d.req = &cloudtaskspb.CreateTaskRequest{Parent: parent, Task: task}
	return nil
}

// identify returns the task's name, empty for one that the service makes, and
// stamps the fence key of keyed work.
func (c *Client) identify(p any, kind string, call *call, due time.Time, stamp *wire.Stamp) (string, error) {
	key, keyed := call.key, call.keyed
	if with, ok := p.(interface{ IdempotencyKey() string }); ok && !keyed {
		key, keyed = with.IdempotencyKey(), true
		switch {
		case key == "":
			return "", errors.New("IdempotencyKey is empty, so all payloads without a key would be one piece of work")
		case call.name != "":
			return "", errors.New("the payload has an IdempotencyKey and Name is given too; a key names the task by its own hash")
		}
	}
	if !keyed {
		if call.every != 0 {
			return "", errors.New("Every needs a Key, or an IdempotencyKey of the payload")
		}
		return call.name, nil
	}
	parts := []string{kind, key}
	if call.every != 0 {
		parts = append(parts, strconv.FormatInt(due.UnixNano()/int64(call.every), 10), call.every.String())
		stamp.Window = call.every
	}
	stamp.Key = fence.Key("key", parts...)
	return fence.TaskID("key", parts...), nil
}

// encode gives the draft its body, compressed if it is large, and the headers
// that say what it is.
func (c *Client) encode(d *draft, body []byte) {
	d.header.Set("Content-Type", "application/json")
	d.body = body
	if c.config.CompressOver < 0 || len(body) <= c.config.CompressOver {
		return
	}
	if smaller, ok := create.Compress(body); ok {
		d.header.Set("Content-Encoding", "gzip")
		d.body = smaller
	}
}

// addHeader adds the caller's own headers to those of a typed task.
func (c *Client) addHeader(d *draft, own map[string]string) error {
	for name, value := range own {
		switch name {
		case "Content-Type", "Content-Encoding":
			return fmt.Errorf("header %s belongs to the payload; use EnqueueRequest for another body", name)
		case "Authorization":
			if c.config.Target.authorizes() {
				return errors.New("header Authorization would be replaced by the token of HTTPTarget.ServiceAccount")
			}
		}
		d.header.Set(name, value)
	}
	return nil
}

// profile is what the tasks of one payload type have in common.
type profile struct {
	kind     string
	declared Policy // the type's own
	policy   Policy // with the client's and all defaults
	form     *create.Form
}

// profile looks up the type of p.
func (c *Client) profile(p Payload) (*profile, error) {
	v := reflect.ValueOf(p)
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, fmt.Errorf("handoff: enqueue: the payload is nil (%T)", p)
	}
	kind, declared := p.Kind(), policyOf(p)
	known, ok := c.profiles.Load(v.Type())
	if ok && known.(*profile).kind != kind {
		return nil, fmt.Errorf("handoff: enqueue: Kind of %T is %q now and was %q before; it must be constant", p, kind, known.(*profile).kind)
	}
	if ok && known.(*profile).declared == declared {
		return known.(*profile), nil
	}
	pr, err := c.newProfile(kind, declared)
	if err != nil {
		return nil, fmt.Errorf("handoff: enqueue %T: %w", p, err)
	}
	c.profiles.Store(v.Type(), pr)
	return pr, nil
}

func (c *Client) newProfile(kind string, declared Policy) (*profile, error) {
	if err := checkKind(kind); err != nil {
		return nil, err
	}
	pr := &profile{kind: kind, declared: declared, policy: declared.over(c.policy)}
	if err := pr.policy.check("Policy of "+kind, c.config.Target.appEngine()); err != nil {
		return nil, err
	}
	address, err := c.config.Target.address("/" + kind)
	if err != nil {
		return nil, err
	}
	task := c.config.Target.request(address, http.MethodPost)
	task.RetryConfig = pr.policy.Retry.config(Unlimited)
	pr.form, err = create.NewForm(task)
	return pr, err
}

// config is the service's form of a retry policy. All five fields are set,
// because how a task's own settings merge with its queue's is not documented
// (docs/cloud-tasks.md#7.3).
func (r Retry) config(maxAttempts int) *cloudtaskspb.RetryConfig {
	return &cloudtaskspb.RetryConfig{
		MaxAttempts:      int32(maxAttempts),
		MaxRetryDuration: durationpb.New(0),
		MinBackoff:       durationpb.New(r.MinBackoff),
		MaxBackoff:       durationpb.New(r.MaxBackoff),
		MaxDoublings:     int32(max(r.MaxDoublings, 0)),
	}
}

// check names every field that is out of range. Zero fields are in range.
func (p Policy) check(field string, appEngine bool) error {
	var errs []error
	fail := func(name string, value any, want string) {
		errs = append(errs, fmt.Errorf("%s.%s is %v; it must be %s, or zero for the default", field, name, value, want))
	}
	if p.Queue != "" {
		if err := create.QueueID(p.Queue); err != nil {
			errs = append(errs, fmt.Errorf("%s.Queue: %w", field, err))
		}
	}
	if p.Deadline != 0 {
		if err := create.Deadline(p.Deadline, appEngine); err != nil {
			errs = append(errs, fmt.Errorf("%s.Deadline: %w", field, err))
		}
	}
	if p.TTL < 0 && p.TTL != NoTTL {
		fail("TTL", p.TTL, "positive or NoTTL")
	}
	r := p.Retry
	if r.MaxAttempts < Unlimited || r.MaxAttempts > maxInt32 {
		fail("Retry.MaxAttempts", r.MaxAttempts, "1 to 2147483647 or Unlimited")
	}
	if r.MinBackoff < 0 {
		fail("Retry.MinBackoff", r.MinBackoff, "positive")
	}
	if r.MaxBackoff < 0 {
		fail("Retry.MaxBackoff", r.MaxBackoff, "positive")
	}
	if r.MinBackoff > cmp.Or(r.MaxBackoff, defaultMaxBackoff) {
		fail("Retry.MinBackoff", r.MinBackoff, fmt.Sprintf("at most MaxBackoff, %s", cmp.Or(r.MaxBackoff, defaultMaxBackoff)))
	}
	if r.MaxDoublings < NoDoublings || r.MaxDoublings > maxInt32 {
		fail("Retry.MaxDoublings", r.MaxDoublings, "1 to 2147483647 or NoDoublings")
	}
	return errors.Join(errs...)
}

const maxInt32 = 1<<31 - 1
