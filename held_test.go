package handoff_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

// marking handles tasks with a handler that calls Marked, or MarkedBeside, with a
// function that returns done and asked. The handler then returns err.
func marking(b *fixture, beside bool, err error, done bool, asked error) {
	handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
		held, ok := handoff.HeldFromContext(ctx)
		if !ok {
			return errors.New("nothing is held")
		}
		mark := held.Marked
		if beside {
			mark = held.MarkedBeside
		}
		mark(func(context.Context) (bool, error) { return done, asked })
		return err
	})
}

func TestMarkedElsewhere(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, row := range map[string]struct {
		beside     bool
		err        error // of the handler
		done       bool
		asked      error
		status     int
		completes  int
		releases   int
		said       string
		thenStatus int // of a second delivery of the task
	}{
		"committed":               {false, nil, true, nil, 200, 0, 0, "", 409},
		"committed, an error":     {false, boom, true, nil, 200, 0, 0, "boom", 409},
		"committed, busy":         {false, handoff.ErrBusy, true, nil, 200, 0, 0, "busy", 409},
		"committed, permanent":    {false, handoff.Permanent(boom), true, nil, 200, 0, 0, "boom", 409},
		"committed beside":        {true, nil, true, nil, 200, 1, 0, "", 208},
		"beside, an error":        {true, boom, true, nil, 200, 1, 0, "boom", 208},
		"rolled back":             {false, nil, false, nil, 500, 0, 1, "did not commit", 500},
		"rolled back, an error":   {false, boom, false, nil, 500, 0, 1, "boom", 500},
		"rolled back, drop":       {false, handoff.Drop(boom), false, nil, 204, 1, 0, "", 208},
		"unknown":                 {false, nil, false, boom, 503, 0, 0, "not known", 409},
		"unknown, with an error":  {true, handoff.ErrBusy, false, boom, 503, 0, 0, "not known", 409},
		"already done, by itself": {false, handoff.ErrAlreadyDone, false, nil, 208, 1, 0, "", 208},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, nil)
			marking(b, row.beside, row.err, row.done, row.asked)
			assert.Equal(t, b.send(t, typed("a", "x")), row.status)
			assert.Equal(t, b.store.count("complete"), row.completes)
			assert.Equal(t, b.store.count("release"), row.releases)
			if !strings.Contains(b.log.String(), row.said) {
				t.Errorf("%q is not in the log:\n%s", row.said, b.log)
			}
			assert.Equal(t, b.send(t, typed("a", "x")), row.thenStatus)
		})
	}
}

// TestMarkTakenBack: the latest call of Marked counts.
func TestMarkTakenBack(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
		held, _ := handoff.HeldFromContext(ctx)
		held.Marked(func(context.Context) (bool, error) { return false, errors.New("asked in vain") })
		held.Marked(nil)
		return nil
	})
	assert.Equal(t, b.send(t, typed("a", "x")), http.StatusOK)
	assert.Equal(t, b.store.count("complete"), 1)
}

// TestHeldMemo: the next attempt gets the memo that an attempt has kept.
func TestHeldMemo(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	var memos []string
	var tokens []int64
	handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
		held, _ := handoff.HeldFromContext(ctx)
		memos, tokens = append(memos, string(held.Memo())), append(tokens, held.Token())
		if held.Lease().Owner == "" || held.Lease().Key == "" || held.Note() != nil {
			t.Errorf("held: %+v, note %q", held.Lease(), held.Note())
		}
		if err := held.Keep(ctx, make([]byte, handoff.MaxMemo+1)); err == nil {
			t.Error("a memo over the limit was kept")
		}
		if err := held.Keep(ctx, []byte("half way")); err != nil {
			return err
		}
		memos = append(memos, string(held.Memo()))
		return errors.New("once more")
	})
	b.send(t, typed("a", "x"))
	b.send(t, typed("a", "x"))
	assert.Equal(t, strings.Join(memos, ","), ",half way,half way,half way")
	if tokens[1] <= tokens[0] {
		t.Errorf("tokens %v do not grow", tokens)
	}
}

func TestNothingHeld(t *testing.T) {
	t.Parallel()
	if _, ok := handoff.HeldFromContext(t.Context()); ok {
		t.Error("something is held outside a handler")
	}
}
