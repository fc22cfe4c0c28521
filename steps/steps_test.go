package steps_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/steps"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

// work is the payload.
type work struct {
	Max int `json:"max"`
}

func (work) Kind() string { return "work" }
func (work) Policy() handoff.Policy {
	return handoff.Policy{Queue: "works", TTL: handoff.NoTTL, Deadline: 10 * time.Minute, Retry: handoff.Retry{MaxAttempts: 5, MaxBackoff: time.Minute}}
}

var errBoom = errors.New("boom")

// trace is what the steps of a test did, in order.
type trace struct {
	mu   sync.Mutex
	seen []string
}

func (l *trace) addf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, fmt.Sprintf(format, args...))
}

// do is a step that returns value, or fails.
func (l *trace) do(ctx context.Context, name string, value int, fails error) error {
	got, err := steps.Do(ctx, name, func(context.Context) (int, error) {
		l.addf("%s runs", name)
		return value, fails
	})
	if err == nil {
		l.addf("%s is %d", name, got)
	}
	return err
}

// database is a steps.Database that keeps the memo when the function has returned.
type database struct{ ends error }

func (d database) RunStep(ctx context.Context, memo []byte, fn func(ctx context.Context, tx string) error) error {
	if err := fn(ctx, "tx"); err != nil {
		return err
	}
	if d.ends != nil {
		return d.ends
	}
	held, _ := handoff.HeldFromContext(ctx)
	return held.Keep(ctx, memo)
}

// tx is a step in a transaction.
func (l *trace) tx(ctx context.Context, name string, fails error) error {
	return steps.Tx(ctx, name, database{}, func(context.Context, string) error {
		l.addf("%s runs", name)
		return fails
	})
}

// each is a step that saves the positions up to last, and then ends with fails.
func (l *trace) each(ctx context.Context, name string, last int, fails error) error {
	return steps.Each(ctx, name, func(ctx context.Context, c *steps.Cursor[int]) error {
		for at := c.At() + 1; at <= last; at++ {
			l.addf("%s at %d", name, at)
			if err := c.Save(ctx, at); err != nil {
				return err
			}
		}
		return fails
	})
}

// logged is a handofftest.Config whose router logs to b, changed by change.
func logged(b *bytes.Buffer, change func(*handoff.RouterConfig)) handofftest.Config {
	return handofftest.Config{Router: func(c handoff.RouterConfig) (*handoff.Router, error) {
		c.Logger = slog.New(slog.NewTextHandler(b, nil))
		if change != nil {
			change(&c)
		}
		return handoff.NewRouter(c)
	}}
}

// deploys handles the n-th attempt with the n-th handler, and later ones with the last.
func deploys(kit *handofftest.Kit, handlers ...func(ctx context.Context) error) {
	n := 0
	handoff.Handle(kit.Router, func(ctx context.Context, _ work) error {
		n++
		return handlers[min(n, len(handlers))-1](ctx)
	})
}

// outcomes runs everything and returns the outcomes.
func outcomes(t *testing.T, kit *handofftest.Kit) (all []string) {
	t.Helper()
	_, err := kit.Client.Enqueue(t.Context(), work{})
	assert.NoError(t, err)
	for _, r := range kit.Drain() {
		all = append(all, r.Outcome.String())
	}
	return all
}

// An attempt begins behind the last step that finished, and in its place in a step
// that did not.
func TestAnAttemptGoesOnWhereTheLastStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l trace
		var log bytes.Buffer
		kit := handofftest.New(t, logged(&log, nil))
		attempt := func(b, c, d error) func(context.Context) error {
			return func(ctx context.Context) error {
				for _, step := range []func() error{
					func() error { return l.do(ctx, "a", 1, nil) },
					func() error { return l.do(ctx, "b", 2, b) },
					func() error { return l.each(ctx, "c", 3, c) },
					func() error { return l.do(ctx, "d", 4, d) },
				} {
					if err := step(); err != nil {
						return err
					}
				}
				return nil
			}
		}
		deploys(kit, attempt(errBoom, nil, nil), attempt(nil, errBoom, nil), attempt(nil, nil, errBoom), attempt(nil, nil, nil))
		assert.Equal(t, outcomes(t, kit), []string{"failed", "failed", "failed", "done"})
		assert.Equal(t, l.seen, []string{
			"a runs", "a is 1", "b runs",
			"a is 1", "b runs", "b is 2", "c at 1", "c at 2", "c at 3",
			"a is 1", "b is 2", "d runs",
			"a is 1", "b is 2", "d runs", "d is 4",
		})
		for _, step := range []string{"step=b", "step=c", "step=d"} {
			assert.Equal(t, strings.Count(log.String(), step), 1)
		}
	})
}

