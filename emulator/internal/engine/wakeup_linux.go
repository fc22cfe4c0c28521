package engine

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// wakeup wakes the one goroutine that waits for it, at the time that it was set
// to last: a timerfd, which the runtime's epoll watches as it does a socket. It
// goes by the time of day, as tasks do, wherever that is set to meanwhile.
type wakeup struct {
	fd   int
	file *os.File // of fd
}

func (w *wakeup) open() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return err
	}
	w.fd, w.file = fd, os.NewFile(uintptr(fd), "timerfd")
	// It fails if the runtime does not watch the descriptor after all.
	if err := w.file.SetReadDeadline(time.Time{}); err != nil {
		w.close()
		return err
	}
	return nil
}

// set must not be called after close: the number of fd may be another's by then.
func (w *wakeup) set(at int64) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(at)}
	_ = unix.TimerfdSettime(w.fd, unix.TFD_TIMER_ABSTIME, &spec, nil) // its errors are about the arguments
}

// wait says false when w has been closed.
func (w *wakeup) wait() bool {
	var expirations [8]byte
	_, err := w.file.Read(expirations[:])
	return err == nil
}

func (w *wakeup) close() { _ = w.file.Close() }
