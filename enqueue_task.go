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
	"github.com/brillconsulting/handoff/internal/strictjson"
	"github.com/brillconsulting/handoff/internal/wire"
)

// draft is a task that is ready to be created.
type draft struct {
	req     *cloudtaskspb.CreateTaskRequest
	stamp   wire.Stamp // the stamp in req
	receipt Receipt
	once    bool                 // do not retry: a retry could create a second task
	batch   bool                 // in a batch call
	step    step                 // what is done with it
	observe func(Receipt, error) // what ClientConfig.Instrument returned; may be nil
}

// step is what is done with a task: it is enqueued in one step, or drafted and
// sent in two.
type step int

const (
	enqueued step = iota
	drafted
	sent
)

// description is what a typed task is made from. Enqueue makes it from a payload,
// a snooze or a redrive from the stamp of the original task.
type description struct {
	stamp  wire.Stamp
	target Target
	url    string            // address of the stamp's kind at target
	header map[string]string // the producer's own
	body   []byte            // JSON
	coding string            // the Content-Encoding of body, if a letter keeps it as it was sent
	place  place
}

// place is where and when a task goes.
type place struct {
	queue string
	name  string // task ID; empty: the service makes one
	due   time.Time
	later bool // due is not now
}

// draft makes the task that carries p.
func (c *Client) draft(p Payload, call *call, now time.Time) (*draft, error) {
	pr, p, err := c.profile(p)
	if err != nil {
		return nil, err
	}
	desc, err := c.describe(p, pr, call, now)
	if err != nil {
		return nil, fmt.Errorf("handoff: enqueue %s: %w", pr.kind, err)
	}
	d, err := c.typed(desc)
	if err != nil {
		return nil, fmt.Errorf("handoff: enqueue %s: %w", pr.kind, err)
	}
	return d, nil
}

// describe describes the task that carries p, a pointer.
func (c *Client) describe(p Payload, pr *profile, call *call, now time.Time) (description, error) {
	body, err := c.encode(p)
	if err != nil {
		return description{}, err
	}
	due, later, err := call.due(now)
	if err != nil {
		return description{}, err
	}
	policy := call.policy.over(pr.policy)
	stamp := wire.Stamp{
		ID:          fence.NewID(),
		Kind:        pr.kind,
		Target:      pr.base,
		Enqueued:    now,
		Deadline:    policy.Deadline,
		MaxAttempts: policy.Retry.MaxAttempts,
		Backoff:     policy.Retry.backoff(),
	}
	if policy.TTL != NoTTL {
		stamp.Expires = due.Add(policy.TTL)
	}
	if later {
		stamp.Scheduled = due
	}
	key, err := keyOf(p, call)
	if err != nil {
		return description{}, err
	}
	name, err := identify(fence.Work{Project: c.config.Project, Kind: pr.oldest, Key: key}, call, due, &stamp)
	return description{
		stamp: stamp, target: pr.target, url: pr.url, header: call.header, body: body,
		place: place{queue: policy.Queue, name: name, due: due, later: later},
	}, err
}

