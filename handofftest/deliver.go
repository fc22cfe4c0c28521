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
type DeliverOption func(*order)

// order is what Deliver was asked to do.
type order struct {
	enqueue  []handoff.Option
	attempt  int
	previous int
	eta      time.Time
	caller   string
	expired  bool
	twice    bool
	again    bool
}

// With enqueues the task with these options, such as [handoff.Key].
func With(opts ...handoff.Option) DeliverOption {
	return func(o *order) { o.enqueue = append(o.enqueue, opts...) }
}

// Attempt delivers the task n times, as Cloud Tasks does while it is answered
// with failures, and returns the last; those before are in Others. It fails
// the test if one of those ends the task. n is at least 1.
func Attempt(n int) DeliverOption { return func(o *order) { o.attempt = n } }

// PreviousResponse says that there was a dispatch before, answered with this
// status. Those of [Attempt] have the real one.
func PreviousResponse(status int) DeliverOption { return func(o *order) { o.previous = status } }

// ETA is when this attempt was due. Defaults to when the task is.
func ETA(at time.Time) DeliverOption { return func(o *order) { o.eta = at } }

// Caller signs the token for this service account instead of [Account].
func Caller(email string) DeliverOption { return func(o *order) { o.caller = email } }

// Expired delivers the task after its TTL; with [Attempt], the last time only.
// It fails the test if the task has none.
func Expired() DeliverOption { return func(o *order) { o.expired = true } }

// Twice delivers the task twice at the same time. Returned is the delivery
// that ran the handler, if one did; the other is in Others.
func Twice() DeliverOption { return func(o *order) { o.twice = true } }

// Again delivers the task once more after the first delivery ended, and
// returns the second; the first is in Others.
func Again() DeliverOption { return func(o *order) { o.again = true } }

// Deliver enqueues payload with the real client, takes the task that this
// makes, and sends it through the router as Cloud Tasks would: signed token,
// exact headers, the whole pipeline. The router must be built with [Verifier];
// if it refuses the token, Deliver fails the test and says so.
//
// It returns what Cloud Tasks would see, and what became of the claim. The
// delivery runs in the goroutine of the test, with [Twice] in two others. It
// works in a testing/synctest bubble.
func Deliver(t testing.TB, router *handoff.Router, payload handoff.Payload, opts ...DeliverOption) Result {
	t.Helper()
	o := order{attempt: 1, caller: Account}
	for _, opt := range opts {
		opt(&o)
	}
	if o.attempt < 1 {
		t.Fatalf("handofftest: Attempt(%d): the first attempt is 1", o.attempt)
	}
	recorder := NewRecorder(t)
	if _, err := recorder.Client.Enqueue(t.Context(), payload, o.enqueue...); err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	s := &sender{t: t, handler: watched(router), task: recorder.Tasks()[0], order: o}
	return s.all()
}

// sender makes the deliveries of one task.
type sender struct {
	t       testing.TB
	handler http.Handler
	task    *cloudtaskspb.Task
	order   order

	retries  int // dispatches before the next one
	previous int // status of the latest
}

func (s *sender) all() Result {
	s.t.Helper()
	if s.previous = s.order.previous; s.previous != 0 {
		s.retries = 1
	}
	var before []Result
	for n := 1; n < s.order.attempt; n++ {
		earlier := s.deliver(s.request(false))
		if !earlier.Retry {
			s.t.Fatalf("handofftest: attempt %d of %d ended the task: %s (%d)", n, s.order.attempt, earlier.Outcome, earlier.Status)
		}
		before = append(before, earlier)
	}
	switch req := s.request(s.order.expired); {
	case s.order.twice:
		return merge(append(before, s.both(req, s.request(s.order.expired))...))
	case s.order.again:
		before = append(before, s.deliver(req))
		req = s.request(s.order.expired)
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
				rec.Code = 0 // a server closes the connection
			}
		}()
		s.handler.ServeHTTP(rec, req.WithContext(context.WithValue(req.Context(), sightKey{}, seen)))
	}()
	delivery := seen.delivery
	return Result{Delivery: delivery, Retry: rec.Code < 200 || rec.Code > 299, Settled: settledBy(delivery)}
}

// check ends the test if the router's verifier is not ours.
func (s *sender) check(result Result) {
	s.t.Helper()
	stranger := result.Outcome == handoff.Forbidden && s.order.caller == Account
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
	eta := s.order.eta
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
	req.Header.Set("Authorization", "Bearer "+token(s.t, s.order.caller))
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
