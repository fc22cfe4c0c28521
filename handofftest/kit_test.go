package handofftest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
)

// Drain and Deliver agree on how each task ended, in real time and in a bubble.
func TestDrainSaysHowItEnded(t *testing.T) {
	t.Parallel()
	for name, end := range ends {
		test := func(t *testing.T) {
			runs := 0
			kit := handofftest.New(t)
			handoff.Handle(kit.Router, func(context.Context, WelcomeEmail) error {
				if runs++; runs == 1 {
					return end.err
				}
				return nil
			})
			receipt, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{})
			assert.NoError(t, err)
			first, _ := kit.Step()
			assert.Equal(t, []any{first.Outcome, first.Status, first.Retry, first.Settled}, []any{end.outcome, end.outcome.Status(), end.retry, end.settled})
			assert.Equal(t, first.Info.ID, receipt.ID)
			if (end.outcome == handoff.Snoozed || end.outcome == handoff.Retried) && time.Now().Year() > 2000 {
				return // due in an hour, which only a bubble can wait for
			}
			rest := kit.Drain()
			assert.Equal(t, len(rest), min(runs-1, 1))
			for _, last := range rest {
				assert.Equal(t, []any{last.Outcome, last.Retry, last.Settled}, []any{handoff.Done, false, handofftest.Completed})
			}
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
		t.Run(name+" in a bubble", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, test)
		})
	}
}

// Two tasks that are due in a day run at that time, then alternate at the backoff
// of their policy.
func TestDrainKeepsTheSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit := handofftest.New(t)
		begin := time.Now()
		var ran []string
		handoff.Handle(kit.Router, func(ctx context.Context, r Receipt) error {
			ran = append(ran, fmt.Sprint(r.Order, " after ", time.Since(begin)))
			return errors.New("boom")
		})
		for n, in := range []time.Duration{24*time.Hour + 30*time.Second, 24 * time.Hour} {
			_, err := kit.Client.Enqueue(t.Context(), Receipt{Order: n}, handoff.In(in))
			assert.NoError(t, err)
		}
		results := kit.Drain()
		assert.Equal(t, ran, []string{
			"1 after 24h0m0s", "0 after 24h0m30s", "1 after 24h1m0s", "0 after 24h1m30s", "1 after 24h3m0s", "0 after 24h3m30s",
		})
		assert.Equal(t, len(results), 6)
		assert.Equal(t, results[5].Reason, handoff.ReasonExhausted)
		counts, err := kit.DeadLetters.CountByKind(t.Context())
		assert.NoError(t, err)
		assert.Equal(t, counts, map[string]int{"receipt": 2})
	})
}