// A deploy that changed steps which were saved fails before anything runs that
// should not, and going back to the version before mends it.
func TestStepsThatWereChanged(t *testing.T) {
	t.Parallel()
	var l trace // of nothing that is looked at
	before := func(ctx context.Context) error {
		if err := l.do(ctx, "a", 1, nil); err != nil {
			return err
		}
		if err := l.do(ctx, "b", 2, nil); err != nil {
			return err
		}
		return l.each(ctx, "c", 3, errBoom)
	}
	for name, tc := range map[string]struct {
		after func(ctx context.Context, l *trace) error
		want  string
	}{
		"renamed":        {func(ctx context.Context, l *trace) error { return l.do(ctx, "A", 1, nil) }, `step "A" comes where step "a" finished`},
		"dropped, moved": {func(ctx context.Context, l *trace) error { return l.do(ctx, "b", 1, nil) }, `step "b" comes where step "a" finished`},
		"inserted": {func(ctx context.Context, l *trace) error {
			_ = l.do(ctx, "a", 1, nil)
			return l.do(ctx, "new", 1, nil)
		}, `step "new" comes where step "b" finished`},
		"in its position": {func(ctx context.Context, l *trace) error {
			_, _ = l.do(ctx, "a", 1, nil), l.do(ctx, "b", 1, nil)
			return l.each(ctx, "rows", 1, nil)
		}, `step "rows" comes where step "c" began`},
		"no longer an Each": {func(ctx context.Context, l *trace) error {
			_, _ = l.do(ctx, "a", 1, nil), l.do(ctx, "b", 1, nil)
			return l.do(ctx, "c", 1, nil)
		}, `step "c" began in an earlier attempt as an Each`},
		"no longer a Do":        {func(ctx context.Context, l *trace) error { return l.each(ctx, "a", 9, nil) }, `step "a" finished in an earlier attempt as a Do`},
		"a Do that is now a Tx": {func(ctx context.Context, l *trace) error { return l.tx(ctx, "a", nil) }, `step "a" finished in an earlier attempt as a Do, and is now a Tx`},
		"an Each that is now a Tx": {func(ctx context.Context, l *trace) error {
			_, _ = l.do(ctx, "a", 1, nil), l.do(ctx, "b", 1, nil)
			return l.tx(ctx, "c", nil)
		}, `step "c" began in an earlier attempt as an Each, and is now a Tx`},
		"another result": {func(ctx context.Context, l *trace) error {
			_, err := steps.Do(ctx, "a", func(context.Context) (string, error) { l.addf("runs"); return "", nil })
			return err
		}, `step "a": the result of an earlier attempt is not a *string`},
		"another position": {func(ctx context.Context, l *trace) error {
			_, _ = l.do(ctx, "a", 1, nil), l.do(ctx, "b", 1, nil)
			return steps.Each(ctx, "c", func(context.Context, *steps.Cursor[string]) error { l.addf("runs"); return nil })
		}, `step "c": the position of an earlier attempt is not a *string`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var after, back trace
				kit := handofftest.New(t)
				var said error
				deploys(kit, before, func(ctx context.Context) error {
					said = tc.after(ctx, &after)
					return said
				}, func(ctx context.Context) error {
					_, _ = back.do(ctx, "a", 0, nil), back.do(ctx, "b", 0, nil)
					return back.each(ctx, "c", 4, nil)
				})
				assert.Equal(t, outcomes(t, kit), []string{"failed", "failed", "done"})
				assert.ErrorContains(t, said, tc.want)
				for _, seen := range after.seen {
					if strings.Contains(seen, "runs") || strings.Contains(seen, "at") {
						t.Errorf("%v: a step ran", after.seen)
					}
				}
				assert.Equal(t, back.seen, []string{"a is 1", "b is 2", "c at 4"})
			})
		})
	}
}

