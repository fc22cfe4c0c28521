// Package usertest_test tests a small service as its authors would: only with
// handofftest, and only by its visible behaviour.
package usertest_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
)

// Invoice is sent once for each order. It has three attempts, the first two a
// minute apart, and expires after two hours.
type Invoice struct {
	Order string `json:"order"`
	Note  string `json:"note,omitempty"`
}

func (Invoice) Kind() string { return "invoice" }

func (Invoice) Policy() handoff.Policy {
	return handoff.Policy{
		Queue:    "invoices",
		TTL:      2 * time.Hour,
		Deadline: 5 * time.Minute,
		Retry:    handoff.Retry{MaxAttempts: 3, MinBackoff: time.Minute, MaxBackoff: 3 * time.Minute},
	}
}

func (i Invoice) Validate() error {
	if i.Order == "" {
		return errors.New("no order")
	}
	return nil
}

// service is the worker under test. It records what its handler saw.
type service struct {
	*handofftest.Kit

	t      *testing.T
	handle func(ctx context.Context, i Invoice) error
	seen   []handoff.Info
}

// inService runs test with a service whose handler only records what it sees,
// unless the test sets another.
func inService(t *testing.T, test func(s *service), change ...func(*handoff.RouterConfig)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &service{t: t, handle: func(context.Context, Invoice) error { return nil }}
		s.Kit = handofftest.New(t, handofftest.Config{Router: func(c handoff.RouterConfig) (*handoff.Router, error) {
			for _, fn := range change {
				fn(&c)
			}
			return handoff.NewRouter(c)
		}})
		handoff.Handle(s.Router, func(ctx context.Context, i Invoice) error {
			s.seen = append(s.seen, handoff.InfoFromContext(ctx))
			return s.handle(ctx, i)
		})
		test(s)
	})
}

func (s *service) enqueue(opts ...handoff.Option) handoff.Receipt {
	s.t.Helper()
	receipt, err := s.Client.Enqueue(s.t.Context(), Invoice{Order: "7"}, opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	return receipt
}

// fail makes the handler return these errors, one after the other, and then nil.
func (s *service) fail(errs ...error) {
	s.handle = func(context.Context, Invoice) error {
		if len(errs) == 0 {
			return nil
		}
		err := errs[0]
		errs = errs[1:]
		return err
	}
}

// drain drains the queue and checks the statuses of its dispatches.
func (s *service) drain(want ...int) []handofftest.Result {
	s.t.Helper()
	results := s.Drain()
	s.statuses(results, want...)
	return results
}

func (s *service) statuses(results []handofftest.Result, want ...int) {
	s.t.Helper()
	var got []int
	for _, r := range results {
		got = append(got, r.Status)
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("the dispatches got %v, want %v", got, want)
	}
}

// attempts checks the numbers of the attempts that the handler saw.
func (s *service) attempts(want ...int) {
	s.t.Helper()
	var got []int
	for _, info := range s.seen {
		got = append(got, info.Attempt)
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("the handler saw the attempts %v, want %v", got, want)
	}
}

// letter returns the only dead letter. The test fails if there is not exactly one.
func (s *service) letter() handoff.DeadLetter {
	s.t.Helper()
	page, err := s.DeadLetters.List(s.t.Context(), handoff.DeadLetterQuery{})
	if err != nil || len(page.Letters) != 1 {
		s.t.Fatalf("dead letters: %+v, %v; want one", page.Letters, err)
	}
	return page.Letters[0]
}

var errBoom = errors.New("boom")
