package handoff_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
)

// keepAnd keeps the comma-separated memos, one after the other, and continues.
func keepAnd(ctx context.Context, memos string) error {
	held, _ := handoff.HeldFromContext(ctx)
	for memo := range strings.SplitSeq(memos, ",") {
		if err := held.Keep(ctx, []byte(memo)); err != nil {
			return err
		}
	}
	return handoff.Continue()
}

// later is a row of the tests of copies: what the handler returns, and the copy
// that it leads to.
type later struct {
	end     func(ctx context.Context) error
	due     time.Duration // of the copy, from now
	expires time.Duration // of the copy, from now; the original expires in 50 min
	snoozes int
	attempt int // of the first run of the copy; the original had one before
	changed []string
}

var laters = map[string]later{
	"snooze": {
		func(context.Context) error { return handoff.Snooze(6 * time.Minute) }, 6 * time.Minute, 66 * time.Minute, 1, 1,
		[]string{"schedule_time", "Snoozes", "Scheduled", "Expires"},
	},
	"retry in": {
		func(context.Context) error { return fmt.Errorf("wrapped: %w", handoff.RetryIn(errBoom, 7*time.Minute)) }, 7 * time.Minute, 50 * time.Minute, 0, 3,
		[]string{"schedule_time", "Attempts"},
	},
	"busy for": {
		func(context.Context) error { return handoff.BusyFor(8 * time.Minute) }, 8 * time.Minute, 50 * time.Minute, 0, 2,
		[]string{"schedule_time", "Attempts"},
	},
	"continue": {
		func(ctx context.Context) error { return keepAnd(ctx, "there") }, 0, 60 * time.Minute, 0, 1,
		[]string{"Scheduled", "Expires"},
	},
}

// Each copy for later has everything of the original except the fields that make it
// a copy. Its attempts continue or begin again.
func TestGoesOnInACopy(t *testing.T) {
	t.Parallel()
	for name, want := range laters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { goesOn(t, want) })
		})
	}
}

func goesOn(t *testing.T, want later) {
	server := new(taskServer)
	client := server.client(t, nil)
	var runs []handoff.Info
	var memo string
	router := newCopying(t, client, memstore.NewDeadLetters(), handoff.Caller{})
	handoff.Handle(router, func(ctx context.Context, _ ledger) error {
		held, _ := handoff.HeldFromContext(ctx)
		memo = string(held.Memo())
		switch runs = append(runs, handoff.InfoFromContext(ctx)); len(runs) {
		case 1:
			assert.NoError(t, held.Keep(ctx, []byte("here")))
			return errBoom
		case 2:
			return want.end(ctx)
		}
		return nil
	})
	_, err := client.Enqueue(t.Context(), ledger{ID: "1"})
	assert.NoError(t, err)
	original := server.only(t)
	assert.Equal(t, deliverStored(router, original), http.StatusInternalServerError)
	time.Sleep(10 * time.Minute)
	assert.Equal(t, deliverStored(router, original), http.StatusAccepted)

	twin := server.taken()[1]
	sameTask(t, original, twin, append([]string{"name", "Generation"}, want.changed...)...)
	stamp := stampOf(t, twin)
	assert.Equal(t, []int{stamp.Generation, stamp.Snoozes}, []int{1, want.snoozes})
	assert.Equal(t, time.Until(stamp.Expires), want.expires)
	if want.due > 0 {
		assert.Equal(t, time.Until(twin.GetScheduleTime().AsTime()), want.due)
	}

	assert.Equal(t, deliverStored(router, original), http.StatusAlreadyReported) // a second delivery of the original
	time.Sleep(want.due)
	assert.Equal(t, deliverStored(router, twin), http.StatusOK)
	assert.Equal(t, len(runs), 3)
	last := runs[2]
	assert.Equal(t, []any{last.ID, last.Attempt, last.Snoozes}, []any{runs[0].ID, want.attempt, want.snoozes})
	kept := "here"
	if want.attempt == 1 && want.snoozes == 0 {
		kept = "there"
	}
	assert.Equal(t, memo, kept)
}

// Attempts are counted across the copies of RetryIn, so the last one buries the
// task.
func TestRetryInEndsWithTheLastAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := new(taskServer)
		client := server.client(t, nil)
		letters := memstore.NewDeadLetters()
		router := newCopying(t, client, letters, handoff.Caller{})
		handoff.Handle(router, func(context.Context, ledger) error { return handoff.RetryIn(errBoom, time.Minute) })
		_, err := client.Enqueue(t.Context(), ledger{ID: "1"})
		assert.NoError(t, err)
		first := time.Now()
		for i, status := range []int{202, 202, 205} {
			assert.Equal(t, deliverStored(router, server.taken()[i]), status)
			time.Sleep(time.Minute)
		}
		page, err := letters.List(t.Context(), handoff.DeadLetterQuery{})
		assert.NoError(t, err)
		letter := page.Letters[0]
		assert.Equal(t, []any{letter.Reasons[0], letter.Attempts, letter.FirstAt.Equal(first)}, []any{handoff.ReasonExhausted, 3, true})
		assert.ErrorContains(t, errors.New(letter.LastErr), "boom")
	})
}

