package handoff_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/wire"
	"github.com/brillconsulting/handoff/memstore"
)

// windowSpy records the Window of every call.
type windowSpy struct {
	handoff.Store
	windows map[string]time.Duration
}

func (s *windowSpy) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	s.windows["claim"] = l.Window
	return s.Store.Claim(ctx, l)
}

func (s *windowSpy) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	s.windows["release"] = l.Window
	return s.Store.Release(ctx, l, counted)
}

func (s *windowSpy) Complete(ctx context.Context, l handoff.Lease) error {
	s.windows["complete"] = l.Window
	return s.Store.Complete(ctx, l)
}

func (s *windowSpy) End(ctx context.Context, l handoff.Lease, note []byte) error {
	s.windows["end"] = l.Window
	return s.Store.End(ctx, l, note)
}

// TestWindows: the record of unfinished work is kept as long as the service can
// deliver the task, that of finished work as long as a delivery can still arrive,
// that of dead work as long as its letter.
func TestWindows(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	change := func(fn func(*wire.Stamp)) task {
		d := typed("1", "x") // expires in an hour
		fn(&d.stamp)
		return d
	}
	for name, tc := range map[string]struct {
		task task
		err  error
		want string
	}{
		"unkeyed":             {typed("1", "x"), nil, "claim 31d, complete 2h"},
		"a longer backoff":    {change(func(s *wire.Stamp) { s.Backoff.Max = 20 * time.Hour }), nil, "claim 31d, complete 21h"},
		"keyed":               {change(func(s *wire.Stamp) { s.Key = "k" }), nil, "claim 31d, complete 24h"},
		"every three days":    {change(func(s *wire.Stamp) { s.Key, s.Window = "k", 3*day }), nil, "claim 31d, complete 72h"},
		"forged times":        {change(func(s *wire.Stamp) { s.Expires, s.Scheduled = time.UnixMilli(9e12), time.UnixMilli(9e12) }), nil, "claim 96360h, complete 96361h"},
		"forged":              {change(func(s *wire.Stamp) { s.Window = 285 * 365 * day }), nil, "claim 31d, complete 96360h"},
		"without TTL":         {change(func(s *wire.Stamp) { s.Expires = time.Time{} }), nil, "claim 31d, complete 24h"},
		"scheduled for later": {change(func(s *wire.Stamp) { s.Scheduled = time.Now().Add(3 * day) }), nil, "claim 34d, complete 2h"},
		"redriven":            {change(func(s *wire.Stamp) { s.Redrives = 1 }), nil, "claim 31d, complete 30d"},
		"foreign":             {foreign("f", "x"), nil, "claim 31d, complete 2h"},
		"failed":              {typed("1", "x"), errBoom, "claim 31d, release 31d"},
		"dead":                {typed("1", "x"), handoff.Permanent(errBoom), "claim 31d, end 31d, complete 30d"},
		"dead and foreign":    {foreign("f", "x"), handoff.Permanent(errBoom), "claim 31d, end 31d, complete 2h"},
		"busy":                {typed("1", "x"), handoff.ErrBusy, "claim 31d, release 31d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spy := &windowSpy{windows: make(map[string]time.Duration)}
			b := newFixture(t, func(c *handoff.RouterConfig) { spy.Store, c.Store = c.Store, spy })
			handoff.Handle(b.Router, func(context.Context, note) error { return tc.err })
			b.send(t, tc.task)
			var got []string
			for _, call := range []string{"claim", "release", "end", "complete"} {
				if w, ok := spy.windows[call]; ok {
					text := fmt.Sprintf("%dh", int(w.Round(time.Hour)/time.Hour))
					if w = w.Round(time.Hour); w > 3*day && w < 300*day {
						text = fmt.Sprintf("%dd", int(w/day))
					}
					got = append(got, call+" "+text)
				}
			}
			assert.Equal(t, strings.Join(got, ", "), tc.want)
		})
	}
}

