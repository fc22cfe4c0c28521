package engine

import (
	"container/heap"
	"sync"
	"time"
)

// clock rings alarms to a tenth of a millisecond, and wakes once for all that
// are due. Go's timers are up to a millisecond late on Linux, where the runtime
// waits in epoll, which counts whole milliseconds; and it waits in two steps,
// the last of them with its monitor polling, which costs more than a dispatch.
type clock struct {
	wakeup wakeup
	all    sync.WaitGroup

	mu     sync.Mutex
	alarms alarms
	wakeAt int64 // what the wake-up is set to, 0 while it is not
	closed bool
}

// newClock returns a clock, or nil where the system has none or has no more to
// give.
func newClock() *clock {
	c := new(clock)
	if err := c.wakeup.open(); err != nil {
		return nil
	}
	c.all.Go(c.run)
	return c
}

func (c *clock) run() {
	for c.wakeup.wait() {
		c.mu.Lock()
		c.wakeAt = 0
		now := time.Now().UnixNano()
		for len(c.alarms) > 0 && c.alarms[0].at <= now {
			c.all.Go(heap.Pop(&c.alarms).(*clockAlarm).ring)
		}
		c.wake()
		c.mu.Unlock()
	}
}

// wake sets the wake-up to the first alarm. One that is set too early is left,
// as it is by [Queue.setAlarm].
func (c *clock) wake() {
	if c.closed || len(c.alarms) == 0 {
		return
	}
	if first := c.alarms[0].at; c.wakeAt == 0 || first < c.wakeAt {
		c.wakeAt = first
		c.wakeup.set(first)
	}
}

// close returns when no alarm is ringing any more, and none will.
func (c *clock) close() {
	c.mu.Lock()
	c.closed = true
	c.wakeup.close()
	c.mu.Unlock()
	c.all.Wait()
}

// clockAlarm is an alarm by the clock.
type clockAlarm struct {
	clock *clock
	ring  func()
	at    int64
	pos   int // in alarms, -1 while it is not set
}

func (a *clockAlarm) set(at int64) {
	a.clock.mu.Lock()
	defer a.clock.mu.Unlock()
	a.at = at
	if a.pos < 0 {
		heap.Push(&a.clock.alarms, a)
	} else {
		heap.Fix(&a.clock.alarms, a.pos)
	}
	a.clock.wake()
}

func (a *clockAlarm) stop() {
	a.clock.mu.Lock()
	defer a.clock.mu.Unlock()
	if a.pos >= 0 {
		heap.Remove(&a.clock.alarms, a.pos)
	}
}

// alarms are those that are set: a heap by time.
type alarms []*clockAlarm

func (s *alarms) Len() int           { return len(*s) }
func (s *alarms) Less(i, j int) bool { return (*s)[i].at < (*s)[j].at }

func (s *alarms) Swap(i, j int) {
	(*s)[i], (*s)[j] = (*s)[j], (*s)[i]
	(*s)[i].pos, (*s)[j].pos = i, j
}

func (s *alarms) Push(a any) {
	added := a.(*clockAlarm)
	added.pos = len(*s)
	*s = append(*s, added)
}

func (s *alarms) Pop() any {
	last := len(*s) - 1
	removed := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	removed.pos = -1
	return removed
}
