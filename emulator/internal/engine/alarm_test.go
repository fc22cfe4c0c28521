package engine

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
)

// alarmKinds are engines whose alarms are of each kind that there is here.
func alarmKinds(t *testing.T, test func(t *testing.T, e *Engine)) {
	t.Helper()
	for name, exact := range map[string]bool{"timer": false, "clock": true} {
		t.Run(name, func(t *testing.T) {
			e := New(Config{Exact: exact})
			if exact {
				needClock(t, e.clock)
			}
			test(t, e)
			e.Close()
		})
	}
}

func needClock(t *testing.T, c *clock) {
	t.Helper()
	switch {
	case c == nil && runtime.GOOS == "linux":
		t.Fatal("there is no clock")
	case c == nil:
		t.Skip("only Linux has a clock")
	}
}

const ringDeadline = 30 * time.Second

// probe is an alarm that notes when it rings, and whether that is too early.
type probe struct {
	alarm
	t    *testing.T
	at   atomic.Int64
	rang chan struct{}
}

func newProbe(t *testing.T, e *Engine) *probe {
	t.Helper()
	p := &probe{t: t, rang: make(chan struct{}, 10)}
	p.alarm = e.newAlarm(func() {
		if early := p.at.Load() - time.Now().UnixNano(); early > 0 {
			t.Errorf("an alarm rang %v early", time.Duration(early))
		}
		p.rang <- struct{}{}
	})
	return p
}

func (p *probe) in(d time.Duration) {
	at := time.Now().Add(d).UnixNano()
	p.at.Store(min(p.at.Load(), at)) // it may still ring as it was set before
	p.set(at)
	p.at.Store(at)
}

func (p *probe) rings() {
	p.t.Helper()
	select {
	case <-p.rang:
	case <-time.After(ringDeadline):
		p.t.Fatal("the alarm does not ring")
	}
}

func TestAlarm(t *testing.T) {
	t.Parallel()
	alarmKinds(t, func(t *testing.T, e *Engine) {
		far, forward, back, stopped, last := newProbe(t, e), newProbe(t, e), newProbe(t, e), newProbe(t, e), newProbe(t, e)
		far.in(time.Hour)
		forward.in(time.Hour)
		forward.in(time.Millisecond)
		forward.rings()
		back.in(time.Second) // long enough for what comes before it
		back.in(time.Hour)
		stopped.in(time.Second)
		stopped.stop()
		stopped.stop() // twice does nothing
		last.in(1200 * time.Millisecond)
		last.rings()
		for _, p := range []*probe{far, back, stopped} {
			assert.Equal(t, len(p.rang), 0)
		}

		// Again, once it has rung and once it was stopped; and at a time that is past.
		for _, p := range []*probe{forward, stopped} {
			p.in(time.Millisecond)
			p.rings()
			p.in(-time.Second)
			p.rings()
		}
		far.stop()
		back.stop()
		for _, p := range []*probe{far, forward, back, stopped, last} {
			assert.Equal(t, len(p.rang), 0)
		}
	})
}

// TestAlarmsMany: each rings once and none before its time, set and moved by
// several at once.
func TestAlarmsMany(t *testing.T) {
	t.Parallel()
	alarmKinds(t, func(t *testing.T, e *Engine) {
		var wg sync.WaitGroup
		early := make(chan time.Duration, 400)
		for range 4 {
			wg.Go(func() {
				for range 100 {
					at := time.Now().Add(time.Duration(rand.IntN(30_000)) * time.Microsecond).UnixNano()
					wg.Add(1)
					a := e.newAlarm(func() {
						defer wg.Done()
						if before := at - time.Now().UnixNano(); before > 0 {
							early <- time.Duration(before)
						}
					})
					a.set(at + int64(time.Hour))
					a.set(at)
				}
			})
		}
		all := make(chan struct{})
		go func() {
			wg.Wait()
			close(all)
		}()
		select {
		case <-all:
		case <-time.After(ringDeadline):
			t.Fatal("alarms are missing")
		}
		assert.Equal(t, len(early), 0)
	})
}

// TestClockClose: what rings has ended when close returns, and nothing rings after.
func TestClockClose(t *testing.T) {
	t.Parallel()
	c := newClock()
	needClock(t, c)
	e := &Engine{clock: c}
	ringing, end, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	ended := false
	now := time.Now().UnixNano()
	e.newAlarm(func() {
		close(ringing)
		<-end
		ended = true // the race detector sees to it that close waits
	}).set(now)
	late := e.newAlarm(func() { t.Error("an alarm rang after close") })
	late.set(now + int64(time.Hour))
	<-ringing
	go func() {
		c.close()
		close(closed)
	}()
	assert.Eventually(t, ringDeadline, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.closed
	}, "the clock to be closed")
	close(end)
	<-closed
	assert.Equal(t, ended, true)
	late.set(now)
	assert.Equal(t, c.wakeAt, now+int64(time.Hour)) // the descriptor may be another's by now
	assert.Equal(t, c.wakeup.wait(), false)
}
