package steps_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/steps"
)

type unkept struct{ handoff.Store }

func (unkept) Keep(context.Context, handoff.Lease, []byte) error { return errors.ErrUnsupported }

// What a handler does wrong is an error that names the step, and the attempt has
// failed, whatever the handler makes of that error.
func TestMisuse(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		router func(*handoff.RouterConfig)
		run    func(ctx context.Context, l *trace) error
		want   string
		ran    int
	}{
		"a name used twice": {nil, func(ctx context.Context, l *trace) error {
			_ = l.do(ctx, "a", 1, nil)
			return l.do(ctx, "a", 1, nil)
		}, `two steps have the name "a"`, 1},
		"a nested step": {nil, func(ctx context.Context, l *trace) error {
			_, err := steps.Do(ctx, "outer", func(ctx context.Context) (int, error) { return 1, l.do(ctx, "inner", 1, nil) })
			return err
		}, `step "inner" begins while step "outer" runs`, 0},
		"a step nested in a Tx": {nil, func(ctx context.Context, l *trace) error {
			return steps.Tx(ctx, "outer", database{}, func(ctx context.Context, _ string) error {
				_ = l.do(ctx, "inner", 1, nil)
				return nil
			})
		}, `step "inner" begins while step "outer" runs`, 0},
		"a Tx of which nobody knows the end": {nil, func(ctx context.Context, l *trace) error {
			return steps.Tx(ctx, "a", database{errBoom}, func(context.Context, string) error { l.addf("runs"); return nil })
		}, `step "a": boom`, 1},
		"a Tx over 4 kB": {nil, func(ctx context.Context, l *trace) error { return l.tx(ctx, strings.Repeat("x", 4100), nil) }, "the memo of the work would have", 0},
		"no name":        {nil, func(ctx context.Context, l *trace) error { return l.do(ctx, "", 1, nil) }, "has no name", 0},
		"over 4 kB": {nil, func(ctx context.Context, l *trace) error {
			_, err := steps.Do(ctx, "big", func(context.Context) (string, error) { l.addf("runs"); return strings.Repeat("x", 4100), nil })
			return err
		}, `step "big": the memo of the work would have 4135 bytes, must be 4096 at most; the new value has 4102`, 1},
		"a position over 4 kB": {nil, func(ctx context.Context, _ *trace) error {
			return steps.Each(ctx, "big", func(ctx context.Context, c *steps.Cursor[string]) error {
				return c.Save(ctx, strings.Repeat("x", 4100))
			})
		}, `step "big": the memo of the work would have`, 0},
		"a result that JSON cannot have": {nil, func(ctx context.Context, l *trace) error {
			_, err := steps.Do(ctx, "odd", func(context.Context) (func(), error) { l.addf("runs"); return func() {}, nil })
			return err
		}, `step "odd": its result cannot be kept`, 1},
		"a result that cannot come back": {nil, func(ctx context.Context, l *trace) error {
			_, err := steps.Do(ctx, "odd", func(context.Context) (error, error) { l.addf("runs"); return errBoom, nil })
			return err
		}, `step "odd": its result cannot be decoded`, 1},
		"a position that JSON cannot have": {nil, func(ctx context.Context, _ *trace) error {
			return steps.Each(ctx, "odd", func(ctx context.Context, c *steps.Cursor[float64]) error { return c.Save(ctx, math.Inf(1)) })
		}, `step "odd": its position cannot be kept`, 0},
		"Save after the step": {nil, func(ctx context.Context, _ *trace) error {
			var kept *steps.Cursor[int]
			_ = steps.Each(ctx, "each", func(_ context.Context, c *steps.Cursor[int]) error { kept = c; return nil })
			return kept.Save(ctx, 1)
		}, `Cursor.Save after step "each" ended`, 0},
		"Save by the cursor of an earlier Each": {nil, func(ctx context.Context, _ *trace) error {
			var first *steps.Cursor[int]
			_ = steps.Each(ctx, "each", func(_ context.Context, c *steps.Cursor[int]) error { first = c; return errBoom })
			return steps.Each(ctx, "each", func(ctx context.Context, c *steps.Cursor[int]) error {
				return errors.Join(c.Save(ctx, 2), first.Save(ctx, 1))
			})
		}, `Cursor.Save after step "each" ended`, 0},
		"a name that is not UTF-8": {nil, func(ctx context.Context, l *trace) error { return l.do(ctx, "a\xff", 1, nil) }, `"a\xff" is not UTF-8`, 0},
		"a position that cannot come back": {nil, func(ctx context.Context, _ *trace) error {
			return steps.Each(ctx, "odd", func(ctx context.Context, c *steps.Cursor[error]) error { return c.Save(ctx, errBoom) })
		}, `step "odd": its position could not be decoded`, 0},
		"a memo of another package": {nil, func(ctx context.Context, l *trace) error {
			held, _ := handoff.HeldFromContext(ctx)
			_ = held.Keep(ctx, []byte("theirs"))
			return l.do(ctx, "a", 1, nil)
		}, `step "a": the memo of the work is not of package steps`, 0},
		"a memo of another version": {nil, func(ctx context.Context, l *trace) error {
			held, _ := handoff.HeldFromContext(ctx)
			_ = held.Keep(ctx, []byte(`{"v":2}`))
			return l.do(ctx, "a", 1, nil)
		}, `has version 2, must be 1`, 0},
		"no Client": {func(c *handoff.RouterConfig) { c.Client = nil }, func(ctx context.Context, l *trace) error { return l.do(ctx, "a", 1, nil) },
			"RouterConfig.Client is nil", 0},
		"no Store": {func(c *handoff.RouterConfig) { c.Store, c.DangerouslyRunUnfenced = nil, true },
			func(ctx context.Context, l *trace) error { return l.do(ctx, "a", 1, nil) }, "RouterConfig.Store is nil", 0},
		"a Store without a memo": {func(c *handoff.RouterConfig) { c.Store = unkept{c.Store} },
			func(ctx context.Context, l *trace) error { return l.do(ctx, "a", 1, nil) }, "RouterConfig.Store does not keep a memo", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var l trace
				var log bytes.Buffer
				kit := handofftest.New(t, logged(&log, tc.router))
				var said error
				deploys(kit, func(ctx context.Context) error {
					said = tc.run(ctx, &l)
					if err := l.do(ctx, "later", 1, nil); err == nil || err.Error() != said.Error() {
						t.Errorf("a later step returns %v", err)
					}
					return nil
				}, func(context.Context) error { return nil })
				assert.Equal(t, outcomes(t, kit), []string{"failed", "done"})
				assert.ErrorContains(t, said, tc.want)
				assert.Equal(t, strings.HasPrefix(said.Error(), "steps: "), true)
				assert.Equal(t, strings.Contains(log.String(), "returned nil after a step returned an error"), true)
				ran := 0
				for _, s := range l.seen {
					if strings.Contains(s, "runs") {
						ran++
					}
				}
				assert.Equal(t, ran, tc.ran)
			})
		})
	}
}

