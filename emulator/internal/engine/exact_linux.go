package engine

import (
	"syscall"
	"time"
)

// timerLag is by how much a Go timer may be late on Linux: the runtime waits in
// epoll, which counts whole milliseconds and rounds up.
const timerLag = time.Millisecond

// sleepExactly sleeps to a twentieth of a millisecond. It holds a thread, so it
// is for no more than timerLag.
func sleepExactly(d time.Duration) {
	begun := time.Now()
	for left := d; left > 0; left = d - time.Since(begun) {
		wait := syscall.NsecToTimespec(int64(left))
		_ = syscall.Nanosleep(&wait, nil) // its only error is that a signal came, such as the runtime's own
	}
}
