package handoff_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
)

// TestWithoutADeadLetterStore: a task that is meant to end does, and OnDead is
// called. One that only fails to decode is retried.
func TestWithoutADeadLetterStore(t *testing.T) {
	t.Parallel()
	expired := typed("1", "x")
	expired.stamp.Expires = time.Now().Add(-time.Second)
	both := expired
	both.body = "{"
	undecodable, invalid := typed("1", "x"), typed("1", "invalid")
	undecodable.body = "{"
	tests := []struct {
		name   string
		task   task
		status int
		dead   handoff.Reason
	}{
		{"permanent", typed("1", "permanent"), 205, handoff.ReasonPermanent},
		{"expired", expired, 205, handoff.ReasonExpired},
		{"expired and undecodable", both, 205, handoff.ReasonExpired},
		{"undecodable", undecodable, 500, ""},
		{"invalid", invalid, 500, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var dead []handoff.DeadLetter
			b := newFixture(t, func(c *handoff.RouterConfig) {
				c.DeadLetters = nil
				c.OnDead = func(_ context.Context, l handoff.DeadLetter) { dead = append(dead, l) }
			})
			handoff.Handle(b.Router, func(context.Context, note) error { return handoff.Permanent(errBoom) })
			assert.Status(t, b.send(t, tt.task), tt.status)
			log := b.log.String()
			assert.Equal(t, strings.Contains(log, "RouterConfig.DeadLetters is not set"), true)
			if tt.dead == "" {
				assert.Equal(t, len(dead), 0)
				assert.Equal(t, strings.Contains(log, "level=ERROR msg=\"handoff: attempt failed\""), true)
				assert.Status(t, b.send(t, tt.task), tt.status) // and not a duplicate
				return
			}
			assert.Equal(t, len(dead), 1)
			assert.Equal(t, dead[0].Reasons[0], tt.dead)
			assert.Equal(t, string(dead[0].Payload), tt.task.body)
			assert.Equal(t, strings.Contains(log, "task died"), true)
			// No letter holds the work, so it runs and dies again.
			assert.Status(t, b.send(t, tt.task), 205)
			assert.Equal(t, len(dead), 1)
		})
	}
}

func TestALetterKeepsTheTaskAndNoCredentials(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	handoff.Handle(b.Router, func(context.Context, note) error { return handoff.Permanent(errBoom) })
	d := typed("abc", "x")
	d.stamp.Headers = []string{"Authorization", "Traceparent", "X-Shop"}
	d.header = http.Header{
		"Authorization": {"Bearer secret"}, "X-Shop": {"42"}, "X-Forwarded-Proto": {"https"}, "Traceparent": {"00-ab-cd-01"},
	}
	assert.Status(t, b.send(t, d), 205)
	letter := b.onlyLetter(t)
	assert.Equal(t, letter.Header["Handoff-Id"], []string{"abc"})
	assert.Equal(t, letter.Withheld(), []string{"Authorization"})
	maps.DeleteFunc(letter.Header, func(name string, _ []string) bool { return strings.HasPrefix(name, "Handoff-") })
	assert.Equal(t, letter.Header, map[string][]string{"Content-Type": {"application/json"}, "X-Shop": {"42"}, "Traceparent": {"00-ab-cd-01"}})
	assert.Equal(t, letter.Target, "https://example.com/tasks/note")
	assert.Equal(t, []string{letter.HandoffID, letter.Kind, letter.Queue, letter.Task, letter.LastErr},
		[]string{"abc", "note", "emails", "task-abc", "handoff: dead: boom"})
	if letter.FirstAt.IsZero() || letter.BuriedAt.Before(letter.FirstAt.Add(-time.Second)) {
		t.Errorf("first %v, buried %v", letter.FirstAt, letter.BuriedAt)
	}
}

// refusingLetters is a dead-letter store that fails until the test changes it.
type refusingLetters struct {
	handoff.DeadLetterStore
	down bool
}

func (l *refusingLetters) Put(ctx context.Context, letter handoff.DeadLetter) error {
	if l.down {
		return errors.New("no space left")
	}
	return l.DeadLetterStore.Put(ctx, letter)
}