// unmarking is a Store that some copies for later are not marked in, as if their
// worker had died after it created them.
type unmarking struct {
	handoff.Store
	unmarked map[int]bool // by generation of the lease
}

func (s unmarking) Complete(ctx context.Context, l handoff.Lease) error {
	if s.unmarked[l.Generation] && l.Opens != handoff.OpensNothing {
		return errBoom
	}
	return s.Store.Complete(ctx, l)
}

// A copy knows how many attempts came before it, also if the worker that created it
// died before it marked it, or its record is lost.
func TestAttemptsOfAnUnmarkedCopy(t *testing.T) {
	t.Parallel()
	for name, unmarked := range map[string]map[int]bool{
		"none": {}, "the first": {0: true}, "the second": {1: true}, "both": {0: true, 1: true}, "the last": {2: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := new(taskServer)
				letters := memstore.NewDeadLetters()
				client := server.client(t, nil)
				router := newCopying(t, client, letters, handoff.Caller{}, func(c *handoff.RouterConfig) {
					c.Store = unmarking{memstore.New(), unmarked}
				})
				var attempts []int
				handoff.Handle(router, func(ctx context.Context, _ ledger) error {
					attempts = append(attempts, handoff.InfoFromContext(ctx).Attempt)
					if len(attempts) == 2 {
						return handoff.BusyFor(10 * time.Minute)
					}
					return handoff.RetryIn(errBoom, 10*time.Minute)
				})
				_, err := client.Enqueue(t.Context(), ledger{ID: "1"})
				assert.NoError(t, err)
				for i, status := range []int{202, 202, 202, 205} {
					assert.Equal(t, deliverStored(router, server.taken()[i]), status)
					time.Sleep(10 * time.Minute)
				}
				assert.Equal(t, attempts, []int{1, 2, 2, 3})
				page, err := letters.List(t.Context(), handoff.DeadLetterQuery{})
				assert.NoError(t, err)
				assert.Equal(t, []any{page.Letters[0].Reasons[0], page.Letters[0].Attempts}, []any{handoff.ReasonExhausted, 3})
			})
		})
	}
}

// An attempt that continues without progress fails, so that no task continues for
// ever. One that a shutdown has interrupted does not count.
func TestContinueNeedsProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := new(taskServer)
		client := server.client(t, nil)
		letters := memstore.NewDeadLetters()
		store := memstore.New()
		var memo string
		drains := false
		begin := func() *handoff.Router {
			router, err := handoff.NewRouter(handoff.RouterConfig{
				DangerouslyAllowUnauthenticated: true, Store: store, DeadLetters: letters, Client: client, Logger: slog.New(slog.DiscardHandler),
			})
			assert.NoError(t, err)
			handoff.Handle(router, func(ctx context.Context, _ ledger) error {
				if drains {
					go func() { _ = router.Shutdown(ctx) }()
					synctest.Wait()
				}
				return keepAnd(ctx, memo)
			})
			return router
		}
		router := begin()
		_, err := client.Enqueue(t.Context(), ledger{ID: "1"})
		assert.NoError(t, err)
		steps := []struct {
			memo   string
			drains bool
			status int
		}{
			{"1", false, 202},
			{"1", false, 500}, // of the next generation
			{"1", true, 500},
			{"1", false, 500},
			{"2", false, 202},
			{"2", false, 500},
			{"3,2", false, 500}, // there and back
			{"2", false, 205},
		}
		for i, step := range steps {
			memo, drains = step.memo, step.drains
			tasks := server.taken()
			if got := deliverStored(router, tasks[len(tasks)-1]); got != step.status {
				t.Fatalf("delivery %d: status %d, want %d", i, got, step.status)
			}
			if drains {
				assert.NoError(t, router.Shutdown(t.Context()))
				router = begin()
			}
		}
		assert.NoError(t, router.Shutdown(t.Context()))
		page, err := letters.List(t.Context(), handoff.DeadLetterQuery{})
		assert.NoError(t, err)
		assert.Equal(t, []any{page.Letters[0].Reasons[0], page.Letters[0].Attempts}, []any{handoff.ReasonExhausted, 3})
		assert.ErrorContains(t, errors.New(page.Letters[0].LastErr), "no progress")
	})
}

