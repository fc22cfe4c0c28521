package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/brillconsulting/handoff"
)

// ErrContinue means that the work must continue in another task, because little
// time is left for this one or the router is shutting down. The handler returns it,
// alone or wrapped with %w. It wraps [handoff.Continue]. If the handler returns nil
// instead, the attempt fails.
var ErrContinue = fmt.Errorf("steps: continue in another task: %w", handoff.Continue())

// Do runs a step and returns its result. If the step finished in an earlier
// attempt, Do returns that result and does not run fn. The result is kept as JSON.
// Do returns it decoded from that JSON, even in the attempt that ran fn.
//
// name must not be empty, and no two steps of a handler may have the same name.
// Without running fn, Do returns [ErrContinue] if it is time to continue in another
// task, and an error that wraps [handoff.ErrLeaseLost] if another delivery may have
// taken over the work. It returns the error of fn as it is; the step may then run
// again, in this attempt or a later one. Any other error is one of package steps,
// which every later step of the attempt returns too. Steps run one after the other:
// Do must not be called inside a step.
func Do[T any](ctx context.Context, name string, fn func(ctx context.Context) (T, error)) (T, error) {
	var result, none T
	r, err := of(ctx, name)
	if err != nil {
		return none, err
	}
	finished, err := r.begin(name)
	if err != nil {
		return none, err
	}
	if finished != nil {
		return result, r.replay(finished, &result)
	}
	defer r.leave()
	if err := r.whole(name, "Do"); err != nil {
		return none, err
	}
	if result, err = fn(ctx); err != nil {
		return none, err
	}
	value, err := encode(result)
	if err != nil {
		return none, r.fail(fmt.Errorf("steps: step %q: its result cannot be kept: %w", name, err))
	}
	if err := r.finish(ctx, name, value); err != nil {
		return none, err
	}
	var decoded T
	if err := json.Unmarshal(value, &decoded); err != nil {
		return none, r.fail(fmt.Errorf("steps: step %q: its result cannot be decoded as a %T from what is kept: %w", name, decoded, err))
	}
	return decoded, nil
}

// Each runs a step that has positions, such as a loop over the rows of a file. fn
// begins at [Cursor.At] and calls [Cursor.Save] after each part. P is kept as JSON.
// Apart from that, Each is like [Do].
func Each[P any](ctx context.Context, name string, fn func(ctx context.Context, c *Cursor[P]) error) error {
	r, err := of(ctx, name)
	if err != nil {
		return err
	}
	switch finished, err := r.begin(name); {
	case err != nil:
		return err
	case finished != nil:
		return r.noResult(finished, "an Each")
	}
	defer r.leave()
	c := &Cursor[P]{run: r, name: name}
	if err := r.position(name, &c.at, c); err != nil {
		return err
	}
	if err := fn(ctx, c); err != nil {
		return err
	}
	return r.finish(ctx, name, nil)
}

// Cursor is the position of a step that [Each] runs. It is safe for concurrent use
// until the step ends.
type Cursor[P any] struct {
	run  *run
	name string
	mu   sync.Mutex
	at   P
}

// At returns the position that was saved last, in this attempt or an earlier one,
// decoded from its JSON. It is the zero P if there is none.
func (c *Cursor[P]) At() P {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// Save replaces the saved position. Everything before position must be done. Each
// call is a round trip to the Store: call it every few seconds, not for every row.
//
// If it is time to continue in another task, Save keeps the position and returns
// [ErrContinue]. If another delivery has taken over the work, it keeps nothing and
// returns an error that wraps [handoff.ErrLeaseLost].
func (c *Cursor[P]) Save(ctx context.Context, position P) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, err := encode(position)
	if err != nil {
		return c.run.fail(fmt.Errorf("steps: step %q: its position cannot be kept: %w", c.name, err))
	}
	var decoded P // as a later attempt will see it
	if err := json.Unmarshal(value, &decoded); err != nil {
		return c.run.fail(fmt.Errorf("steps: step %q: its position could not be decoded as a %T later: %w", c.name, &decoded, err))
	}
	kept, err := c.run.save(ctx, c.name, value, c)
	if kept {
		c.at = decoded
	}
	return err
}

// run holds the steps of one run of a handler.
type run struct {
	held *handoff.Held

	mu       sync.Mutex
	memo     memo
	replayed int    // number of the finished steps that this run has passed
	running  string // name of the step that runs; empty for none
	cursor   any    // of the step that runs, if it is an Each
	unsure   bool   // a call to keep the memo had no result, and may still have an effect
	err      error  // what every later step returns
}

type runKey struct{}

// of returns the run of the handler whose context is ctx. The first call reads the
// memo. name is the step that is about to begin, for errors.
func of(ctx context.Context, name string) (*run, error) {
	held, ok := handoff.HeldFromContext(ctx)
	if !ok {
		return nil, fmt.Errorf("steps: step %q: no task runs with this context: use that of the handler", name)
	}
	r := held.Local(runKey{}, func() any { return &run{held: held} }).(*run)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return nil, r.err
	case errors.Is(context.Cause(ctx), handoff.ErrLeaseLost): // another delivery may have run this step
		return nil, r.failLocked(fmt.Errorf("steps: step %q: %w; it was not run", name, handoff.ErrLeaseLost))
	case r.memo.Version != 0:
		return r, nil
	}
	held.Returned(r.verdict)
	text, err := held.Resume(ctx)
	if err == nil {
		r.memo, err = parse(text)
	}
	if err != nil {
		return nil, r.failLocked(fmt.Errorf("steps: step %q: %w", name, err))
	}
	return r, nil
}

