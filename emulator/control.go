package emulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
)

const (
	resetPath = "/emulator/reset"
	waitPath  = "/emulator/wait"

	// defaultWait is for callers that state no timeout.
	defaultWait = 30 * time.Second
)

// Wait returns when everything has settled: no dispatch is running, and no
// task is left but in queues that are paused. A task that is scheduled for
// tomorrow, or is retried until then, is waited for; inside a
// testing/synctest bubble that takes no time. The error is ctx's, or says that
// the server was closed with tasks left.
func (s *Server) Wait(ctx context.Context) error { return s.engine.Wait(ctx) }

// Reset makes the server as empty as New made it, for the next test of a
// suite: every queue and task, every reserved name, policy, operation and
// injected fault is gone. Dispatches in flight are cancelled, and no dispatch
// begins after Reset has returned; a Handler that ignores the end of its
// request's context may still run. Keys, addresses, the Handler and what
// [Server.KeepQueues] kept stay.
func (s *Server) Reset() {
	s.service.Reset()
	s.callFaults.reset()
	s.dispatchFaults.reset()
}

// KeepQueues makes every Reset from now on bring back the queues that there
// are now: with the configuration that they have now, running and empty.
func (s *Server) KeepQueues() { s.service.Keep() }

// progress is the body of both responses.
type progress struct {
	Settled bool   `json:"settled"`
	Left    int    `json:"left"` // tasks and running dispatches that Wait waits for
	Error   string `json:"error,omitempty"`
}

func (s *Server) serveReset(w http.ResponseWriter) {
	s.Reset()
	serveProgress(w, http.StatusOK, progress{Settled: true})
}

// serveWait responds with 200 when everything has settled, 408 when the time was
// up first, and 503 when the server is stopped with tasks left.
func (s *Server) serveWait(w http.ResponseWriter, r *http.Request) {
	timeout := defaultWait
	if text := r.URL.Query().Get("timeout"); text != "" {
		var err error
		if timeout, err = time.ParseDuration(text); err != nil || timeout < 0 {
			serveProgress(w, http.StatusBadRequest, progress{
				Left:  s.engine.Unsettled(),
				Error: fmt.Sprintf("emulator: timeout is %q: it must be a duration such as 30s or 2m", text),
			})
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	switch err := s.Wait(ctx); {
	case err == nil:
		serveProgress(w, http.StatusOK, progress{Settled: true})
	case errors.Is(err, engine.ErrClosed):
		serveProgress(w, http.StatusServiceUnavailable, progress{Left: s.engine.Unsettled(), Error: "emulator: it is being stopped"})
	default:
		serveProgress(w, http.StatusRequestTimeout, progress{Left: s.engine.Unsettled()})
	}
}

func serveProgress(w http.ResponseWriter, status int, p progress) {
	text, err := json.Marshal(p)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}