// The key of dead work stays reserved as long as its letter exists.
func TestADeadKeyIsHeldByItsLetter(t *testing.T) {
	t.Parallel()
	keyed := func(id string) task {
		d := typed(id, "x")
		d.stamp.Key = "key-of-the-order"
		return d
	}
	for name, tc := range map[string]struct {
		then   func(t *testing.T, b *fixture, id string)
		status int
		runs   int
		says   string
	}{
		"the letter is there": {func(*testing.T, *fixture, string) {}, 208, 1, "held by dead letter key-of-the-order"},
		"it was deleted":      {func(t *testing.T, b *fixture, id string) { assert.NoError(t, b.letters.Delete(t.Context(), id)) }, 205, 2, "boom"},
		"it was redriven": {func(t *testing.T, b *fixture, id string) {
			letter, err := b.letters.Get(t.Context(), id)
			assert.NoError(t, err)
			assert.NoError(t, b.letters.MarkRedriven(t.Context(), id, letter.BuriedAt))
		}, 409, 1, "was redriven"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ended handoff.Delivery
			b := newFixture(t, func(c *handoff.RouterConfig) {
				c.Observers = []handoff.Observer{{End: func(_ context.Context, d handoff.Delivery) { ended = d }}}
			})
			runs := 0
			handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
				runs++
				assert.Equal(t, handoff.InfoFromContext(ctx).Attempt, 1)
				return handoff.Permanent(errBoom)
			})
			assert.Status(t, b.send(t, keyed("1")), 205)
			tc.then(t, b, b.onlyLetter(t).ID)
			assert.Status(t, b.send(t, keyed("2")), tc.status)
			assert.Equal(t, runs, tc.runs)
			assert.ErrorContains(t, ended.Err, tc.says)
		})
	}
}

// lettersBetween calls between after the first Get that finds no letter.
type lettersBetween struct {
	*memstore.DeadLetters
	between func()
}

func (l *lettersBetween) Get(ctx context.Context, id string) (handoff.DeadLetter, error) {
	letter, err := l.DeadLetters.Get(ctx, id)
	if between := l.between; err != nil && between != nil {
		l.between = nil
		between()
	}
	return letter, err
}

// Two tasks find that the letter of their key was deleted. One runs and is buried
// before the other claims: the new letter, of the same ID, holds the key.
func TestADeadKeyIsFreedOnce(t *testing.T) {
	t.Parallel()
	letters := &lettersBetween{DeadLetters: memstore.NewDeadLetters()}
	b := newFixture(t, func(c *handoff.RouterConfig) { c.DeadLetters = letters })
	runs := 0
	handoff.Handle(b.Router, func(context.Context, note) error { runs++; return handoff.Permanent(errBoom) })
	keyed := func(id string) task {
		d := typed(id, "x")
		d.stamp.Key = "key"
		return d
	}
	assert.Status(t, b.send(t, keyed("1")), 205)
	assert.NoError(t, letters.Delete(t.Context(), "key"))
	letters.between = func() { assert.Status(t, b.send(t, keyed("2")), 205) }
	assert.Status(t, b.send(t, keyed("3")), 208)
	assert.Status(t, b.send(t, keyed("4")), 208)
	assert.Equal(t, runs, 2)

	assert.NoError(t, letters.Delete(t.Context(), "key"))
	assert.Status(t, b.send(t, keyed("5")), 205)
	assert.Equal(t, runs, 3)
}

// The redriven task of a foreign one has a record of its own. A retry of the foreign task,
// whose response was lost, must not wait for it.
func TestForeignTaskAfterItsRedrive(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	runs := 0
	handoff.Handle(b.Router, func(context.Context, note) error { runs++; return handoff.Permanent(errBoom) })
	d := foreign("nightly", "x")
	assert.Status(t, b.send(t, d), 205)
	letter := b.onlyLetter(t)
	assert.Status(t, b.send(t, d), 208)
	assert.NoError(t, b.letters.MarkRedriven(t.Context(), letter.ID, letter.BuriedAt))
	assert.Status(t, b.send(t, d), 208)
	assert.Equal(t, runs, 1)
}

