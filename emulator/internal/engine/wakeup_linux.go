package engine

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// wakeup wakes the one goroutine that waits for it, at the time that it was set
// to last: a timerfd, which the runtime's epoll watches as it does a socket.
type wakeup struct {
	fd   int
	file *os.File // of fd
}

func (w *wakeup) open() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return err
	}
	w.fd, w.file = fd, os.NewFile(uintptr(fd), "timerfd")
	return nil
}

// set must not be called after close: the number of fd may be another's by then.
func (w *wakeup) set(after time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(int64(after), 1))} // 0 would unset it
	_ = unix.TimerfdSettime(w.fd, 0, &spec, nil)                              // its errors are about the arguments
}

// wait says false when w has been closed.
func (w *wakeup) wait() bool {
	var expirations [8]byte
	_, err := w.file.Read(expirations[:])
	return err == nil
}

func (w *wakeup) close() { _ = w.file.Close() }
