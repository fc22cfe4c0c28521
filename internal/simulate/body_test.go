package simulate_test

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// bodyOf returns the body of a delivery, which may be cut off or arrive slowly.
func (w *world) bodyOf(body []byte, work string, n int, as string) io.ReadCloser {
	switch u := w.draw("body", work, n, as); {
	case u < w.trouble/4:
		w.fault("body cut off")
		return io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), broken{}))
	case u < w.trouble/2:
		w.fault("body trickles")
		pause := w.drawTime(time.Second, time.Minute, "trickle", work, n, as)
		return &trickle{w: w, rest: body, pause: pause, closed: make(chan struct{})}
	}
	return io.NopCloser(bytes.NewReader(body))
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// trickle is a body that arrives byte by byte, with a pause before each, until it
// is closed.
type trickle struct {
	w      *world
	rest   []byte
	pause  time.Duration
	once   sync.Once
	closed chan struct{}
}

func (t *trickle) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		return 0, io.EOF
	}
	if !t.w.pause(t.pause, t.closed) {
		return 0, io.ErrClosedPipe
	}
	n := copy(p[:min(1, len(p))], t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

func (t *trickle) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}
