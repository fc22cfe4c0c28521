package usertest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/handofftest"
)

func TestEveryEndHasItsStatus(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		err     error
		status  int
		settled handofftest.Settled
	}{
		"done":        {nil, 200, handofftest.Completed},
		"dropped":     {handoff.Drop(errBoom), 204, handofftest.Completed},
		"dead":        {handoff.Permanent(errBoom), 205, handofftest.Buried},
		"snoozed":     {handoff.Snooze(time.Minute), 202, handofftest.Completed},
		"failed":      {errBoom, 500, handofftest.Counted},
		"throttled":   {handoff.RetryAfter(errBoom, time.Minute), 503, handofftest.Counted},
		"busy":        {handoff.ErrBusy, 409, handofftest.Uncounted},
		"interrupted": {handoff.ErrInterrupted, 500, handofftest.Uncounted},
	} {
		t.Run(name, func(t *testing.T) {
			inService(t, func(s *service) {
				s.fail(row.err)
				s.enqueue()
				got, _ := s.Step()
				if got.Outcome.String() != name || got.Status != row.status || got.Settled != row.settled || got.Retry == got.Outcome.Final() {
					t.Errorf("%s (%d), claim %s, retry %v", got.Outcome, got.Status, got.Settled, got.Retry)
				}
			})
		})
	}
}

func TestThreeAttemptsAndADeadLetter(t *testing.T) {
	inService(t, func(s *service) {
		began := time.Now()
		s.fail(errBoom, errBoom, errBoom)
		s.enqueue(handoff.In(time.Hour))
		s.drain(500, 500, 205)
		s.attempts(1, 2, 3)
		if took := time.Since(began); took != time.Hour+3*time.Minute {
			t.Errorf("it took %s", took)
		}
		l := s.letter()
		if string(l.Payload) != `{"order":"7"}` || l.Kind != "invoice" || l.Attempts != 3 || l.LastErr != "boom" || l.Reasons[0] != handoff.ReasonExhausted {
			t.Errorf("the letter is %+v", l)
		}
	})
}

func TestAPanicIsAFailure(t *testing.T) {
	inService(t, func(s *service) {
		s.handle = func(context.Context, Invoice) error {
			if len(s.seen) == 1 {
				panic("boom")
			}
			return nil
		}
		s.enqueue()
		s.drain(500, 200)
	})
}

func TestWhatIsNotAnAttemptDoesNotCount(t *testing.T) {
	inService(t, func(s *service) {
		s.fail(handoff.ErrBusy, handoff.ErrBusy, handoff.ErrInterrupted, errBoom, errBoom, nil)
		s.enqueue()
		up := s.StoreDown()
		s.Step()
		up()
		s.drain(409, 409, 500, 500, 500, 200)
		s.attempts(1, 1, 1, 1, 2, 3)
	})
}

func TestRunsOnce(t *testing.T) {
	for name, fault := range map[string]func(*service){
		"response lost": func(s *service) { s.LoseResponses(1) },
		"twice":         func(s *service) { s.DeliverTwice(1) },
		"again":         func(s *service) { s.DeliverAgain(1) },
		"key rotated":   func(s *service) { s.RotateKeys() },
		"created twice": func(s *service) {
			s.Emulator.InjectCall(emulator.CallFault{Method: "CreateTask", Times: 1, LoseResponse: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inService(t, func(s *service) {
				s.handle = func(context.Context, Invoice) error {
					time.Sleep(time.Minute)
					return nil
				}
				fault(s)
				s.enqueue()
				ran := 0
				for _, r := range s.Drain() {
					for _, d := range append(r.Others, r) {
						switch d.Outcome {
						case handoff.Done:
							ran++
						case handoff.Duplicate, handoff.Busy, handoff.Unauthenticated:
						default:
							t.Errorf("a delivery was %s", d.Outcome)
						}
					}
				}
				if len(s.seen) != 1 || ran != 1 {
					t.Errorf("it ran %d times", len(s.seen))
				}
			})
		})
	}
}

func TestOneKeyIsOneInvoice(t *testing.T) {
	inService(t, func(s *service) {
		for i, key := range []string{"7", "7", "8"} {
			if got := s.enqueue(handoff.Key(key)).Duplicate; got != (i == 1) {
				t.Errorf("task %d is a duplicate: %v", i, got)
			}
		}
		s.enqueue(handoff.Key("7"), handoff.OnQueue("another")) // under a name of its own
		results := s.Drain()
		done := 0
		for _, r := range results {
			if r.Outcome == handoff.Done {
				done++
			}
		}
		if len(results) != 3 || done != 2 {
			t.Errorf("%d dispatches, %d invoices", len(results), done)
		}
	})
}

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	router := func(t *testing.T) *handoff.Router {
		return handofftest.New(t, handofftest.Config{Router: quiet}).Router
	}
	t.Run("another account", func(t *testing.T) {
		got := handofftest.Deliver(t, router(t), Invoice{Order: "7"}, handofftest.Caller("eve@example.iam.gserviceaccount.com"))
		if got.Status != 403 || !got.Retry || got.Reason != handoff.ReasonCaller {
			t.Errorf("%d, %s", got.Status, got.Reason)
		}
	})
	t.Run("another audience", func(t *testing.T) {
		kit := handofftest.New(t, handofftest.Config{Router: quiet, Client: func(c *handoff.ClientConfig) {
			c.Target = handoff.HTTPTarget{URL: handofftest.Audience + "/tasks", ServiceAccount: handofftest.Account, Audience: "https://other.example"}
		}})
		if _, err := kit.Client.Enqueue(t.Context(), Invoice{Order: "7"}); err != nil {
			t.Fatal(err)
		}
		if got, _ := kit.Step(); got.Status != 401 || got.Reason != handoff.ReasonAudience {
			t.Errorf("%d, %s", got.Status, got.Reason)
		}
	})
	t.Run("no token", func(t *testing.T) {
		kit := handofftest.New(t, handofftest.Config{Router: quiet, Client: func(c *handoff.ClientConfig) {
			c.Target = handoff.HTTPTarget{URL: handofftest.Audience + "/tasks", DangerouslySendUnsigned: true}
		}})
		if _, err := kit.Client.Enqueue(t.Context(), Invoice{Order: "7"}); err != nil {
			t.Fatal(err)
		}
		if got, _ := kit.Step(); got.Status != 401 || got.Reason != handoff.ReasonNoToken {
			t.Errorf("%d, %s", got.Status, got.Reason)
		}
	})
}

