// Package usertest_test tests a small service as its authors would: with
// handofftest alone, by what can be seen of it from outside.
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

// Invoice is sent once for each order: in three attempts, a minute apart at
// first, and not after two hours.
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

// service is the worker under test, and the shelf of what its handler saw.
type service struct {
	*handofftest.Kit

	t      *testing.T
	handle func(ctx context.Context, i Invoice) error
	seen   []handoff.Info
}

// inService runs test on a service whose handler does nothing but keep what it
// sees, until the test says otherwise.
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

// fail lets the handler return these errors, one after the other, and then nil.
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

// drain expects these statuses of the dispatches.
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
		s.t.Fatalf("the dispatches were answered %v, want %v", got, want)
	}
}

// attempts expects the handler to have run at these attempts.
func (s *service) attempts(want ...int) {
	s.t.Helper()
	var got []int
	for _, info := range s.seen {
		got = append(got, info.Attempt)
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("it ran at attempts %v, want %v", got, want)
	}
}

// letter expects one dead letter.
func (s *service) letter() handoff.DeadLetter {
	s.t.Helper()
	page, err := s.DeadLetters.List(s.t.Context(), handoff.DeadLetterQuery{})
	if err != nil || len(page.Letters) != 1 {
		s.t.Fatalf("dead letters: %+v, %v; want one", page.Letters, err)
	}
	return page.Letters[0]
}

var errBoom = errors.New("boom")
