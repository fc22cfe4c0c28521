package handofftest

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/wire"
)

// Result is how one delivery ended.
type Result struct {
	handoff.Delivery

	// Retry says whether Cloud Tasks would deliver the task again.
	Retry bool

	// Settled says what became of the claim on the task.
	Settled Settled

	// Others are the deliveries made beside or before this one, by [Twice],
	// [Again] and [Attempt].
	Others []Result
}

// Settled is what became of a claim.
type Settled string

// What can become of a claim.
const (
	NotClaimed Settled = "not claimed" // the delivery ended before, or the work was not free
	Completed  Settled = "completed"   // nothing runs the work again
	Buried     Settled = "buried"      // the same, and the dead-letter store has it
	Counted    Settled = "counted"     // released: the next attempt follows
	Uncounted  Settled = "uncounted"   // released, as if it had not begun
	LeaseLost  Settled = "lost"        // somebody else's by now
)

// DeliverOption changes what [Deliver] sends.
type DeliverOption func(*dispatch)

// dispatch is what Deliver is about to do.
type dispatch struct {
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
	return func(d *dispatch) { d.enqueue = append(d.enqueue, opts...) }
}

// Attempt delivers the task n times, as Cloud Tasks does while it is answered
// with failures, and returns the last. It fails the test if an earlier one ends
// the task. n is at least 1.
func Attempt(n int) DeliverOption { return func(d *dispatch) { d.attempt = n } }

// PreviousResponse is the status that the dispatch before this one was
// answered with. Deliveries of [Attempt] have the real one.
func PreviousResponse(status int) DeliverOption { return func(d *dispatch) { d.previous = status } }

// ETA is when this attempt was due. Defaults to now.
func ETA(at time.Time) DeliverOption { return func(d *dispatch) { d.eta = at } }

// Caller signs the token for this service account instead of [Account].
func Caller(email string) DeliverOption { return func(d *dispatch) { d.caller = email } }

// Expired delivers the task after its TTL.
func Expired() DeliverOption { return func(d *dispatch) { d.expired = true } }

// Twice delivers the task twice at the same time, and returns the one that
// ended last; the other is in Others.
func Twice() DeliverOption { return func(d *dispatch) { d.twice = true } }

// Again delivers the task once more after the first delivery ended, and
// returns the second; the first is in Others.
func Again() DeliverOption { return func(d *dispatch) { d.again = true } }

// Deliver enqueues payload with the real client, takes the task that this
// makes, and sends it through the router as Cloud Tasks would: signed token,
// exact headers, the whole pipeline. The router must be built with [Verifier];
// Deliver fails the test otherwise.
//
// It returns what Cloud Tasks would see and what became of the claim.
func Deliver(t testing.TB, router *handoff.Router, payload handoff.Payload, opts ...DeliverOption) Result {
	t.Helper()
	d := dispatch{attempt: 1, eta: time.Now(), caller: Account}
	for _, opt := range opts {
		opt(&d)
	}
	recorder := NewRecorder(t)
	if _, err := recorder.Client.Enqueue(t.Context(), payload, d.enqueue...); err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	s := &sender{t: t, router: mount(router), task: recorder.Tasks()[0], dispatch: d}
	return s.all()
}

// sender makes the deliveries of one task.
type sender struct {
	t        testing.TB
	router   *captured
	task     *cloudtaskspb.Task
	dispatch dispatch
}

func (s *sender) all() Result {
	s.t.Helper()
	var before []Result
	for n := range s.dispatch.attempt - 1 {
		earlier := s.send(n, s.previous(before))
		if !earlier.Retry {
			s.t.Fatalf("handofftest: attempt %d of %d ended the task: %s (%d)", n+1, s.dispatch.attempt, earlier.Outcome, earlier.Status)
		}
		before = append(before, earlier)
	}
	retries := len(before)
	last := s.last(retries, s.previous(before))
	last.Others = append(before, last.Others...)
	return last
}

func (s *sender) previous(before []Result) int {
	if len(before) == 0 {
		return s.dispatch.previous
	}
	return before[len(before)-1].Status
}

func (s *sender) last(retries, previous int) Result {
	s.t.Helper()
	if !s.dispatch.twice {
		result := s.send(retries, previous)
		if s.dispatch.again {
			first := result
			result = s.send(retries+1, first.Status)
			result.Others = []Result{first}
		}
		return result
	}
	results := make(chan Result, 2)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { results <- s.send(retries, previous) })
	}
	both.Wait()
	first, last := <-results, <-results
	last.Others = []Result{first}
	return last
}

// send makes one delivery.
func (s *sender) send(retries, previous int) Result {
	s.t.Helper()
	req := s.request(retries, previous)
	rec := httptest.NewRecorder()
	delivery := s.router.deliver(rec, req)
	if delivery.Outcome == handoff.Unauthenticated || delivery.Outcome == handoff.Forbidden && s.dispatch.caller == Account {
		s.t.Fatalf("handofftest: the router refused the token of handofftest.Verifier (%s: %v); build it with RouterConfig.Verifier: handofftest.Verifier(t)",
			delivery.Outcome, delivery.Err)
	}
	return Result{Delivery: delivery, Retry: rec.Code < 200 || rec.Code > 299, Settled: settled(delivery)}
}

func (s *sender) request(retries, previous int) *http.Request {
	s.t.Helper()
	r := s.task.GetHttpRequest()
	req := httptest.NewRequestWithContext(s.t.Context(), r.HttpMethod.String(), r.Url, bytes.NewReader(r.Body))
	req.Header = headers(s.task)
	if s.dispatch.expired {
		stamp, err := wire.ReadStamp(req.Header)
		if err != nil {
			s.t.Fatalf("handofftest: %v", err)
		}
		stamp.Expires = time.Now().Add(-time.Second)
		stamp.Write(req.Header.Set)
	}
	wire.HTTP.Write(req.Header, wire.Dispatch{
		Queue:            queueOf(s.task.Name),
		Task:             path.Base(s.task.Name),
		RetryCount:       retries,
		ETA:              s.dispatch.eta,
		Retried:          previous != 0,
		PreviousResponse: previous,
	})
	req.Header.Set("User-Agent", wire.UserAgentHTTP)
	req.Header.Set("Content-Length", strconv.Itoa(len(r.Body)))
	req.Header.Set("Authorization", "Bearer "+token(s.t, s.dispatch.caller))
	return req
}

// captured is a router on an echo that keeps how each delivery went.
type captured struct{ echo *echo.Echo }

type captureKey struct{}

func mount(router *handoff.Router) *captured {
	e := echo.New()
	router.Mount(e.Group("/tasks", func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			err := next(c)
			into := c.Request().Context().Value(captureKey{}).(*handoff.Delivery)
			*into, _ = handoff.DeliveryFrom(c)
			return err
		}
	}))
	return &captured{e}
}

func (c *captured) deliver(w http.ResponseWriter, req *http.Request) handoff.Delivery {
	var delivery handoff.Delivery
	c.echo.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), captureKey{}, &delivery)))
	return delivery
}

func settled(d handoff.Delivery) Settled {
	switch d.Outcome {
	case handoff.Done, handoff.Dropped, handoff.Snoozed:
		return Completed
	case handoff.Dead:
		return Buried
	case handoff.Failed, handoff.Throttled:
		if d.Reason != "" { // refused for what it is, not for what the handler did
			return Uncounted
		}
		return Counted
	case handoff.Lost:
		return LeaseLost
	case handoff.Interrupted, handoff.Busy, handoff.Unavailable:
		if d.Started.IsZero() {
			return NotClaimed
		}
		return Uncounted
	}
	return NotClaimed
}