func TestDrainStops(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		stop []func(handofftest.Result) bool
		want string // w for WelcomeEmail, r for Receipt
	}{
		"never":            {nil, "wwwrr"},
		"after 2 attempts": {[]func(handofftest.Result) bool{handofftest.StopAfter(2)}, "ww"},
		"at a receipt":     {[]func(handofftest.Result) bool{handofftest.StopAt[Receipt]()}, "wwwr"},
		"at either":        {[]func(handofftest.Result) bool{handofftest.StopAt[Receipt](), handofftest.StopAfter(1)}, "w"},
		"at one's own": {[]func(handofftest.Result) bool{func(r handofftest.Result) bool {
			return r.Info.Kind == "welcome-email" && r.Info.Attempt == 2
		}}, "www"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				kit := handofftest.New(t)
				got := ""
				handoff.Handle(kit.Router, func(ctx context.Context, w WelcomeEmail) error {
					got += "w"
					if handoff.InfoFromContext(ctx).Attempt == 1 && w.UserID == "1" {
						return errors.New("boom")
					}
					_, err := kit.Client.Enqueue(ctx, Receipt{}, handoff.In(time.Minute))
					return err
				})
				handoff.Handle(kit.Router, func(context.Context, Receipt) error { got += "r"; return nil })
				for _, user := range []string{"1", "2"} {
					_, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{user})
					assert.NoError(t, err)
				}
				results := kit.Drain(row.stop...)
				assert.Equal(t, got, row.want)
				assert.Equal(t, len(results), len(row.want))
				kit.Drain() // continues where it stopped
				assert.Equal(t, got, "wwwrr")
				_, more := kit.Step()
				assert.Equal(t, more, false)
			})
		})
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	type seen struct {
		outcome handoff.Outcome
		retry   bool
		settled handofftest.Settled
	}
	for name, row := range map[string]struct {
		fault func(*handofftest.Kit)
		want  []seen
		other map[int]handoff.Outcome // of the dispatch
	}{
		"lost response": {
			func(k *handofftest.Kit) { k.LoseResponses(1) },
			[]seen{{handoff.Done, true, handofftest.Completed}, {handoff.Duplicate, false, handofftest.NotClaimed}}, nil,
		},
		"twice": {
			func(k *handofftest.Kit) { k.DeliverTwice(1) },
			[]seen{{handoff.Done, false, handofftest.Completed}},
			map[int]handoff.Outcome{0: handoff.Busy},
		},
		"again": {
			func(k *handofftest.Kit) { k.DeliverAgain(1) },
			[]seen{{handoff.Done, false, handofftest.Completed}},
			map[int]handoff.Outcome{0: handoff.Duplicate},
		},
		"keys": {
			func(k *handofftest.Kit) { k.RotateKeys() },
			[]seen{{handoff.Unauthenticated, true, handofftest.NotClaimed}, {handoff.Done, false, handofftest.Completed}}, nil,
		},
		"store": {
			func(k *handofftest.Kit) {
				up := k.StoreDown()
				time.AfterFunc(2*time.Minute, up)
			},
			[]seen{
				{handoff.Unavailable, true, handofftest.NotClaimed},
				{handoff.Unavailable, true, handofftest.NotClaimed},
				{handoff.Done, false, handofftest.Completed},
			}, nil,
		},
		"unreachable": {
			func(k *handofftest.Kit) {
				k.Emulator.InjectDispatch(emulator.DispatchFault{Times: 1, Unreachable: true})
			},
			[]seen{{0, true, handofftest.NotClaimed}, {handoff.Done, false, handofftest.Completed}}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				kit := handofftest.New(t)
				runs := 0
				handoff.Handle(kit.Router, func(context.Context, Receipt) error {
					runs++
					time.Sleep(time.Second) // keeps the handler running while the second delivery arrives
					return nil
				})
				row.fault(kit)
				receipt, err := kit.Client.Enqueue(t.Context(), Receipt{})
				assert.NoError(t, err)
				results := kit.Drain()
				var got []seen
				for i, r := range results {
					got = append(got, seen{r.Outcome, r.Retry, r.Settled})
					assert.Equal(t, strings.HasSuffix(receipt.Name, r.Info.Queue+"/tasks/"+r.Info.Task), true)
					other, ok := row.other[i]
					assert.Equal(t, len(r.Others) > 0, ok)
					if ok {
						assert.Equal(t, r.Others[0].Outcome, other)
					}
				}
				assert.Equal(t, got, row.want)
				assert.Equal(t, runs, 1)
			})
		})
	}
}

func TestAResultInALine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit := handofftest.New(t)
		runs := 0
		handoff.Handle(kit.Router, func(context.Context, Receipt) error {
			if runs++; runs == 1 {
				return errors.New("boom")
			}
			return nil
		})
		kit.Emulator.InjectDispatch(emulator.DispatchFault{Times: 1, Unreachable: true})
		_, err := kit.Client.Enqueue(t.Context(), Receipt{})
		assert.NoError(t, err)
		assert.Equal(t, fmt.Sprint(kit.Drain()), "["+
			"receipt on queue receipts: no delivery, to be retried "+
			"receipt on queue receipts: attempt 1 failed (500), claim counted, to be retried: boom "+
			"receipt on queue receipts: attempt 2 done (200), claim completed]")
	})
}