// A Tx that was rolled back runs again, in the same attempt too; one that committed
// does not.
func TestTx(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l trace
		kit := handofftest.New(t)
		deploys(kit, func(ctx context.Context) error {
			if err := l.tx(ctx, "a", errBoom); !errors.Is(err, errBoom) {
				t.Errorf("got %v", err)
			}
			return errors.Join(l.tx(ctx, "a", nil), l.tx(ctx, "b", errBoom))
		}, func(ctx context.Context) error {
			return errors.Join(l.tx(ctx, "a", nil), l.tx(ctx, "b", nil), l.do(ctx, "c", 1, nil))
		})
		assert.Equal(t, outcomes(t, kit), []string{"failed", "done"})
		assert.Equal(t, l.seen, []string{"a runs", "a runs", "b runs", "b runs", "c runs", "c is 1"})
	})
}

// Three hours of work with a deadline of ten minutes: tasks that continue one
// another, each from the position of the one before.
func TestWorkLongerThanADeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit := handofftest.New(t)
		var infos []handoff.Info
		var positions []int
		handoff.Handle(kit.Router, func(ctx context.Context, _ work) error {
			infos = append(infos, handoff.InfoFromContext(ctx))
			if err := new(trace).do(ctx, "first", 1, nil); err != nil {
				return err
			}
			return steps.Each(ctx, "parts", func(ctx context.Context, c *steps.Cursor[int]) error {
				for at := c.At() + 1; at <= 540; at++ {
					time.Sleep(20 * time.Second)
					positions = append(positions, at)
					if err := c.Save(ctx, at); err != nil {
						return fmt.Errorf("at %d: %w", at, err)
					}
				}
				return nil
			})
		})
		_, err := kit.Client.Enqueue(t.Context(), work{})
		assert.NoError(t, err)
		results := kit.Drain()
		for i, r := range results {
			want := handoff.Continued
			if i == len(results)-1 {
				want = handoff.Done
			}
			assert.Equal(t, []any{r.Outcome, infos[i].ID, infos[i].Attempt, infos[i].Snoozes, r.Info.Step}, []any{want, infos[0].ID, 1, 0, "parts"})
		}
		assert.Equal(t, len(results), 19) // of 29 parts: the last 30 s of 10 min less 5 s are late
		for i, at := range positions {
			assert.Equal(t, at, i+1)
		}
	})
}

// A handler that swallows ErrContinue has failed, also if it does so inside of Each.
func TestErrContinueMustBeReturned(t *testing.T) {
	t.Parallel()
	for name, swallow := range map[string]func(ctx context.Context) error{
		"handler": func(ctx context.Context) error {
			time.Sleep(9*time.Minute + 30*time.Second)
			_ = new(trace).do(ctx, "a", 1, nil)
			return nil
		},
		"each": func(ctx context.Context) error {
			_ = steps.Each(ctx, "a", func(ctx context.Context, c *steps.Cursor[int]) error {
				time.Sleep(9*time.Minute + 30*time.Second)
				if err := c.Save(ctx, 1); !errors.Is(err, steps.ErrContinue) || c.At() != 1 {
					t.Errorf("Save returns %v", err)
				}
				if err := c.Save(ctx, 2); !errors.Is(err, steps.ErrContinue) || c.At() != 1 {
					t.Errorf("the second Save returns %v", err)
				}
				return nil
			})
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				kit := handofftest.New(t, logged(&log, nil))
				deploys(kit, swallow, func(ctx context.Context) error { return new(trace).each(ctx, "a", 1, nil) })
				assert.Equal(t, outcomes(t, kit), []string{"failed", "done"})
				assert.Equal(t, strings.Contains(log.String(), "the handler returned nil after a step returned an error: steps: continue"), true)
			})
		})
	}
}

// A redrive goes on where the work died.
func TestRedriveKeepsTheSteps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l trace
		var log bytes.Buffer
		config := logged(&log, nil)
		store := memstore.New()
		config.Store = store
		kit := handofftest.New(t, config)
		deploys(kit, func(ctx context.Context) error {
			_ = l.do(ctx, "a", 1, nil)
			return handoff.Permanent(l.do(ctx, "b", 2, errBoom))
		}, func(ctx context.Context) error {
			_ = l.do(ctx, "a", 1, nil)
			return l.do(ctx, "b", 2, nil)
		})
		redrive := func() {
			page, err := kit.DeadLetters.List(t.Context(), handoff.DeadLetterQuery{})
			assert.NoError(t, err)
			_, err = kit.Client.Redrive(t.Context(), kit.DeadLetters, page.Letters[0].ID)
			assert.NoError(t, err)
		}
		assert.Equal(t, outcomes(t, kit), []string{"dead"})
		redrive()
		assert.Equal(t, len(kit.Drain()), 1)
		assert.Equal(t, l.seen, []string{"a runs", "a is 1", "b runs", "a is 1", "b runs", "b is 2"})
		assert.Equal(t, strings.Contains(log.String(), "begins afresh"), false)
	})
}