// A redriven task runs, even if the burial of the original was not completed.
func TestARedrivenTaskOpensTheDead(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	var attempts []int
	handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
		attempts = append(attempts, handoff.InfoFromContext(ctx).Attempt)
		if len(attempts) == 1 {
			return handoff.Permanent(errBoom)
		}
		return nil
	})
	d := typed("1", "x")
	b.store.fault("complete", down) // the letter is kept, and the end of the burial is lost
	d.stamp.Deadline = time.Millisecond
	assert.Status(t, b.send(t, d), 205)
	b.store.fault("complete", nil)
	redriven := d
	redriven.name, redriven.stamp.Redrives = "redriven", 1
	assert.Status(t, b.send(t, redriven), 409) // the record is still leased
	assert.Status(t, b.send(t, d), 409)
}

// The ID of a letter depends on the work: tasks with the same key share one letter,
// and tasks that reuse a name have one each.
func TestNamesOfLetters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
		handoff.Handle(b.Router, func(context.Context, note) error { return handoff.Permanent(errBoom) })
		typedTask, keyed := typed("abc", "x"), typed("def", "x")
		keyed.stamp.Key = "key"
		for _, d := range []task{typedTask, keyed, foreign("nightly", "x")} {
			assert.Status(t, b.send(t, d), 205)
		}
		time.Sleep(3 * time.Hour) // the service has released the name
		assert.Status(t, b.send(t, foreign("nightly", "y")), 205)
		page, err := b.letters.List(t.Context(), handoff.DeadLetterQuery{})
		assert.NoError(t, err)
		var ids []string
		for _, l := range page.Letters {
			ids = append(ids, l.ID)
		}
		assert.Equal(t, len(ids), 4)
		for _, want := range []string{"abc", "key"} {
			if !strings.Contains(strings.Join(ids, " ")+" ", want+" ") {
				t.Errorf("no letter %s among %v", want, ids)
			}
		}
	})
}

// Two projects that share a Store may have tasks with the same name.
func TestForeignTasksOfTwoProjects(t *testing.T) {
	t.Parallel()
	runs := 0
	var store handoff.Store
	for _, project := range []string{"staging", "production", "production"} {
		b := newFixture(t, func(c *handoff.RouterConfig) {
			c.Project = project
			if store == nil {
				store = c.Store
			}
			c.Store = store
		})
		handoff.Handle(b.Router, func(context.Context, note) error { runs++; return nil })
		b.send(t, foreign("nightly", "x"))
	}
	assert.Equal(t, runs, 2)
}

// The letter of an expired task says truthfully how it ended.
func TestWhatIsSaidOfExpiredTasks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		failures, retries int
		says              string
	}{
		"it never ran":       {0, 0, "before it could run"},
		"it failed":          {2, 2, "attempt 2 ended before"},
		"its record is gone": {0, 3, "how an earlier attempt ended is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, nil)
			handoff.Handle(b.Router, func(context.Context, note) error { return errBoom })
			d := typed("1", "x")
			for range tc.failures {
				assert.Status(t, b.send(t, d), 500)
			}
			d.retries, d.stamp.Expires = tc.retries, time.Now().Add(-time.Minute)
			assert.Status(t, b.send(t, d), 205)
			assert.ErrorContains(t, fmt.Errorf("%s", b.onlyLetter(t).LastErr), tc.says)
		})
	}
}

// The mark of a later attempt is kept until a copy that an earlier attempt may have
// made has arrived, which can take 30 days.
func TestWindowOfALaterAttempt(t *testing.T) {
	t.Parallel()
	spy := &windowSpy{windows: make(map[string]time.Duration)}
	b := newFixture(t, func(c *handoff.RouterConfig) {
		spy.Store, c.Store = c.Store, spy
		c.Client = new(taskServer).client(t, nil)
	})
	runs := 0
	handoff.Handle(b.Router, func(context.Context, note) error {
		if runs++; runs == 1 {
			return errBoom
		}
		return nil
	})
	for _, status := range []int{500, 200} {
		assert.Status(t, b.send(t, typed("1", "x")), status)
	}
	assert.Equal(t, spy.windows["complete"], 31*24*time.Hour)
}