// If the Store fails while the handler runs, the work cannot be marked as done
// and a later delivery runs it again.
func TestStoreDownWhileRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit := handofftest.New(t)
		up := func() {}
		handoff.Handle(kit.Router, func(context.Context, Receipt) error {
			up = kit.StoreDown()
			return nil
		})
		_, err := kit.Client.Enqueue(t.Context(), Receipt{})
		assert.NoError(t, err)
		got, _ := kit.Step()
		assert.Equal(t, []any{got.Outcome, got.Retry, got.Settled}, []any{handoff.Done, false, handofftest.StillHeld})
		up()
		up() // a second call has no effect
		_, err = kit.Client.Enqueue(t.Context(), Receipt{})
		assert.NoError(t, err)
		handled, _ := kit.Step()
		assert.Equal(t, handled.Outcome, handoff.Done)
	})
}

// One worker loses its lease to another.
func TestLeaseLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit := handofftest.New(t, handofftest.Config{Router: func(c handoff.RouterConfig) (*handoff.Router, error) {
			c.Lease = time.Second
			return handoff.NewRouter(c)
		}})
		runs := 0
		handoff.Handle(kit.Router, func(ctx context.Context, _ Receipt) error {
			if runs++; runs == 1 {
				defer kit.StoreDown()()
				<-ctx.Done() // the lease cannot be renewed
				return context.Cause(ctx)
			}
			return nil
		})
		_, err := kit.Client.Enqueue(t.Context(), Receipt{})
		assert.NoError(t, err)
		results := kit.Drain()
		assert.Equal(t, []handoff.Outcome{results[0].Outcome, results[1].Outcome}, []handoff.Outcome{handoff.Lost, handoff.Done})
		assert.ErrorIs(t, results[0].Err, handoff.ErrLeaseLost)
	})
}

func TestKitTakesItsPartsFromTheConfig(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fence, letters := newStore(nil), newDeadLetters(nil)
		kit := handofftest.New(t, handofftest.Config{
			Client:      func(c *handoff.ClientConfig) { c.Policy.Queue = "mine" },
			Router:      workerRouter,
			Store:       fence,
			DeadLetters: letters,
		})
		_, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{UserID: "42"})
		assert.NoError(t, err)
		assert.Equal(t, kit.Drain()[0].Info.Queue, "mine")
		page, err := letters.List(t.Context(), handoff.DeadLetterQuery{})
		assert.NoError(t, err)
		assert.Equal(t, len(page.Letters), 1)

		receipt, err := kit.Client.Redrive(t.Context(), kit.DeadLetters, page.Letters[0].ID)
		assert.NoError(t, err)
		redriven := kit.Drain()
		assert.Equal(t, []string{redriven[0].Info.ID, redriven[0].Outcome.String()}, []string{receipt.ID, "dead"})
	})
}

// workerRouter builds a router as a service does.
func workerRouter(config handoff.RouterConfig) (*handoff.Router, error) {
	router, err := handoff.NewRouter(config)
	if err == nil {
		handoff.Handle(router, func(context.Context, WelcomeEmail) error { return handoff.Permanent(errors.New("boom")) })
	}
	return router, err
}

// Tasks may be created and deleted between steps.
func TestStepMeetsWhatChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit := handofftest.New(t)
		var got []int
		handoff.Handle(kit.Router, func(_ context.Context, r Receipt) error { got = append(got, r.Order); return nil })
		enqueue := func(order int, opts ...handoff.Option) string {
			receipt, err := kit.Client.Enqueue(t.Context(), Receipt{Order: order}, opts...)
			assert.NoError(t, err)
			return receipt.Name
		}
		enqueue(1)
		second := enqueue(2)
		enqueue(3, handoff.OnQueue("the-other"))
		later := enqueue(5, handoff.In(time.Hour))
		kit.Step()
		deleteTask(t, kit, second)
		deleteTask(t, kit, later)
		enqueue(4)
		kit.Drain()
		assert.Equal(t, got, []int{1, 3, 4})
	})
}