// Redriven after its record is gone, work begins afresh, and the log says so.
func TestRedriveWithoutARecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l trace
		var log bytes.Buffer
		config := logged(&log, nil)
		memory := memstore.New()
		store := &stalling{Store: memory}
		config.Store = store
		kit := handofftest.New(t, config)
		deploys(kit, func(ctx context.Context) error {
			_ = l.do(ctx, "a", 1, nil)
			return handoff.Permanent(errBoom)
		}, func(ctx context.Context) error { return l.do(ctx, "a", 1, nil) })
		assert.Equal(t, outcomes(t, kit), []string{"dead"})
		assert.NoError(t, memory.FreeKey(t.Context(), store.lease.Key))
		page, err := kit.DeadLetters.List(t.Context(), handoff.DeadLetterQuery{})
		assert.NoError(t, err)
		_, err = kit.Client.Redrive(t.Context(), kit.DeadLetters, page.Letters[0].ID)
		assert.NoError(t, err)
		assert.Equal(t, len(kit.Drain()), 1)
		assert.Equal(t, l.seen, []string{"a runs", "a is 1", "a runs", "a is 1"})
		assert.Equal(t, strings.Contains(log.String(), "begins afresh"), true)
	})
}

// A worker whose lease was taken over cannot move the position of the work, neither
// by another delivery of its task nor by one of the next generation.
func TestSaveByAnOlderOwner(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		generation int // of the delivery that takes over
		ends       []string
		seen       int // position of the delivery after it
	}{
		"same generation": {0, []string{"lost", "done"}, 1},
		"next generation": {1, []string{"lost", "duplicate"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := memstore.New()
				stalled := &stalling{Store: store}
				kit := handofftest.New(t, handofftest.Config{Store: stalled})
				var late error
				var seen int
				deploys(kit, func(ctx context.Context) error {
					return steps.Each(ctx, "rows", func(ctx context.Context, c *steps.Cursor[int]) error {
						if err := c.Save(ctx, 1); err != nil {
							return err
						}
						stalled.set(true)
						time.Sleep(time.Minute) // the lease is over, and this worker does not look
						stalled.set(false)
						l := stalled.other()
						l.Generation = tc.generation
						claim, err := store.Claim(t.Context(), l)
						assert.NoError(t, err)
						assert.Equal(t, string(claim.Memo), `{"v":1,"at":{"n":"rows","r":1}}`)
						late = c.Save(ctx, 9)
						assert.NoError(t, store.Release(t.Context(), l, false))
						return late
					})
				}, func(ctx context.Context) error {
					return steps.Each(ctx, "rows", func(_ context.Context, c *steps.Cursor[int]) error {
						seen = c.At()
						return nil
					})
				})
				assert.Equal(t, outcomes(t, kit), tc.ends)
				assert.Equal(t, errors.Is(late, handoff.ErrLeaseLost), true)
				assert.Equal(t, seen, tc.seen)
			})
		})
	}
}

// No step begins once the lease is known to be lost, since another worker may have
// finished it.
func TestNoStepBeginsWithoutTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stalled := &stalling{Store: memstore.New()}
		kit := handofftest.New(t, handofftest.Config{Store: stalled})
		var l trace
		deploys(kit, func(ctx context.Context) error {
			stalled.set(true)
			time.Sleep(time.Minute) // this worker does not look at ctx
			stalled.set(false)
			err := l.do(ctx, "a", 1, nil)
			if !errors.Is(err, handoff.ErrLeaseLost) {
				t.Errorf("Do returns %v", err)
			}
			return err
		}, func(context.Context) error { return nil })
		assert.Equal(t, outcomes(t, kit), []string{"lost", "done"})
		assert.Equal(t, len(l.seen), 0)
	})
}

// stalling is a Store whose renewals do not get through while it stalls.
type stalling struct {
	handoff.Store
	mu      sync.Mutex
	stalled bool
	lease   handoff.Lease // of the last claim
}

func (s *stalling) set(stalled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = stalled
}

// other returns a lease of the same work for another owner.
func (s *stalling) other() handoff.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lease
	l.Owner = "other"
	return l
}