// TestABurialIsFinishedWithoutASecondRun: once the handler has decided to bury the
// task, it does not run again, even if the burial fails.
func TestABurialIsFinishedWithoutASecondRun(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(*fixture, *refusingLetters)
		mend  func(*fixture, *refusingLetters)
		first int
	}{
		{
			"the letter was refused",
			func(_ *fixture, l *refusingLetters) { l.down = true },
			func(_ *fixture, l *refusingLetters) { l.down = false },
			503,
		},
		{
			"the worker died before the letter",
			func(b *fixture, l *refusingLetters) { l.down = true; b.store.fault("release", down) },
			func(b *fixture, l *refusingLetters) { l.down = false; b.store.fault("release", nil) },
			503,
		},
		{
			"the worker died before the end",
			func(b *fixture, _ *refusingLetters) { b.store.fault("complete", down); b.store.fault("release", down) },
			func(b *fixture, _ *refusingLetters) { b.store.fault("complete", nil); b.store.fault("release", nil) },
			205, // the letter is stored
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				letters := &refusingLetters{}
				b := newFixture(t, func(c *handoff.RouterConfig) {
					letters.DeadLetterStore = c.DeadLetters
					c.DeadLetters = letters
				})
				runs := 0
				handoff.Handle(b.Router, func(context.Context, note) error {
					runs++
					return handoff.Permanent(errBoom)
				})
				tt.spoil(b, letters)
				assert.Status(t, b.send(t, typed("1", "x")), tt.first)
				tt.mend(b, letters)
				time.Sleep(time.Minute) // virtual: until the lease of the dead worker has expired
				assert.Status(t, b.send(t, typed("1", "x")), 205)
				assert.Status(t, b.send(t, typed("1", "x")), 208)
				assert.Equal(t, runs, 1)
				letter := b.onlyLetter(t)
				assert.Equal(t, letter.Reasons, []handoff.Reason{handoff.ReasonPermanent})
				assert.Equal(t, letter.LastErr, "handoff: dead: boom")
				assert.Equal(t, letter.Attempts, 1)
			})
		})
	}
}

func TestATaskThatKillsItsWorkerIsBuriedAsCrashed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
		runs := 0
		handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
			runs++
			return nil
		})
		// A worker that dies in the handler leaves its claim behind.
		d := typed("1", "x")
		for range d.stamp.MaxAttempts {
			claimAndVanish(t, b, d)
			time.Sleep(time.Minute) // virtual: until the lease has expired
		}
		assert.Status(t, b.send(t, d), 205)
		assert.Equal(t, runs, 0)
		letter := b.onlyLetter(t)
		assert.Equal(t, letter.Reasons, []handoff.Reason{handoff.ReasonCrashed})
		assert.Equal(t, letter.Attempts, 3)
	})
}

// claimAndVanish claims d like a worker that is killed directly afterwards.
func claimAndVanish(t *testing.T, b *fixture, d task) {
	t.Helper()
	lease := captureLease(t, b, d)
	claim, err := b.store.Store.Claim(t.Context(), lease)
	assert.NoError(t, err)
	assert.Equal(t, claim.Status, handoff.ClaimAcquired)
}

// captureLease returns the lease with which the router would claim d.
func captureLease(t *testing.T, b *fixture, d task) handoff.Lease {
	t.Helper()
	spy := &leaseSpy{Store: memstore.New()}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true, Store: spy, Logger: slog.New(slog.DiscardHandler),
	})
	assert.NoError(t, err)
	handoff.Handle(router, func(context.Context, note) error { return nil })
	(&fixture{Router: router}).send(t, d)
	assert.NoError(t, router.Shutdown(t.Context()))
	return spy.last
}

type leaseSpy struct {
	handoff.Store
	last handoff.Lease
}

func (s *leaseSpy) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	s.last = l
	return s.Store.Claim(ctx, l)
}