// quiet builds a router whose handler no task should reach.
func quiet(c handoff.RouterConfig) (*handoff.Router, error) {
	router, err := handoff.NewRouter(c)
	if err == nil {
		handoff.Handle(router, func(context.Context, Invoice) error { panic("it ran") })
	}
	return router, err
}

func TestTooLateIsTooLate(t *testing.T) {
	inService(t, func(s *service) {
		s.enqueue(handoff.In(time.Hour))
		up := s.StoreDown()
		time.AfterFunc(3*time.Hour+time.Minute, up) // an hour, and the TTL of two
		results := s.Drain()
		last := results[len(results)-1]
		if last.Outcome != handoff.Dead || last.Reason != handoff.ReasonExpired || len(s.seen) != 0 {
			t.Errorf("%s, %s, after %d runs", last.Outcome, last.Reason, len(s.seen))
		}
		if l := s.letter(); l.Attempts != 0 {
			t.Errorf("the letter counts %d attempts", l.Attempts)
		}
	})
}

func TestLateIsNotTooLate(t *testing.T) {
	inService(t, func(s *service) {
		s.enqueue(handoff.In(time.Hour))
		up := s.StoreDown()
		time.AfterFunc(2*time.Hour+50*time.Minute, up)
		s.Drain()
		s.attempts(1)
	})
}

