package simulate_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/steps"
)

// longJob takes about three days, in steps.
type longJob struct {
	Work  string `json:"work"`
	Stuck int    `json:"stuck"` // position at which it makes no progress any more; 0: it ends
}

func (longJob) Kind() string { return "long" }
func (longJob) Policy() handoff.Policy {
	return handoff.Policy{Retry: handoff.Retry{MaxAttempts: longMax, MinBackoff: 2 * time.Second, MaxBackoff: time.Minute}}
}

const (
	longMax   = 5
	longParts = 13000 // of twenty seconds
)

// longWork records what the handlers of a piece of work know to be saved. It is
// guarded by world.mu.
type longWork struct {
	first bool // the step before the parts has finished
	saved int  // the last position that Save has saved
}

// enqueueLong enqueues work that takes three days, and plans deaths, deploys and
// stalls in that time.
func (w *world) enqueueLong(ctx context.Context) {
	w.trouble = []float64{0, 0.001, 0.004}[w.rng.IntN(3)]
	jobs := []longJob{{Work: "long0"}, {Work: "long1", Stuck: 100}}
	for _, j := range jobs {
		w.jobs[j.Work] = &job{Work: j.Work, Max: longMax}
		w.longs[j.Work] = &longWork{}
	}
	for range w.rng.IntN(8) {
		at := time.Duration(w.rng.Int64N(int64(72 * time.Hour)))
		w.stalls = append(w.stalls, stall{at, at + time.Duration(w.rng.Int64N(int64(90*time.Second))), []fault{refused, hangs, lost}[w.rng.IntN(3)]})
	}
	for range w.rng.IntN(20) {
		at, drain, which := time.Duration(w.rng.Int64N(int64(72*time.Hour))), w.rng.IntN(2) == 0, w.rng.IntN(8)
		w.open.Go(func() {
			if !w.pause(at) {
				return
			}
			w.mu.Lock()
			p := w.procs[which%len(w.procs)]
			w.mu.Unlock()
			if drain {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
				_ = p.router.Shutdown(ctx)
				cancel()
			}
			w.kill(p, 10*time.Second)
		})
	}
	for _, j := range jobs { // after the planning, because workers read the plan
		_, err := w.client.Enqueue(ctx, j, handoff.Header(headerWork, j.Work))
		w.notef(j.Work, "enqueued: %v", err)
	}
}

// handleLong is the handler of long work. It checks that no finished step runs
// again, and that no position goes back.
func (w *world) handleLong(ctx context.Context, p *process, j longJob) (err error) {
	r := w.begin(ctx, p, job{Work: j.Work, Max: longMax}, handoff.InfoFromContext(ctx))
	defer func() { w.endOf(ctx, p, r, err) }()
	if err := w.firstStep(ctx, p, j.Work); err != nil {
		return err
	}
	return steps.Each(ctx, "parts", func(ctx context.Context, c *steps.Cursor[int]) error { return w.longParts(ctx, p, r, j, c) })
}

// endOf ends a run by the error of its steps.
func (w *world) endOf(ctx context.Context, p *process, r *run, err error) {
	switch {
	case p.dead.Load():
		w.end(r, "died", nil)
	case err == nil:
		w.end(r, "done", nil)
	case errors.Is(err, steps.ErrContinue):
		w.end(r, "continued", nil)
	case errors.Is(err, handoff.Snooze(0)):
		w.end(r, "snoozed", nil)
	case errors.Is(err, handoff.ErrBusy):
		w.end(r, "busy", nil)
	case handoff.OutcomeOf(err) == handoff.Retried:
		w.end(r, "retried", nil)
	case context.Cause(ctx) != nil:
		w.end(r, "stopped", context.Cause(ctx))
	default:
		w.end(r, "failed", err)
	}
}