// encode validates p and returns its JSON.
func (c *Client) encode(p Payload) ([]byte, error) {
	err := guard("Validate", func() error { return validate(p) })
	if err != nil {
		return nil, fmt.Errorf("payload is invalid: %w", err)
	}
	var body []byte
	err = guard("marshalling", func() (err error) {
		body, err = json.Marshal(p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("payload does not marshal: %w", err)
	}
	if strictjson.Replaced(body, p) {
		return nil, errors.New("payload has a string that is not UTF-8, which JSON cannot hold; use []byte")
	}
	if err := strictjson.Check(body, reflect.TypeOf(p)); err != nil {
		return nil, fmt.Errorf("payload marshals to JSON that no worker takes: %w", err)
	}
	if len(body) > c.config.MaxBody {
		return nil, fmt.Errorf("payload is %d bytes of JSON; ClientConfig.MaxBody is %d; for a larger one raise it, and the receiver's RouterConfig.MaxBody with it", len(body), c.config.MaxBody)
	}
	return body, nil
}

// keyOf returns the key of a payload's work; empty if it has none.
func keyOf(p Payload, call *call) (string, error) {
	if call.key != "" || !isKeyed(p) {
		return call.key, nil
	}
	key, err := idempotencyKey(p)
	switch {
	case err != nil:
		return "", err
	case call.name != "":
		return "", errors.New("the payload has an IdempotencyKey and Name is given too; a key names the task by its own hash")
	}
	return key, nil
}

// identify returns the task's name, and stamps the fence key of keyed work. The
// name is empty if the service is to choose it.
func identify(work fence.Work, call *call, due time.Time, stamp *wire.Stamp) (string, error) {
	if work.Key == "" {
		if call.every != 0 {
			return "", errors.New("Every needs a Key, or an IdempotencyKey of the payload")
		}
		return call.name, nil
	}
	if call.every != 0 {
		work.Period = strconv.FormatInt(due.UnixNano()/int64(call.every), 10) + " of " + call.every.String()
		stamp.Window = call.every
	}
	stamp.Key = work.FenceKey()
	return work.TaskID(), nil
}

// typed makes the task of a description. Its policy comes from the stamp only, so
// that a copy has the same.
func (c *Client) typed(desc description) (*draft, error) {
	header := make(map[string]string, len(desc.header)+16) // room for the stamp too
	header["Content-Type"] = "application/json"
	for name, value := range desc.header {
		switch name {
		case "Content-Type", "Content-Encoding":
			return nil, fmt.Errorf("header %s belongs to the payload; use EnqueueRequest for another body", name)
		case "Authorization":
			if desc.target.authorizes() {
				return nil, errors.New("header Authorization would be replaced by the token of HTTPTarget.ServiceAccount")
			}
		}
		header[name] = value
	}
	body := desc.body
	if desc.coding != "" {
		header["Content-Encoding"] = desc.coding
	} else if c.config.CompressOver >= 0 && len(body) > c.config.CompressOver {
		if smaller, ok := create.Compress(body); ok {
			header["Content-Encoding"] = "gzip"
			body = smaller
		}
	}
	task := desc.target.task(desc.url, http.MethodPost, header, body)
	task.RetryConfig = retryConfig(desc.stamp.Backoff, Unlimited)
	desc.stamp.Headers = wire.HeaderNames(desc.header)
	return c.put(task, desc.stamp, desc.place)
}

// put stamps a task and puts it on its queue.
func (c *Client) put(task *cloudtaskspb.Task, stamp wire.Stamp, at place) (*draft, error) {
	if at.queue == "" {
		return nil, errors.New("no queue: name one in the payload's Policy, in ClientConfig.Policy or by OnQueue")
	}
	if stamp.Deadline != 0 {
		if err := create.Deadline(stamp.Deadline, task.GetAppEngineHttpRequest() != nil); err != nil {
			return nil, err
		}
		task.DispatchDeadline = durationpb.New(stamp.Deadline)
	}
	parent := c.queues + at.queue
	if at.name != "" {
		task.Name = parent + "/tasks/" + at.name
	}
	if at.later {
		task.ScheduleTime = timestamppb.New(at.due)
	}
	d := &draft{
		req:     &cloudtaskspb.CreateTaskRequest{Parent: parent, Task: task},
		stamp:   stamp,
		receipt: Receipt{ID: stamp.ID, Queue: at.queue, ScheduledAt: at.due},
	}
	return d, d.writeStamp()
}

// writeStamp returns an error for a stamp that no worker could read: it would refuse
// every delivery, and the task would be lost.
func (d *draft) writeStamp() error {
	header, _ := create.Parts(d.req.Task)
	d.stamp.Write(func(name, value string) { header[name] = value })
	if _, err := wire.ReadStored(header); err != nil {
		return fmt.Errorf("no worker could read the task: %w", err)
	}
	return nil
}

// addHeader adds the headers of ClientConfig.Instrument to the task.
func (d *draft) addHeader(more map[string]string) error {
	header, _ := create.Parts(d.req.Task)
	names := make(map[string]string, len(more)+len(d.stamp.Headers))
	for _, name := range d.stamp.Headers {
		names[name] = ""
	}
	for name, value := range more {
		canonical, err := create.Header(name, value)
		if err != nil {
			return err
		}
		if d.stamp.Kind != "" && (canonical == "Content-Type" || canonical == "Content-Encoding") {
			return fmt.Errorf("header %s belongs to the payload", canonical)
		}
		header[canonical], names[canonical] = value, ""
	}
	d.stamp.Headers = wire.HeaderNames(names)
	return d.writeStamp()
}

// profile is what the tasks of one payload type have in common.
type profile struct {
	kind     string
	oldest   string // the oldest kind: the last of the type's aliases, or kind
	declared Policy // the type's own
	policy   Policy // declared, with the client's policy and the defaults
	target   Target
	base     string // of target
	url      string // address of the kind at target
}

// profile looks up the type of p. It returns p as a pointer, so that methods
// with pointer receivers count.
func (c *Client) profile(p Payload) (*profile, Payload, error) {
	v := reflect.ValueOf(p)
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, nil, fmt.Errorf("handoff: enqueue: the payload is nil (%T)", p)
	}
	if v.Kind() != reflect.Pointer {
		pointer := reflect.New(v.Type())
		pointer.Elem().Set(v)
		p = pointer.Interface().(Payload)
	}
	var kind string
	var declared Policy
	err := errors.Join(
		guard("Kind", func() error { kind = p.Kind(); return nil }),
		guard("Policy", func() error { declared = policyOf(p); return nil }),
	)
	if err != nil {
		return nil, nil, fmt.Errorf("handoff: enqueue %s: %w", v.Type(), err)
	}
	known, ok := c.profiles.Load(v.Type())
	if ok && known.(*profile).kind != kind {
		return nil, nil, fmt.Errorf("handoff: enqueue: Kind of %s is %q now and was %q before; it must be constant", v.Type(), kind, known.(*profile).kind)
	}
	if ok && known.(*profile).declared == declared {
		return known.(*profile), p, nil
	}
	pr, err := c.newProfile(p, kind, declared)
	if err != nil {
		return nil, nil, fmt.Errorf("handoff: enqueue %s: %w", v.Type(), err)
	}
	c.profiles.Store(v.Type(), pr)
	return pr, p, nil
}

func (c *Client) newProfile(p Payload, kind string, declared Policy) (*profile, error) {
	pr := &profile{kind: kind, declared: declared, policy: declared.over(c.policy), target: c.targetOf(kind)}
	err := guard("Aliases", func() (err error) {
		pr.oldest, err = oldestKind(p)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := pr.policy.check("Policy of "+kind, pr.target.appEngine()); err != nil {
		return nil, err
	}
	pr.base = pr.target.base()
	pr.url, err = pr.target.address("/" + kind)
	return pr, err
}

// oldestKind returns the first name that the kind of p had. It is part of the keys
// of keyed work, which therefore stay the same when a kind is renamed.
func oldestKind(p Payload) (string, error) {
	kinds := append([]string{p.Kind()}, aliasesOf(p)...)
	for _, kind := range kinds {
		if err := checkKind(kind); err != nil {
			return "", err
		}
	}
	return kinds[len(kinds)-1], nil
}

// targetOf returns where tasks of a kind go.
func (c *Client) targetOf(kind string) Target {
	if t, ok := c.config.Targets[kind]; ok {
		return t
	}
	return c.config.Target
}

func (r Retry) backoff() wire.Backoff {
	return wire.Backoff{Min: r.MinBackoff, Max: r.MaxBackoff, Doublings: max(r.MaxDoublings, 0)}
}

// retryConfig is the service's form of a retry policy. All five fields are set,
// because how a task's own settings merge with its queue's is not documented
// (docs/cloud-tasks.md#7.3).
func retryConfig(b wire.Backoff, maxAttempts int) *cloudtaskspb.RetryConfig {
	return &cloudtaskspb.RetryConfig{
		MaxAttempts:      int32(maxAttempts),
		MaxRetryDuration: durationpb.New(0),
		MinBackoff:       durationpb.New(b.Min),
		MaxBackoff:       durationpb.New(b.Max),
		MaxDoublings:     int32(b.Doublings),
	}
}

// check returns an error that names every field out of range. Zero is in range.
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
	if p.TTL < 0 && p.TTL != NoTTL || p.TTL > longest {
		fail("TTL", p.TTL, "positive and at most 10 years, or NoTTL")
	}
	r := p.Retry
	if r.MaxAttempts < Unlimited || r.MaxAttempts > maxInt32 {
		fail("Retry.MaxAttempts", r.MaxAttempts, "1 to 2147483647 or Unlimited")
	}
	if r.MinBackoff < 0 {
		fail("Retry.MinBackoff", r.MinBackoff, "positive")
	}
	if r.MaxBackoff < 0 || r.MaxBackoff > longest {
		fail("Retry.MaxBackoff", r.MaxBackoff, "positive and at most 10 years")
	}
	if r.MinBackoff > cmp.Or(r.MaxBackoff, defaultMaxBackoff) {
		fail("Retry.MinBackoff", r.MinBackoff, fmt.Sprintf("at most the max backoff, %s", cmp.Or(r.MaxBackoff, defaultMaxBackoff)))
	}
	if r.MaxDoublings < NoDoublings || r.MaxDoublings > maxInt32 {
		fail("Retry.MaxDoublings", r.MaxDoublings, "1 to 2147483647 or NoDoublings")
	}
	return errors.Join(errs...)
}

const maxInt32 = 1<<31 - 1

// longest is far above the service's limits and far below an overflow of times.
const longest = 10 * 365 * 24 * time.Hour
