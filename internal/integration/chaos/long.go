package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/steps"
)

// longJob is work in steps. Workers die several times before it is done.
type longJob struct {
	Work  string `json:"work"`
	Parts int    `json:"parts"` // of the second of its three steps
}

func (longJob) Kind() string { return "long-job" }

func (longJob) Policy() handoff.Policy {
	return handoff.Policy{TTL: time.Hour, Retry: handoff.Retry{
		MaxAttempts: handoff.Unlimited, MinBackoff: 100 * time.Millisecond, MaxBackoff: time.Second, MaxDoublings: 3,
	}}
}

const (
	longParts = 60
	longPart  = 80 * time.Millisecond
	longPiece = 10 // parts after which a run continues in another task
)

// What happens to long work. Tok is the fencing token of the run.
const (
	evLong     = "long"      // it was enqueued; N: its parts
	evStepRuns = "step runs" // Out: its name
	evStepDone = "step done" // Out: its name
	evFrom     = "from"      // the step with positions began at N
	evSaved    = "saved"     // position N
	evLongDone = "long done" // the handler returns nil
)

// enqueueLong enqueues a piece of long work for each hundred tasks.
func (r *rig) enqueueLong(ctx context.Context) error {
	for i := range r.config.tasks / 100 {
		j := longJob{Work: fmt.Sprint("long-", i), Parts: longParts}
		if _, err := r.client.Enqueue(ctx, j, handoff.OnQueue(queueName(i))); err != nil {
			return err
		}
		r.ledger.write(event{What: evLong, ID: j.Work, N: j.Parts})
	}
	return nil
}

func (w *worker) handleLong(ctx context.Context, j longJob) error {
	tok := handoff.InfoFromContext(ctx).FencingToken
	note := func(what, out string, n int) { w.ledger.write(event{What: what, ID: j.Work, Tok: tok, Out: out, N: n}) }
	do := func(name string) error {
		_, err := steps.Do(ctx, name, func(context.Context) (bool, error) {
			note(evStepRuns, name, 0)
			return true, nil
		})
		if err == nil {
			note(evStepDone, name, 0)
		}
		return err
	}
	if err := do("first"); err != nil {
		return err
	}
	err := steps.Each(ctx, "parts", func(ctx context.Context, c *steps.Cursor[int]) error {
		note(evFrom, "", c.At())
		for at, last := c.At()+1, c.At()+longPiece; at <= j.Parts; at++ {
			if !pause(ctx, longPart) {
				return context.Cause(ctx)
			}
			err := c.Save(ctx, at)
			if err == nil || errors.Is(err, steps.ErrContinue) {
				note(evSaved, "", at)
			}
			if err == nil && at == last {
				err = steps.ErrContinue
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	note(evStepDone, "parts", 0)
	if err := do("last"); err != nil {
		return err
	}
	note(evLongDone, "", 0)
	return nil
}

// longWork is what the runs of a piece of long work did, by token.
type longWork struct {
	parts      int
	done       bool
	saved      map[int64]int             // the last position
	from       map[int64]int             // the first
	runs, ends map[string]map[int64]bool // step → token
}

// checkLong checks that no position goes back, that no step which finished runs
// again, and that all long work ends. A run with a higher token was claimed after the
// last write of a lower one, so it must see that write.
func (c *checker) checkLong(events []event) {
	works := map[string]*longWork{}
	for _, e := range events {
		if e.What == evLong {
			works[e.ID] = &longWork{
				parts: e.N, saved: map[int64]int{}, from: map[int64]int{},
				runs: map[string]map[int64]bool{}, ends: map[string]map[int64]bool{},
			}
		}
	}
	for _, e := range events {
		if w := works[e.ID]; w != nil {
			w.read(e)
		}
	}
	pieces := 0
	for _, id := range slices.Sorted(maps.Keys(works)) {
		w := works[id]
		pieces += len(w.from)
		if !w.done {
			c.violatef(id, "long work did not end: %d of %d parts", slices.Max(append(slices.Collect(maps.Values(w.saved)), 0)), w.parts)
		}
		c.checkPositions(id, w)
	}
	if pieces > 0 {
		c.report.endings["done: long work"] = len(works)
		c.report.endings["done: pieces of it"] = pieces
	}
}

func (w *longWork) read(e event) {
	steps := map[string]map[string]map[int64]bool{evStepRuns: w.runs, evStepDone: w.ends}[e.What]
	switch {
	case steps != nil:
		if steps[e.Out] == nil {
			steps[e.Out] = map[int64]bool{}
		}
		steps[e.Out][e.Tok] = true
	case e.What == evSaved:
		w.saved[e.Tok] = max(w.saved[e.Tok], e.N)
	case e.What == evFrom:
		w.from[e.Tok] = e.N
	case e.What == evLongDone:
		w.done = true
	}
}

func (c *checker) checkPositions(id string, w *longWork) {
	for tok, from := range w.from {
		for earlier, saved := range w.saved {
			if earlier < tok && saved > from {
				c.violatef(id, "a run begins at %d, and an earlier one had saved %d", from, saved)
			}
		}
		for earlier := range w.ends["parts"] {
			if earlier < tok {
				c.violatef(id, "the step with positions runs again after it finished")
			}
		}
	}
	for name, runs := range w.runs {
		for tok := range runs {
			for earlier := range w.ends[name] {
				if earlier < tok {
					c.violatef(id, "step %s runs again after it finished", name)
				}
			}
		}
	}
}