func deleteTask(t *testing.T, kit *handofftest.Kit, name string) {
	t.Helper()
	_, err := tasksAPI(kit).DeleteTask(t.Context(), deleteRequest(name))
	assert.NoError(t, err)
}

// Kits share nothing, even in one process with the same payloads and queue names.
func TestKitsAreApart(t *testing.T) {
	t.Parallel()
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			kit := handofftest.New(t)
			var got []string
			handoff.Handle(kit.Router, func(_ context.Context, w WelcomeEmail) error { got = append(got, w.UserID); return nil })
			user := fmt.Sprint(i)
			_, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{user}, handoff.Key("the same"))
			assert.NoError(t, err)
			kit.Drain()
			assert.Equal(t, got, []string{user})
		})
	}
}

func TestDrainDoesNotGoOnForEver(t *testing.T) {
	t.Parallel()
	got := ""
	synctest.Test(t, func(t *testing.T) {
		got = failure(t, func(t testing.TB) {
			kit := handofftest.New(t, handofftest.Config{Client: func(c *handoff.ClientConfig) {
				c.Policy = handoff.Policy{Queue: "q", TTL: handoff.NoTTL, Retry: handoff.Retry{MaxAttempts: handoff.Unlimited, MaxBackoff: time.Second}}
			}, Router: func(c handoff.RouterConfig) (*handoff.Router, error) {
				c.Logger = slog.New(slog.DiscardHandler)
				return handoff.NewRouter(c)
			}})
			handoff.Handle(kit.Router, func(context.Context, WelcomeEmail) error { return errors.New("boom") })
			if _, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{}); err != nil {
				t.Error(err)
			}
			kit.Drain()
		})
	})
	assert.Equal(t, got, "handofftest: a task was dispatched 1000 times and has not ended; the latest: "+
		"welcome-email on queue q: attempt 1000 failed (500), claim counted, to be retried: boom")
}

func TestDrainStopsAtRefusals(t *testing.T) {
	t.Parallel()
	got := ""
	synctest.Test(t, func(t *testing.T) {
		got = failure(t, func(t testing.TB) {
			kit := handofftest.New(t)
			handoff.Handle(kit.Router, func(context.Context, WelcomeEmail) error { return nil }, handoff.From("crm@p.iam.gserviceaccount.com"))
			if _, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{}); err != nil {
				t.Error(err)
			}
			kit.Drain()
		})
	})
	for _, want := range []string{"was refused 2 times", "welcome-email on queue", "forbidden (403)", "handofftest.Account"} {
		assert.Equal(t, strings.Contains(got, want), true)
	}
}

func TestKitFailures(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		test func(t testing.TB)
		want []string
	}{
		"too long in real time": {func(t testing.TB) {
			kit := handofftest.New(t)
			if _, err := kit.Client.Enqueue(t.Context(), Receipt{}, handoff.In(2*time.Hour)); err != nil {
				t.Error(err)
			}
			kit.Drain()
		}, []string{"of receipt on queue receipts, is due in 2h0m0s", "synctest.Test"}},
		"two configs": {func(t testing.TB) { handofftest.New(t, handofftest.Config{}, handofftest.Config{}) }, []string{"New got 2 Configs"}},
		"no router": {func(t testing.TB) {
			handofftest.New(t, handofftest.Config{Router: func(handoff.RouterConfig) (*handoff.Router, error) { return nil, errors.New("no mailer") }})
		}, []string{"handofftest: no mailer"}},
		"no client": {func(t testing.TB) {
			handofftest.New(t, handofftest.Config{Client: func(c *handoff.ClientConfig) { c.Project = "" }})
		}, []string{"handofftest: handoff: ClientConfig.Project"}},
		"no dispatch": {func(t testing.TB) {
			kit := handofftest.New(t)
			if _, err := kit.Client.Enqueue(t.Context(), Receipt{}); err != nil {
				t.Error(err)
			}
			kit.Emulator.InjectCall(emulator.CallFault{Method: "RunTask", Code: codes.Internal})
			kit.Step()
		}, []string{"handofftest: RunTask: ", "injected fault"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := failure(t, row.test)
			if slices.ContainsFunc(row.want, func(want string) bool { return !strings.Contains(got, want) }) {
				t.Errorf("it failed with %q, want %q in it", got, row.want)
			}
		})
	}
}