// TestTheStoreIsOutOfReach is the table of what happens if each call of the Store
// fails.
func TestTheStoreIsOutOfReach(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method string
		result error
		status int
		runs   int
		second int // status after the Store responds again and the lease has expired
		inAll  int
	}{
		{"claim", nil, 503, 0, 200, 1},    // not run, and taken back in the background
		{"complete", nil, 200, 1, 200, 2}, // done all the same; the mark is missing
		{"release", errBoom, 500, 1, 500, 2},
		{"end", handoff.Permanent(errBoom), 503, 1, 205, 2},
	}
	for _, tt := range tests {
		t.Run(tt.method, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, nil)
				runs := 0
				handoff.Handle(b.Router, func(context.Context, note) error { runs++; return tt.result })
				b.store.fault(tt.method, down)
				assert.Status(t, b.send(t, typed("1", "x")), tt.status)
				assert.Equal(t, runs, tt.runs)
				b.store.fault(tt.method, nil)
				time.Sleep(time.Minute) // virtual
				assert.Status(t, b.send(t, typed("1", "x")), tt.second)
				assert.Equal(t, runs, tt.inAll)
			})
		})
	}
}

func TestAClaimWhoseResponseNeverCameIsTakenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
		handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
			assert.Equal(t, handoff.InfoFromContext(ctx).Attempt, 1) // the lost claim did not count
			return nil
		})
		lost := &responseLost{Store: b.store.Store}
		inner := b.store.Store
		b.store.Store = lost
		assert.Status(t, b.send(t, typed("1", "x")), 503)
		synctest.Wait()
		b.store.Store = inner
		assert.Status(t, b.send(t, typed("1", "x")), 200) // at once, not when the lease is over
	})
}

// responseLost is a Store that makes claims but loses the responses.
type responseLost struct{ handoff.Store }

func (s *responseLost) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	if _, err := s.Store.Claim(ctx, l); err != nil {
		return handoff.Claim{}, err
	}
	return handoff.Claim{}, errors.New("i/o timeout")
}

func TestAMarkIsRepeatedUntilTheStoreResponds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
		handoff.Handle(b.Router, func(context.Context, note) error { return nil })
		back := time.Now().Add(10 * time.Second)
		b.store.fault("complete", func() error {
			if time.Now().Before(back) {
				return errStoreDown
			}
			return nil
		})
		assert.Status(t, b.send(t, typed("1", "x")), 200)
		assert.Status(t, b.send(t, typed("1", "x")), 208)
	})
}

// TestTheCallerMayBeGone: finished work is marked even if the request has been
// cancelled.
func TestTheCallerMayBeGone(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	ctx, hangUp := context.WithCancel(t.Context())
	handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
		hangUp()
		<-ctx.Done()
		return nil
	})
	d := typed("1", "x")
	d.ctx = ctx
	b.send(t, d)
	assert.Status(t, b.send(t, typed("1", "x")), 208)
}

// An attempt that a shutdown has interrupted does not count, even if its handler
// wraps the error of the context.
func TestAnInterruptedAttemptDoesNotCount(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(error) error{
		"a plain error": func(err error) error { return err },
		"RetryIn":       func(err error) error { return handoff.RetryIn(err, time.Minute) },
		"RetryAfter":    func(err error) error { return handoff.RetryAfter(err, time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, nil)
				running := make(chan struct{})
				handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
					close(running)
					<-ctx.Done()
					return end(ctx.Err())
				})
				last := typed("1", "x")
				last.stamp.MaxAttempts = 1
				status := make(chan int)
				go func() { status <- b.serve(last.request()).Code }()
				<-running
				now, cancel := context.WithCancel(t.Context())
				cancel()
				_ = b.Shutdown(now)
				assert.Status(t, <-status, 500)
				b.noLetters(t)
			})
		})
	}
}

// If work continues because of a shutdown, its attempt does not count, even if its
// lease was lost.
func TestContinueInAShutdownWithoutTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
		b.store.fault("renew", down)
		handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
			<-ctx.Done()
			go func() { _ = b.Shutdown(context.WithoutCancel(ctx)) }() // waits for this handler
			synctest.Wait()
			return handoff.Continue()
		})
		last := typed("1", "x")
		last.stamp.MaxAttempts = 1
		assert.Status(t, b.send(t, last), 409)
		b.noLetters(t)
	})
}