// firstStep is a step that must not run again once it has finished.
func (w *world) firstStep(ctx context.Context, p *process, work string) error {
	known := w.knownOf(work)
	_, err := steps.Do(ctx, "first", func(context.Context) (int, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if known.first {
			w.violateLockedf(work, "a step that finished runs again")
		}
		return 1, nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	known.first = known.first || err == nil && !p.dead.Load()
	return err
}

// knownOf returns what is known of the steps of a piece of work.
func (w *world) knownOf(work string) *longWork {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.longs[work] == nil {
		w.longs[work] = &longWork{}
	}
	return w.longs[work]
}

// shortParts is how many positions ordinary work in steps has.
const shortParts = 6

var errPaused = errors.New("the rest comes later")

// inSteps does a part of ordinary work in steps, two positions a run. It reports
// whether the run came further than those before it.
func (w *world) inSteps(ctx context.Context, p *process, r *run, work string) (moved bool, err error) {
	known := w.knownOf(work)
	w.mu.Lock()
	moved = !known.first
	w.mu.Unlock()
	if err := w.firstStep(ctx, p, work); err != nil {
		return false, err
	}
	err = steps.Each(ctx, "parts", func(ctx context.Context, c *steps.Cursor[int]) error {
		w.beginsAt(work, r, c.At(), known)
		for at := c.At() + 1; at <= min(c.At()+2, shortParts); at++ {
			err := c.Save(ctx, at)
			if (err == nil || errors.Is(err, steps.ErrContinue)) && !p.dead.Load() {
				w.savedAt(known, at)
				moved = true
			}
			if err != nil {
				return err
			}
			if at%2 == 0 {
				break
			}
		}
		if c.At() < shortParts {
			return errPaused
		}
		return nil
	})
	if errors.Is(err, errPaused) {
		err = nil
	}
	return moved, err
}

// beginsAt checks the position that a run begins at.
func (w *world) beginsAt(work string, r *run, at int, known *longWork) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at < known.saved {
		w.violateLockedf(work, "run %d begins at %d, and %d was saved", r.n, at, known.saved)
	}
}

func (w *world) longParts(ctx context.Context, p *process, r *run, j longJob, c *steps.Cursor[int]) error {
	known, h := w.longs[j.Work], w.ledger[j.Work]
	w.beginsAt(j.Work, r, c.At(), known)
	for at := c.At() + 1; at <= longParts; at++ {
		if w.wrong(h) {
			return handoff.Permanent(errFailed) // this job has shown enough
		}
		switch u := w.draw(j.Work, r.n, at, "part"); {
		case u > 0.9995: // the process stalls, and then ignores its context
			w.freeze(p, 15*time.Minute)
			w.pause(15*time.Minute, p.died)
		case u < 0.0002:
			return handoff.Snooze(time.Hour)
		case u < 0.0004:
			return handoff.RetryIn(errFailed, time.Minute)
		case u < 0.0006:
			return handoff.BusyFor(time.Minute)
		}
		deaf := w.draw(j.Work, r.n, at, "deaf") < 0.1 // it does not look at its context
		ended := ctx.Done()
		if deaf {
			ended = nil
		}
		if !w.pause(w.drawTime(12*time.Second, 28*time.Second, j.Work, at), ended, p.died) && !deaf {
			return ctx.Err()
		}
		if j.Stuck > 0 && at > j.Stuck {
			return errFailed // fails each time, without progress
		}
		superseded := w.superseded(h, r)
		if err := c.Save(ctx, at); superseded && (err == nil || errors.Is(err, steps.ErrContinue)) && !p.dead.Load() {
			w.violatef(j.Work, "run %d saved %d after a newer run had begun", r.n, at)
			return errFailed
		} else if err != nil && !errors.Is(err, steps.ErrContinue) || p.dead.Load() {
			return err
		} else if w.savedAt(known, at); err != nil {
			return err
		}
	}
	return nil
}

// freeze blocks all calls of p for some time.
func (w *world) freeze(p *process, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.frozen = w.now() + d
	w.faults["freeze"]++
}

func (w *world) frozenFor(p *process) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return p.frozen - w.now()
}

func (w *world) wrong(h *history) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(h.violations) > 0
}

// superseded reports whether a run began after r.
func (w *world) superseded(h *history, r *run) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(h.runs) > r.n+1
}

func (w *world) savedAt(known *longWork, at int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	known.saved = max(known.saved, at)
}

// TestLongWorlds runs work of three days through deaths, deploys, lost responses and
// a store that hangs.
func TestLongWorlds(t *testing.T) {
	ended := map[string]int{}
	runs := 0
	for seed := *first; seed < *first+uint64(max(*worlds/20, 3)); seed++ {
		w := simulated(t, seed, sound, true)
		if found := w.violations(); len(found) > 0 {
			t.Fatal(found[0])
		}
		for work, known := range w.longs {
			h := w.ledger[work]
			runs += len(h.runs)
			switch {
			case known.saved == longParts:
				ended["finished"]++
			case len(h.letters) > 0:
				ended["dead"]++
			}
		}
	}
	t.Logf("%v in %d runs", ended, runs)
	if ended["finished"] == 0 || ended["dead"] == 0 {
		t.Errorf("of the work %v, want some of each", ended)
	}
}

func TestEverySabotageOfStepsIsNoticed(t *testing.T) {
	for _, how := range stepSabotages {
		t.Run(string(how), func(t *testing.T) {
			for seed := uint64(1); seed <= 10; seed++ {
				if found := simulated(t, seed, how, true).violations(); len(found) > 0 {
					t.Logf("noticed in world %d", seed)
					return
				}
			}
			t.Error("no world noticed")
		})
	}
}
