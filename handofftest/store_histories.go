package handofftest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
)

// A history is a sequence of calls for one key by four owners: two of one
// generation, one of the next, and one of a redrive. A lease may expire between
// any two calls, as after a crash. The test makes every call in every state that
// depth calls lead to, and compares the results with a model.
const defaultDepth = 3

var actors = []handoff.Lease{
	{Owner: "a"}, {Owner: "b"}, {Owner: "c", Generation: 1}, {Owner: "d", Redrives: 1},
}

// step is one call of a history, by an actor.
type step struct {
	verb string
	by   int
}

const (
	stepCrash = "crash" // of the owner that holds the lease
	stepClaim = "claim"
	stepFreed = "claim, its letter gone"
)

var verbs = []string{
	stepClaim, stepFreed, "keep", "end", "complete", "complete as dead", "open", "continue", "open uncounted", "release counted", "release uncounted",
}

func (s step) String() string { return actors[s.by].Owner + ": " + s.verb }

// lease is what a step passes to the store.
func (s step) lease(key string) handoff.Lease {
	l := actors[s.by]
	l.Key, l.TTL, l.Window = key, time.Hour, 24*time.Hour // nothing expires by itself
	switch s.verb {
	case stepFreed:
		l.Freed = "letter"
	case "complete as dead":
		l.Letter = "letter"
	case "open":
		l.Opens = handoff.OpensNext
	case "continue":
		l.Opens = handoff.OpensContinued
	case "open uncounted":
		l.Opens = handoff.OpensUncounted
	}
	return l
}

// next applies a step to the model and returns the expected result.
func (m *model) next(s step) expectation {
	m.steps++
	l := s.lease("")
	switch s.verb {
	case stepClaim, stepFreed:
		return m.claim(l)
	case "keep":
		return m.keep(l, "memo of "+l.Owner)
	case "end":
		return m.end(l, "note of "+l.Owner)
	case "complete", "complete as dead", "open", "continue", "open uncounted":
		return m.complete(l)
	case "release counted", "release uncounted":
		return m.release(l, s.verb == "release counted")
	}
	m.crash()
	return expectation{}
}

// possible returns the steps that may come next.
func (m *model) possible() []step {
	var all []step
	for by, actor := range actors {
		for _, verb := range verbs {
			all = append(all, step{verb, by})
		}
		if m.held && m.owner == actor.Owner {
			all = append(all, step{stepCrash, by})
		}
	}
	return all
}

// historiesOf returns, for every state within depth steps, the shortest history
// that leads to it, once with each possible further step.
func historiesOf(depth int) [][]step {
	fresh := model{found: found{state: "absent"}}
	type node struct {
		model
		path []step
		came bool // a has made a call; until then a and b are interchangeable
	}
	seen := map[string]bool{}
	var all [][]step
	for level := []node{{model: fresh}}; len(level) > 0; {
		var following []node
		for _, n := range level {
			for _, s := range n.possible() {
				if s.by == 1 && !n.came {
					continue
				}
				after := node{n.model, append(slices.Clip(n.path), s), n.came || s.by == 0}
				after.next(s)
				all = append(all, after.path)
				if key := fmt.Sprint(after.came, after.key()); !seen[key] && len(after.path) <= depth {
					seen[key] = true
					following = append(following, after)
				}
			}
		}
		level = following
	}
	return all
}

// history is one run of a store beside its model.
type history struct {
	key     string
	steps   []step
	model   model
	results []handoff.Claim // of the steps that were claims
}

func everyHistory(t *storeTest) {
	depth := defaultDepth
	if text := os.Getenv("HANDOFF_HISTORY_DEPTH"); text != "" {
		var err error
		if depth, err = strconv.Atoi(text); err != nil || depth < 1 {
			t.Fatalf("HANDOFF_HISTORY_DEPTH is %q; it must be a positive number", text)
		}
	}
	var runs []*history
	for i, steps := range historiesOf(depth) {
		runs = append(runs, &history{key: fmt.Sprint("h", i), steps: steps, model: model{found: found{state: "absent"}}, results: make([]handoff.Claim, 1)})
	}
	const workers = 32
	for n := range depth + 1 {
		crashes := make([]bool, workers)
		t.together(workers, func(worker int) error {
			for i := worker; i < len(runs); i += workers {
				h := runs[i]
				if n >= len(h.steps) {
					continue
				}
				if err := h.take(t, h.steps[n]); err != nil {
					return fmt.Errorf("%w, after\n\t%s", err, h.story(n))
				}
				crashes[worker] = crashes[worker] || h.steps[n].verb == stepCrash
			}
			return nil
		})
		if slices.Contains(crashes, true) {
			t.pass(brief)
		}
	}
}

