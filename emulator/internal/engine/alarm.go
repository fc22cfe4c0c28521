package engine

import "time"

// alarm calls a function at the time that it is set to, once, in a goroutine
// of its own. To set it again moves it. It may still ring as it was set before
// it was moved or stopped.
type alarm interface {
	set(at int64) // Unix nanoseconds
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

func (a *timerAlarm) set(at int64) {
	after := time.Until(time.Unix(0, at))
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