func TestSnooze(t *testing.T) {
	inService(t, func(s *service) {
		began := time.Now()
		s.fail(errBoom, handoff.Snooze(3*time.Hour), errBoom)
		receipt := s.enqueue()
		s.drain(500, 202, 500, 200)
		s.attempts(1, 2, 1, 2)
		first, copied := s.seen[0], s.seen[2]
		if copied.ID != receipt.ID || copied.Task == first.Task || copied.Snoozes != 1 || copied.FencingToken <= first.FencingToken {
			t.Errorf("the copy is %+v", copied)
		}
		if took := time.Since(began); took != 3*time.Hour+2*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}

// The response to a snooze is lost, and the store is down, so the snooze is not
// recorded. The handler runs again, and there is still only one copy.
func TestSnoozeMakesOneCopy(t *testing.T) {
	inService(t, func(s *service) {
		up := func() {}
		s.handle = func(ctx context.Context, _ Invoice) error {
			switch len(s.seen) {
			case 1:
				up = s.StoreDown()
				fallthrough
			case 2:
				return handoff.Snooze(time.Hour)
			}
			return nil
		}
		s.LoseResponses(1)
		s.enqueue()
		lost, _ := s.Step()
		up()
		s.statuses([]handofftest.Result{lost}, 202)
		s.drain(202, 200)
		if len(s.seen) != 3 {
			t.Errorf("it ran %d times", len(s.seen))
		}
	})
}

func TestASnoozeThatCannotBeCopiedIsTriedAgain(t *testing.T) {
	inService(t, func(s *service) {
		s.fail(handoff.Snooze(time.Hour), handoff.Snooze(time.Hour))
		s.enqueue()
		s.Emulator.InjectCall(emulator.CallFault{Method: "CreateTask", Times: 1, Code: codes.PermissionDenied})
		s.drain(500, 202, 200)
		s.attempts(1, 2, 1)
	})
}

func TestRedriveStartsAfresh(t *testing.T) {
	inService(t, func(s *service) {
		s.fail(errBoom, errBoom, errBoom)
		first := s.enqueue(handoff.Key("7"))
		s.drain(500, 500, 205)
		id := s.letter().ID

		remove := s.Emulator.InjectCall(emulator.CallFault{Method: "CreateTask", Code: codes.PermissionDenied})
		if _, err := s.Client.Redrive(s.t.Context(), s.DeadLetters, id); err == nil {
			t.Error("a redrive that the service refused has no error")
		}
		remove()
		s.letter() // still there
		second, err := s.Client.Redrive(s.t.Context(), s.DeadLetters, id)
		if err != nil || second.ID != first.ID {
			t.Fatalf("%+v, %v", second, err)
		}
		if l, err := s.DeadLetters.Get(s.t.Context(), id); err != nil || l.RedrivenAt.IsZero() {
			t.Errorf("the letter is not marked as redriven: %v", err)
		}
		s.drain(200)
		s.attempts(1, 2, 3, 1)
	})
}

// fullLetters refuses the first letters.
type fullLetters struct {
	handoff.DeadLetterStore

	refusals int
}

func (f *fullLetters) Put(ctx context.Context, l handoff.DeadLetter) error {
	if f.refusals--; f.refusals >= 0 {
		return errors.New("full")
	}
	return f.DeadLetterStore.Put(ctx, l)
}

func TestNothingIsDeletedBeforeItsLetterIsKept(t *testing.T) {
	inService(t, func(s *service) {
		s.fail(handoff.Permanent(errBoom))
		s.enqueue()
		s.drain(503, 503, 205)
		s.attempts(1)
		if l := s.letter(); l.LastErr == "" || l.Attempts != 1 {
			t.Errorf("the letter is %+v", l)
		}
	}, func(c *handoff.RouterConfig) { c.DeadLetters = &fullLetters{c.DeadLetters, 2} })
}

func TestALongRunKeepsItsLease(t *testing.T) {
	inService(t, func(s *service) {
		s.handle = func(ctx context.Context, _ Invoice) error {
			select {
			case <-time.After(3 * time.Minute): // of a lease of 30 s
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		s.enqueue()
		s.drain(200)
	})
}

func TestARunEndsAtItsDeadline(t *testing.T) {
	inService(t, func(s *service) {
		s.handle = func(ctx context.Context, _ Invoice) error {
			if len(s.seen) > 1 {
				return nil
			}
			began := time.Now()
			<-ctx.Done()
			if ran := time.Since(began); ran != 5*time.Minute-5*time.Second {
				t.Errorf("it ran for %s", ran)
			}
			return ctx.Err()
		}
		s.enqueue()
		s.drain(500, 200)
	})
}

func TestWhatCannotRunIsNotRun(t *testing.T) {
	inService(t, func(s *service) {
		if _, err := s.Client.Enqueue(s.t.Context(), Invoice{}); err == nil {
			t.Error("an invoice without an order was enqueued")
		}
		for _, p := range []handoff.Payload{oldInvoice{Order: ""}, oddInvoice{Order: 7}} {
			if _, err := s.Client.Enqueue(s.t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if got, _ := s.Step(); got.Outcome != handoff.Dead || got.Settled != handofftest.Buried {
				t.Errorf("%T: %s, %s", p, got.Outcome, got.Settled)
			}
		}
		if _, err := s.Client.Enqueue(s.t.Context(), refund{}); err != nil {
			t.Fatal(err)
		}
		if got, _ := s.Step(); got.Status != 404 || !got.Retry {
			t.Errorf("a kind that nobody handles: %d", got.Status)
		}
		s.attempts()
	})
}

// oldInvoice fails validation; oddInvoice has another JSON shape.
type oldInvoice struct {
	Order string `json:"order"`
}

type oddInvoice struct {
	Order int `json:"order"`
}

type refund struct{}

func (oldInvoice) Kind() string { return "invoice" }
func (oddInvoice) Kind() string { return "invoice" }
func (refund) Kind() string     { return "refund" }

func TestLargePayloads(t *testing.T) {
	inService(t, func(s *service) {
		note := strings.Repeat("thank you. ", 5000) // compressed on its way
		var got string
		s.handle = func(_ context.Context, i Invoice) error { got = i.Note; return nil }
		for _, length := range []int{len(note), 20_000} {
			if _, err := s.Client.Enqueue(s.t.Context(), Invoice{Order: "7", Note: note[:length]}); err != nil {
				t.Fatal(err)
			}
		}
		first, _ := s.Step()
		second, _ := s.Step()
		s.statuses([]handofftest.Result{first, second}, 413, 200)
		if got != note[:20_000] {
			t.Errorf("%d bytes came of 20,000", len(got))
		}
	}, func(c *handoff.RouterConfig) { c.MaxBody = 32 << 10 })
}

func TestShutdownTakesNothingMore(t *testing.T) {
	inService(t, func(s *service) {
		s.enqueue()
		if err := s.Router.Shutdown(s.t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, _ := s.Step(); got.Outcome != handoff.Interrupted || !got.Retry || len(s.seen) != 0 {
			t.Errorf("%s", got.Outcome)
		}
	})
}
