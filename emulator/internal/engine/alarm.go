package engine

import "time"

// alarm calls a function at the time that it is set to, once, in a goroutine
// of its own. To set it again moves it. It may ring once more after stop.
type alarm interface {
	set(at, now int64) // Unix nanoseconds
	stop()
}

// newAlarm returns an alarm that is not set.
func (e *Engine) newAlarm(ring func()) alarm {
	if e.clock != nil {
		return &clockAlarm{clock: e.clock, ring: ring, pos: -1}
	}
	return &timerAlarm{ring: ring}
}

// timerAlarm is an alarm by a timer of Go's.
type timerAlarm struct {
	ring  func()
	timer *time.Timer // nil: it was never set
}

func (a *timerAlarm) set(at, now int64) {
	after := time.Duration(at - now)
	if a.timer == nil {
		a.timer = time.AfterFunc(after, a.ring)
		return
	}
	a.timer.Reset(after)
}

func (a *timerAlarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}
