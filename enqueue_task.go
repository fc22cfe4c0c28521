package handoff

import (
	"cmp"
	"encoding/json"
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
	receipt Receipt
	kind    string
	once    bool                 // do not retry: no receiver would recognise a second copy
	batch   bool                 // one of an EnqueueBatch
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
	body, err := json.Marshal(p)
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
	task, header := c.typedTask(pr, body)
	if err := c.addHeader(header, call.header); err != nil {
		return nil, err
	}
	return c.address(task, stamp, addressing{kind: pr.kind, queue: policy.Queue, name: name, due: due, later: later})
}

// typedTask makes a task that carries the JSON of a payload, compressed if it
// is large. It returns the task's headers too.
func (c *Client) typedTask(pr *profile, body []byte) (*cloudtaskspb.Task, map[string]string) {
	header := map[string]string{"Content-Type": "application/json"}
	if c.config.CompressOver >= 0 && len(body) > c.config.CompressOver {
		if smaller, ok := create.Compress(body); ok {
			header["Content-Encoding"] = "gzip"
			body = smaller
		}
	}
	task := c.config.Target.task(pr.address, http.MethodPost, header, body)
	task.RetryConfig = pr.policy.Retry.config(Unlimited)
	return task, header
}

// addressing is where and when a task goes.
type addressing struct {
	kind, queue string
	name        string // task ID; empty: the service makes one
	due         time.Time
	later       bool // due is not now
}

// address stamps a task and puts it on its queue.
func (c *Client) address(task *cloudtaskspb.Task, stamp wire.Stamp, to addressing) (*draft, error) {
	if to.queue == "" {
		return nil, errors.New("no queue: name one in the payload's Policy, in ClientConfig.Policy or by OnQueue")
	}
	if stamp.Deadline != 0 {
		if err := create.Deadline(stamp.Deadline, task.GetAppEngineHttpRequest() != nil); err != nil {
			return nil, err
		}
		task.DispatchDeadline = durationpb.New(stamp.Deadline)
	}
	parent := c.queues + to.queue
	if to.name != "" {
		task.Name = parent + "/tasks/" + to.name
	}
	if to.later {
		task.ScheduleTime = timestamppb.New(to.due)
	}
	header, _ := create.Parts(task)
	stamp.Write(func(name, value string) { header[name] = value })
	return &draft{
		req:     &cloudtaskspb.CreateTaskRequest{Parent: parent, Task: task},
		receipt: Receipt{ID: stamp.ID, Queue: to.queue, ScheduledAt: to.due},
		kind:    to.kind,
	}, nil
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

// addHeader adds the caller's own headers to those of a typed task.
func (c *Client) addHeader(header, own map[string]string) error {
	for name, value := range own {
		switch name {
		case "Content-Type", "Content-Encoding":
			return fmt.Errorf("header %s belongs to the payload; use EnqueueRequest for another body", name)
		case "Authorization":
			if c.config.Target.authorizes() {
				return errors.New("header Authorization would be replaced by the token of HTTPTarget.ServiceAccount")
			}
		}
		header[name] = value
	}
	return nil
}

// profile is what the tasks of one payload type have in common.
type profile struct {
	kind     string
	declared Policy // the type's own
	policy   Policy // with the client's and all defaults
	address  string // URL, or relative URI for App Engine
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
	var err error
	pr.address, err = c.config.Target.address("/" + kind)
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