// A task for a mounted handler goes there, and its deliveries are seen as any other.
func TestKitMounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit := handofftest.New(t)
		var ids []string
		kit.Mount("/contacts/{id}", kit.Router.Raw("contact-changed", func(_ context.Context, req *http.Request) error {
			ids = append(ids, req.PathValue("id"))
			return nil
		}))
		kit.DeliverTwice(1)
		_, err := kit.Client.EnqueueRequest(t.Context(), handoff.Request{
			URL: handofftest.Audience + "/contacts/7", Method: http.MethodGet, ServiceAccount: handofftest.Account,
		}, handoff.OnQueue("crm"))
		assert.NoError(t, err)
		results := kit.Drain()
		assert.Equal(t, ids, []string{"7"})
		assert.Equal(t, results[0].Info.Kind, "contact-changed")
		assert.Equal(t, results[0].Outcome, handoff.Done)
	})
}

// A Kit has several accounts and audiences, each bound to its kinds.
func TestKitCallers(t *testing.T) {
	t.Parallel()
	const crm, hooks = "crm@shop.iam.gserviceaccount.com", "https://hooks.example.com"
	for _, row := range []struct {
		account, url string
		outcome      handoff.Outcome
	}{
		{crm, hooks, handoff.Done},
		{crm, handofftest.Audience, handoff.Forbidden},
		{handofftest.Account, hooks, handoff.Forbidden},
		{"eve@evil.iam.gserviceaccount.com", hooks, handoff.Forbidden},
		{crm, "https://evil.example.com", handoff.Unauthenticated},
	} {
		kit := handofftest.New(t, handofftest.Config{
			Callers: []string{crm}, Audiences: []string{hooks},
			Client: func(c *handoff.ClientConfig) {
				c.Target = handoff.HTTPTarget{URL: row.url, ServiceAccount: row.account}
			},
		})
		handoff.Handle(kit.Router, func(context.Context, WelcomeEmail) error { return nil }, handoff.From(crm, hooks))
		_, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{UserID: "42"})
		assert.NoError(t, err)
		ended, _ := kit.Step()
		if ended.Outcome != row.outcome {
			t.Errorf("%s at %s: %v, want %v", row.account, row.url, ended, row.outcome)
		}
	}
}

// Deliver signs for a second account that its verifier accepts.
func TestVerifierCallers(t *testing.T) {
	t.Parallel()
	const crm = "crm@shop.iam.gserviceaccount.com"
	router, err := handoff.NewRouter(handoff.RouterConfig{Verifier: handofftest.Verifier(t, crm), Store: memstore.New()})
	assert.NoError(t, err)
	defer func() { assert.NoError(t, router.Shutdown(t.Context())) }()
	handoff.Handle(router, func(context.Context, WelcomeEmail) error { return nil }, handoff.From(crm))
	assert.Equal(t, handofftest.Deliver(t, router, WelcomeEmail{}, handofftest.Caller(crm)).Outcome, handoff.Done)
	assert.Equal(t, handofftest.Deliver(t, router, WelcomeEmail{}).Outcome, handoff.Forbidden)
}
