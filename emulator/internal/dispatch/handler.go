package dispatch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// Handler is an http.RoundTripper that calls an http.Handler in the same
// process, without a socket. As over a connection, the handler learns
// of a missed deadline by its context, and a panic costs the response.
// Until it is given a handler it leaves the requests to Fallback.
type Handler struct {
	Fallback http.RoundTripper
	Log      *slog.Logger

	handler atomic.Pointer[http.Handler]
	running sync.WaitGroup
}

// Set sets the handler of all further requests.
func (h *Handler) Set(handler http.Handler) { h.handler.Store(&handler) }

// IsSet reports whether there is a handler.
func (h *Handler) IsSet() bool { return h.handler.Load() != nil }

var errClosed = errors.New("connection closed without a response")

// RoundTrip runs the handler in a goroutine of its own. When the context of
// req ends, so does the handler's, but only the handler can end itself.
func (h *Handler) RoundTrip(req *http.Request) (*http.Response, error) {
	handler := h.handler.Load()
	if handler == nil {
		return h.Fallback.RoundTrip(req)
	}
	// The caller's deadline does not cross a connection, only its end does.
	ctx, cancel := context.WithCancel(context.WithoutCancel(req.Context()))
	in, err := inbound(ctx, req)
	if err != nil {
		cancel()
		return nil, err
	}
	stop := context.AfterFunc(req.Context(), cancel)
	w := &recorder{header: make(http.Header), done: make(chan struct{})}
	h.running.Go(func() {
		defer cancel()
		defer stop()
		h.serve(*handler, w, in)
	})
	select {
	case <-w.done:
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	// Without a status the handler ended by runtime.Goexit, as t.FailNow does.
	if w.aborted || w.status == 0 {
		return nil, errClosed
	}
	return &http.Response{
		Status:     http.StatusText(w.status),
		StatusCode: w.status,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     w.header,
		Body:       http.NoBody, // nobody reads the body of a dispatch's response
		Request:    req,
	}, nil
}

// Wait returns when every handler has returned.
func (h *Handler) Wait() { h.running.Wait() }

func (h *Handler) serve(handler http.Handler, w *recorder, req *http.Request) {
	defer close(w.done)
	defer func() {
		if p := recover(); p != nil {
			w.aborted = true
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				h.Log.Error("emulator: handler panicked", "panic", p, "stack", string(debug.Stack()))
			}
		}
	}()
	handler.ServeHTTP(w, req)
	w.WriteHeader(http.StatusOK) // if it has written none
}

// inbound is req as a server reads it. It is written and read back, so that the
// handler sees the very request that a socket would have shown.
func inbound(ctx context.Context, req *http.Request) (*http.Request, error) {
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		return nil, err
	}
	in, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		return nil, err
	}
	in.RemoteAddr = "127.0.0.1:0"
	return in.WithContext(ctx), nil
}

// recorder is the handler's side of the response. It is the handler's
// alone until done is closed.
type recorder struct {
	header  http.Header
	status  int // of the response; 0 until it is written
	aborted bool
	done    chan struct{}
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	// A 1xx announces the response, it is not one.
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(p), nil
}

// Flush sends the header, as a server's would.
func (w *recorder) Flush() { w.WriteHeader(http.StatusOK) }