func (s *stalling) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	s.mu.Lock()
	s.lease = l
	s.mu.Unlock()
	return s.Store.Claim(ctx, l)
}

func (s *stalling) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	s.mu.Lock()
	stalled := s.stalled
	s.mu.Unlock()
	if stalled {
		return make([]bool, len(leases)), errBoom
	}
	return s.Store.Renew(ctx, leases)
}

// A finished step is kept, although the Store cannot be reached just then.
func TestAStepIsKeptWhenTheStoreIsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l trace
		kit := handofftest.New(t)
		deploys(kit, func(ctx context.Context) error {
			if err := l.do(ctx, "warm", 0, nil); err != nil {
				return err
			}
			back := kit.StoreDown()
			time.AfterFunc(10*time.Second, back)
			if err := l.do(ctx, "a", 1, nil); err != nil {
				return err
			}
			return errBoom
		}, func(ctx context.Context) error {
			_ = l.do(ctx, "warm", 0, nil)
			return l.do(ctx, "a", 1, nil)
		})
		assert.Equal(t, outcomes(t, kit), []string{"failed", "done"})
		assert.Equal(t, l.seen, []string{"warm runs", "warm is 0", "a runs", "a is 1", "warm is 0", "a is 1"})
	})
}

// Middleware that calls the handler again replays the steps of its first call.
func TestMiddlewareThatRunsTheHandlerAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l trace
		kit := handofftest.New(t, handofftest.Config{Router: func(c handoff.RouterConfig) (*handoff.Router, error) {
			r, err := handoff.NewRouter(c)
			r.Use(func(next handoff.Handler) handoff.Handler {
				return func(ctx context.Context) error { return errors.Join(next(ctx), next(ctx)) }
			})
			return r, err
		}})
		deploys(kit, func(ctx context.Context) error { return l.do(ctx, "a", 1, nil) })
		assert.Equal(t, outcomes(t, kit), []string{"done"})
		assert.Equal(t, l.seen, []string{"a runs", "a is 1", "a is 1"})
	})
}

func TestProgress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]steps.Progress{
		"": {},
		`{"v":1,"done":[{"n":"a","r":1},{"n":"b"}]}`:        {Done: []string{"a", "b"}},
		`{"v":1,"done":[{"n":"a"}],"at":{"n":"b","r":"x"}}`: {Done: []string{"a"}, Step: "b", Position: []byte(`"x"`)},
	} {
		got, err := steps.ParseProgress([]byte(text))
		assert.NoError(t, err)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v", text, got)
		}
	}
	for _, text := range []string{"x", "{}", `{"v":2}`, `[]`} {
		_, err := steps.ParseProgress([]byte(text))
		assert.ErrorContains(t, err, "steps: the memo of the work")
	}
}

// lagging is a Store whose second call of Keep arrives half a minute later, when
// its caller has given up.
type lagging struct {
	handoff.Store
	calls int
	late  chan error // result of the call that arrived late
}

func (s *lagging) Keep(ctx context.Context, l handoff.Lease, memo []byte) error {
	if s.calls++; s.calls != 2 {
		return s.Store.Keep(ctx, l, memo)
	}
	time.AfterFunc(30*time.Second, func() { s.late <- s.Store.Keep(context.Background(), l, memo) })
	<-ctx.Done()
	return ctx.Err()
}

// A position that arrives at the Store after later ones does not replace them: the
// work has continued under another claim by then.
func TestAPositionThatArrivesLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &lagging{Store: memstore.New(), late: make(chan error, 1)}
		kit := handofftest.New(t, handofftest.Config{Store: store})
		attempt := func(ctx context.Context) error {
			return steps.Each(ctx, "rows", func(ctx context.Context, c *steps.Cursor[int]) error {
				for at := c.At() + 1; at <= 3; at++ {
					if err := c.Save(ctx, at); err != nil {
						return err
					}
				}
				time.Sleep(time.Minute)
				return errBoom
			})
		}
		deploys(kit, attempt, attempt, func(ctx context.Context) error {
			return steps.Each(ctx, "rows", func(_ context.Context, c *steps.Cursor[int]) error {
				assert.Equal(t, c.At(), 3)
				return nil
			})
		})
		assert.Equal(t, outcomes(t, kit), []string{"continued", "failed", "done"})
		assert.Equal(t, errors.Is(<-store.late, handoff.ErrLeaseLost), true)
	})
}
