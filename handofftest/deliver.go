package handofftest

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/wire"
)

// DeliverOption changes what [Deliver] sends.
type DeliverOption func(*deliverOptions)

// deliverOptions holds what the options of a Deliver set.
type deliverOptions struct {
	enqueue  []handoff.Option
	attempt  int
	previous int
	eta      time.Time
	caller   string
	expired  bool
	twice    bool
	again    bool
}

// With enqueues the task with opts, such as [handoff.Key].
func With(opts ...handoff.Option) DeliverOption {
	return func(d *deliverOptions) { d.enqueue = append(d.enqueue, opts...) }
}

// Attempt delivers the task n times, as Cloud Tasks does while the task fails.
// The result is the last delivery; the earlier ones are in Others. Deliver fails
// the test if n is less than 1, or if an earlier delivery ends the task.
func Attempt(n int) DeliverOption { return func(d *deliverOptions) { d.attempt = n } }

// PreviousResponse makes the delivery a retry after a dispatch that got this
// status. With [Attempt], deliveries after the first have the real status instead.
func PreviousResponse(status int) DeliverOption {
	return func(d *deliverOptions) { d.previous = status }
}

// ETA sets the time at which the dispatch was due. Defaults to the task's
// schedule time.
func ETA(at time.Time) DeliverOption { return func(d *deliverOptions) { d.eta = at } }

// Caller signs the token for this service account instead of [Account].
func Caller(email string) DeliverOption { return func(d *deliverOptions) { d.caller = email } }

// Expired delivers the task after its TTL. With [Attempt], the earlier deliveries
// are in time. Deliver fails the test if the task has no TTL.
func Expired() DeliverOption { return func(d *deliverOptions) { d.expired = true } }

// Twice makes two deliveries at the same time. The result is the delivery that
// ran the handler, if one did; the other is in Others.
func Twice() DeliverOption { return func(d *deliverOptions) { d.twice = true } }

// Again makes a second delivery after the first has ended. The result is the
// second; the first is in Others.
func Again() DeliverOption { return func(d *deliverOptions) { d.again = true } }

// Deliver enqueues payload with the real client and delivers its task to the
// router as Cloud Tasks would: with a signed token and exact headers, through
// the whole pipeline. The router must be built with [Verifier]: Deliver fails
// the test if the router refuses the token.
//
// The result holds the response that Cloud Tasks would receive, and what became
// of the claim. The handler runs in the goroutine that called Deliver; with
// [Twice], the two deliveries run in goroutines of their own. Deliver works in a
// testing/synctest bubble.
func Deliver(t testing.TB, router *handoff.Router, payload handoff.Payload, opts ...DeliverOption) Result {
	t.Helper()
	d := deliverOptions{attempt: 1, caller: Account}
	for _, opt := range opts {
		opt(&d)
	}
	if d.attempt < 1 {
		t.Fatalf("handofftest: Attempt(%d): the first attempt is 1", d.attempt)
	}
	recorder := NewRecorder(t)
	if _, err := recorder.Client.Enqueue(t.Context(), payload, d.enqueue...); err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	s := &sender{t: t, handler: watched(router), task: recorder.Tasks()[0], options: d}
	return s.all()
}

// sender makes the deliveries of one task.
type sender struct {
	t       testing.TB
	handler http.Handler
	task    *cloudtaskspb.Task
	options deliverOptions

	retries  int // dispatches before the next one
	previous int // status of the latest dispatch
}

func (s *sender) all() Result {
	s.t.Helper()
	if s.previous = s.options.previous; s.previous != 0 {
		s.retries = 1
	}
	var before []Result
	for n := 1; n < s.options.attempt; n++ {
		earlier := s.deliver(s.request(false))
		if !earlier.Retry {
			s.t.Fatalf("handofftest: attempt %d of %d ended the task: %s (%d)", n, s.options.attempt, earlier.Outcome, earlier.Status)
		}
		before = append(before, earlier)
	}
	switch req := s.request(s.options.expired); {
	case s.options.twice:
		return merge(append(before, s.both(req, s.request(s.options.expired))...))
	case s.options.again:
		before = append(before, s.deliver(req))
		req = s.request(s.options.expired)
		fallthrough
	default:
		last := s.deliver(req)
		last.Others = before
		return last
	}
}

func (s *sender) deliver(req *http.Request) Result {
	s.t.Helper()
	result := s.send(req)
	s.check(result)
	s.retries++
	s.previous = result.Status
	return result
}

// both sends two requests at the same time.
func (s *sender) both(reqs ...*http.Request) []Result {
	s.t.Helper()
	results := make([]Result, len(reqs))
	var sent sync.WaitGroup
	for i, req := range reqs {
		sent.Go(func() { results[i] = s.send(req) })
	}
	sent.Wait()
	for _, result := range results {
		s.check(result)
	}
	return results
}

func (s *sender) send(req *http.Request) Result {
	seen := new(sight)
	rec := httptest.NewRecorder()
	func() {
		defer func() {
			if p := recover(); p != nil {
				if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
					panic(p)
				}
				rec.Code = 0 // no response: a server closes the connection
			}
		}()
		s.handler.ServeHTTP(rec, req.WithContext(context.WithValue(req.Context(), sightKey{}, seen)))
	}()
	delivery := seen.delivery
	return Result{Delivery: delivery, Retry: rec.Code < 200 || rec.Code > 299, Settled: settledBy(delivery)}
}

// check fails the test if the router was not built with [Verifier].
func (s *sender) check(result Result) {
	s.t.Helper()
	refused := result.Info.Caller.Email == "" // by the verifier, not by From
	stranger := result.Outcome == handoff.Forbidden && refused && s.options.caller == Account
	if stranger || result.Outcome == handoff.Unauthenticated || result.Reason == handoff.ReasonKeysUnavailable {
		s.t.Fatalf("handofftest: the router refused the token of handofftest.Verifier (%s: %v); build it with RouterConfig.Verifier: handofftest.Verifier(t)",
			result.Outcome, result.Err)
	}
}

func (s *sender) request(expired bool) *http.Request {
	s.t.Helper()
	r := s.task.GetHttpRequest()
	req := httptest.NewRequestWithContext(s.t.Context(), r.HttpMethod.String(), r.Url, bytes.NewReader(r.Body))
	_, req.Header, _ = parts(s.task)
	if expired {
		s.expire(req.Header)
	}
	eta := s.options.eta
	if eta.IsZero() {
		eta = s.task.ScheduleTime.AsTime()
	}
	wire.HTTP.Write(req.Header, wire.Dispatch{
		Queue:            queueOf(s.task.Name),
		Task:             path.Base(s.task.Name),
		RetryCount:       s.retries,
		ETA:              eta,
		Retried:          s.retries > 0,
		PreviousResponse: s.previous,
	})
	req.Header.Set("User-Agent", wire.UserAgentHTTP)
	req.Header.Set("Content-Length", strconv.Itoa(len(r.Body)))
	req.Header.Set("Authorization", "Bearer "+token(s.t, s.options.caller))
	return req
}

func (s *sender) expire(h http.Header) {
	s.t.Helper()
	stamp, err := wire.ReadStamp(h)
	if err != nil {
		s.t.Fatalf("handofftest: %v", err)
	}
	if stamp.Expires.IsZero() {
		s.t.Fatalf("handofftest: Expired: the task has no TTL")
	}
	stamp.Expires = time.Now().Add(-time.Second)
	stamp.Write(h.Set)
}