// verdict fails the attempt of a handler that returned nil after a step returned an
// error about the steps.
func (r *run) verdict(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && r.err != nil {
		return errors.New("steps: the handler returned nil after a step returned an error: " + r.err.Error()) // not wrapped: the attempt fails
	}
	return err
}

func (r *run) fail(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failLocked(err)
}

func (r *run) failLocked(err error) error {
	r.err = err
	return err
}

// begin begins a step. It returns the step's entry if it finished in an earlier
// attempt.
func (r *run) begin(name string) (finished *entry, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case name == "":
		return nil, r.failLocked(errors.New("steps: a step has no name"))
	case !utf8.ValidString(name): // the memo would hold another name
		return nil, r.failLocked(fmt.Errorf("steps: the name of step %q is not UTF-8", name))
	case r.running != "":
		return nil, r.failLocked(fmt.Errorf("steps: step %q begins while step %q runs; steps run one after the other", name, r.running))
	case slices.ContainsFunc(r.memo.Done[:r.replayed], func(e entry) bool { return e.Name == name }):
		return nil, r.failLocked(fmt.Errorf("steps: two steps have the name %q", name))
	case r.replayed < len(r.memo.Done):
		next := &r.memo.Done[r.replayed]
		if next.Name != name {
			return nil, r.failLocked(moved(name, next.Name, "finished"))
		}
		r.replayed++
		return next, nil
	case r.memo.At != nil && r.memo.At.Name != name:
		return nil, r.failLocked(moved(name, r.memo.At.Name, "began"))
	case r.unsure || r.held.Late():
		return nil, r.failLocked(ErrContinue)
	}
	r.running = name
	r.held.Step(name)
	return nil, nil //nolint:nilnil // the step has not finished: there is no entry
}

func moved(name, saved, what string) error {
	return fmt.Errorf("steps: step %q comes where step %q %s in an earlier attempt; it was not run: steps must keep their names and their order", name, saved, what)
}

func (r *run) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running, r.cursor = "", nil
}

// replay decodes the result of a step that finished in an earlier attempt.
func (r *run) replay(finished *entry, result any) error {
	if finished.Value == nil {
		return r.fail(fmt.Errorf("steps: step %q finished in an earlier attempt without a result, as an Each or a Tx, and is now a Do", finished.Name))
	}
	if err := json.Unmarshal(finished.Value, result); err != nil {
		return r.fail(fmt.Errorf("steps: step %q: the result of an earlier attempt is not a %T: %w", finished.Name, result, err))
	}
	return nil
}

// noResult returns an error if a step that has no result finished with one in an
// earlier attempt.
func (r *run) noResult(finished *entry, now string) error {
	if finished.Value == nil {
		return nil
	}
	return r.fail(fmt.Errorf("steps: step %q finished in an earlier attempt as a Do, and is now %s", finished.Name, now))
}

// whole returns an error if a step that has no positions has one of an earlier attempt.
func (r *run) whole(name, now string) error {
	if r.memo.At == nil {
		return nil
	}
	return r.fail(fmt.Errorf("steps: step %q began in an earlier attempt as an Each, and is now a %s; it was not run", name, now))
}

// position decodes the position of a step into at, and lets cursor save later ones.
func (r *run) position(name string, at, cursor any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cursor = cursor
	if r.memo.At == nil {
		return nil
	}
	if err := json.Unmarshal(r.memo.At.Value, at); err != nil {
		return r.failLocked(fmt.Errorf("steps: step %q: the position of an earlier attempt is not a %T: %w", name, at, err))
	}
	return nil
}

// finish keeps the result of the step that runs. A step that was told to continue
// has not finished, even if it returned nil.
func (r *run) finish(ctx context.Context, name string, value json.RawMessage) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	m := r.memo.with(name, value)
	if err := r.keep(ctx, m, name, value); err != nil {
		return err
	}
	r.replayed++
	r.cursor = nil // a Save that waits for r.mu comes too late
	return nil
}

// save keeps the position of the step that runs, if cursor is that step's.
func (r *run) save(ctx context.Context, name string, value json.RawMessage, cursor any) (kept bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return false, r.err
	case r.cursor != cursor:
		return false, r.failLocked(fmt.Errorf("steps: Cursor.Save after step %q ended", name))
	}
	m := r.memo
	m.At = &entry{name, value}
	if err := r.keep(ctx, m, name, value); err != nil {
		return false, err
	}
	if r.unsure || r.held.Late() {
		return true, r.failLocked(ErrContinue)
	}
	return true, nil
}

const (
	keepTimeout  = 5 * time.Second
	keepPause    = 50 * time.Millisecond // doubles after each try
	maxKeepPause = 2 * time.Second
)

// keep stores the memo, and tries again while ctx lives, because a step that is not
// kept as finished would run again. A try does not end with ctx, so that a
// finished step is kept after the deadline too. A try whose result is unknown may
// reach the Store after a later one and restore an older memo. The work then continues
// in another task, and the new claim makes such a try fail.
func (r *run) keep(ctx context.Context, m memo, last string, value json.RawMessage) error {
	text, err := m.text(last, value)
	if err != nil {
		return r.failLocked(err)
	}
	for pause := keepPause; ; pause = min(2*pause, maxKeepPause) {
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
		err := r.held.Keep(try, text)
		cancel()
		if err == nil {
			r.memo = m
			return nil
		}
		r.unsure = true
		if errors.Is(err, handoff.ErrLeaseLost) || ctx.Err() != nil || !pausedFor(ctx, pause) {
			return r.failLocked(fmt.Errorf("steps: step %q: %w", last, err))
		}
	}
}

// pausedFor reports whether ctx lived for d.
func pausedFor(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