func (h *history) story(n int) string {
	var lines []string
	for _, s := range h.steps[:n+1] {
		lines = append(lines, s.String())
	}
	return strings.Join(lines, "\n\t")
}

// take makes the call of a step and compares the result.
func (h *history) take(t *storeTest, s step) error {
	l := s.lease(h.key)
	want := h.model.next(s)
	var got handoff.Claim
	var err error
	switch s.verb {
	case stepClaim, stepFreed:
		got, err = t.store.Claim(t.Context(), l)
	case "keep":
		err = t.store.Keep(t.Context(), l, []byte("memo of "+l.Owner))
	case "end":
		err = t.store.End(t.Context(), l, []byte("note of "+l.Owner))
	case "complete", "complete as dead", "open", "continue", "open uncounted":
		err = t.store.Complete(t.Context(), l)
	case "release counted", "release uncounted":
		err = t.store.Release(t.Context(), l, s.verb == "release counted")
	case stepCrash:
		err = t.renewOne(lasting(l, brief))
	}
	h.results = append(h.results, got)
	if lost := errors.Is(err, handoff.ErrLeaseLost); lost != want.lost || err != nil && !lost {
		return fmt.Errorf("got error %w, want the lease lost: %v", err, want.lost)
	}
	if err := h.compare(got, want); err != nil || h.model.steps < len(h.steps) {
		return err // the histories that end with this step compare the record
	}
	return h.compareRecord(t)
}

func (h *history) compare(got handoff.Claim, want expectation) error {
	w := want.claim
	if got.Status != w.Status || got.Attempt != w.Attempt || got.Crashed != w.Crashed ||
		!bytes.Equal(got.Memo, w.Memo) || !bytes.Equal(got.Note, w.Note) || got.Letter != w.Letter {
		return fmt.Errorf("got %s %+v, want %s %+v", statusName(got.Status), got, statusName(w.Status), w)
	}
	if got.Status == handoff.ClaimBusy && (got.Left > 0) != h.model.held {
		return fmt.Errorf("busy, with Left %v", got.Left)
	}
	if want.token == 0 {
		return nil
	}
	latest := len(h.results) - 1
	if first := h.results[want.first].First; !got.First.Equal(first) {
		return fmt.Errorf("got First %v, want that of step %d, %v", got.First, want.first, first)
	}
	if token := h.results[want.token].Token; got.Token != token {
		return fmt.Errorf("got token %d, want that of step %d, %d", got.Token, want.token, token)
	}
	for n, before := range h.results[:latest] {
		if before.Token >= got.Token && n < want.token {
			return fmt.Errorf("got token %d, after %d", got.Token, before.Token)
		}
	}
	return nil
}

// compareRecord compares what a KeyStore shows of the record.
func (h *history) compareRecord(t *storeTest) error {
	store, ok := t.store.(handoff.KeyStore)
	if !ok {
		return nil
	}
	got, err := store.ShowKey(t.Context(), h.key)
	if err != nil {
		return err
	}
	m := &h.model
	state := m.state
	if state == "paused" {
		state = "ending"
	}
	if got.State != state || got.Letter != m.letter || string(got.Memo) != m.memo {
		return fmt.Errorf("the record shown is %+v, want %s, letter %q, memo %q", got, state, m.letter, m.memo)
	}
	if state == "absent" || state == "done" {
		return nil
	}
	if got.Redrives != m.redrives || got.Generation != m.generation || got.Attempt != m.attempt {
		return fmt.Errorf("the record shown is %+v, want redrive %d, generation %d, attempt %d", got, m.redrives, m.generation, m.attempt)
	}
	return nil
}