// hookedKeep is a Store whose Keep calls before.
type hookedKeep struct {
	handoff.Store

	before func()
}

func (s hookedKeep) Keep(ctx context.Context, l handoff.Lease, memo []byte) error {
	s.before()
	return s.Store.Keep(ctx, l, memo)
}

// A Save that waits while its Each ends keeps nothing: the step would be finished
// and have a position.
func TestSaveWhileTheStepEnds(t *testing.T) {
	t.Parallel()
	saved := make(chan error, 1)
	save := func() {} // when the first step looks whether the Store keeps memos
	kit := handofftest.New(t, logged(new(bytes.Buffer), func(c *handoff.RouterConfig) {
		c.Store = hookedKeep{c.Store, func() { go save() }}
	}))
	deploys(kit, func(ctx context.Context) error {
		return steps.Each(ctx, "a", func(ctx context.Context, c *steps.Cursor[int]) error {
			save = func() { saved <- c.Save(ctx, 1) }
			return nil
		})
	})
	assert.Equal(t, outcomes(t, kit), []string{"done"})
	assert.ErrorContains(t, <-saved, `Cursor.Save after step "a" ended`)
}

func TestNoDelivery(t *testing.T) {
	t.Parallel()
	var l trace
	assert.ErrorContains(t, l.do(t.Context(), "a", 1, nil), `steps: step "a": no task runs with this context`)
	assert.ErrorContains(t, l.each(t.Context(), "a", 1, nil), `steps: step "a": no task runs with this context`)
	assert.Equal(t, len(l.seen), 0)
}