// If no copy can be made, the task is retried with the backoff of its queue, and
// the log says why, once.
func TestNoCopyCanBeMade(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		end     func(ctx context.Context) error
		status  int
		attempt int // of the second run
	}{
		"snooze":   {laters["snooze"].end, 500, 2},
		"retry in": {laters["retry in"].end, 500, 2},
		"busy for": {laters["busy for"].end, 409, 1},
		"continue": {laters["continue"].end, 500, 2},
	} {
		ours := typed("1", "x")
		ours.stamp.Kind = "note"
		for why, d := range map[string]task{"RouterConfig.Client is nil, so tasks": ours, "gets tasks that Enqueue did not create": foreign("1", "x")} {
			t.Run(name+", "+why, func(t *testing.T) {
				t.Parallel()
				client := new(taskServer).client(t, nil)
				b := newFixture(t, func(c *handoff.RouterConfig) {
					c.ForeignMaxAttempts = 5
					if d.stamp.ID == "" {
						c.Client = client
					}
				})
				var last handoff.Info
				handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
					last = handoff.InfoFromContext(ctx)
					if last.Attempt == 2 {
						return keepAnd(ctx, "elsewhere")
					}
					return tc.end(ctx)
				})
				assert.Equal(t, b.send(t, d), tc.status)
				b.send(t, d)
				assert.Equal(t, last.Attempt, tc.attempt)
				assert.Equal(t, strings.Count(b.log.String(), why), 1)
			})
		}
	}
}

// A task that is postponed for longer than the service allows fails its attempt.
func TestRetryInBeyondTheService(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]error{
		"retry in": handoff.RetryIn(errBoom, 721*time.Hour),
		"busy for": handoff.BusyFor(721 * time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := new(taskServer)
				client := server.client(t, nil)
				router := newCopying(t, client, memstore.NewDeadLetters(), handoff.Caller{})
				attempts := 0
				handoff.Handle(router, func(ctx context.Context, _ job) error {
					attempts = handoff.InfoFromContext(ctx).Attempt
					return end
				})
				_, err := client.Enqueue(t.Context(), job{})
				assert.NoError(t, err)
				for i := range 2 {
					assert.Equal(t, deliverStored(router, server.only(t)), http.StatusInternalServerError)
					assert.Equal(t, attempts, i+1)
				}
			})
		})
	}
}

// A last attempt that lost its lease is buried, even if it returned RetryIn or
// Continue.
func TestRetryInOfALastAttemptWithoutItsLease(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]error{"retry in": handoff.RetryIn(errBoom, time.Hour), "continue": handoff.Continue()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, nil)
				b.store.fault("renew", down)
				handoff.Handle(b.Router, func(context.Context, note) error {
					time.Sleep(31 * time.Second)
					return end
				})
				d := typed("1", "x")
				d.stamp.MaxAttempts = 1
				assert.Status(t, b.send(t, d), 205)
				assert.Equal(t, b.onlyLetter(t).Reasons, []handoff.Reason{handoff.ReasonExhausted})
			})
		})
	}
}

// Late is true for the last tenth of an attempt's time, at most 30 s, and while the
// router drains.
func TestLate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		deadline, maxRun, late time.Duration
	}{
		"ten minutes":  {10 * time.Minute, 0, 10*time.Minute - 5*time.Second - 30*time.Second},
		"fifteen s":    {15 * time.Second, 0, 13500*time.Millisecond - 1350*time.Millisecond},
		"MaxRun":       {30 * time.Minute, time.Minute, 54 * time.Second},
		"half an hour": {30 * time.Minute, 0, 30*time.Minute - 35*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, func(c *handoff.RouterConfig) { c.MaxRun = tc.maxRun })
				handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
					held, _ := handoff.HeldFromContext(ctx)
					time.Sleep(tc.late - time.Millisecond)
					assert.Equal(t, held.Late(), false)
					time.Sleep(time.Millisecond)
					assert.Equal(t, held.Late(), true)
					return nil
				})
				d := typed("1", "x")
				d.stamp.Deadline = tc.deadline
				assert.Status(t, b.send(t, d), 200)
			})
		})
	}
	t.Run("draining", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := newFixture(t, nil)
			handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
				held, _ := handoff.HeldFromContext(ctx)
				assert.Equal(t, held.Late(), false)
				go func() { _ = b.Shutdown(ctx) }()
				synctest.Wait()
				assert.Equal(t, held.Late(), true)
				return nil
			})
			assert.Status(t, b.send(t, typed("1", "x")), 200)
		})
	})
}
