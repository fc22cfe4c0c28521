// Package dispatch sends tasks as HTTP requests like those of the service, and
// turns their responses into outcomes (docs/cloud-tasks.md#9, #10, #11).
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/brillconsulting/handoff/emulator/internal/appengine"
	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/emulator/internal/token"
)

// Dispatcher sends tasks to their targets.
type Dispatcher struct {
	Transport http.RoundTripper
	Tokens    *token.Minter
	Log       *slog.Logger
	Strict    bool // send no token over http, not even for development

	// AppEngine has the addresses of App Engine services. AnyHost reports whether
	// requests to services without one may be sent, with their own host.
	AppEngine appengine.Addresses
	AnyHost   func() bool
}

// The service holds no part of a response body (docs/cloud-tasks.md#9.5). So much is
// read to keep the connection; after more it is closed.
const drained = 256 << 10

// Dispatch sends one request. Redirects are not followed: a 3xx is a failure, as
// recorded from the service (docs/cloud-tasks.md#9.5).
func (d *Dispatcher) Dispatch(ctx context.Context, a *engine.Dispatch) engine.Outcome {
	out := d.dispatch(ctx, a)
	level := slog.LevelDebug
	if !out.OK() {
		level = slog.LevelInfo
	}
	if d.Log.Enabled(ctx, level) {
		d.Log.LogAttrs(ctx, level, "dispatch",
			slog.String("queue", a.Queue.GetName()), slog.String("task", a.TaskID),
			slog.Int("retry", a.Retries), slog.Int("status", out.Status),
			slog.Bool("timeout", out.Timeout), slog.String("failure", out.Failure))
	}
	return out
}

func (d *Dispatcher) dispatch(ctx context.Context, a *engine.Dispatch) engine.Outcome {
	req, err := d.request(ctx, a)
	if err != nil {
		return engine.Outcome{Failure: err.Error()}
	}
	resp, err := d.Transport.RoundTrip(req)
	if err != nil {
		return noResponse(ctx, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode < 100: // net/http takes "000"
		return engine.Outcome{Failure: fmt.Sprintf("malformed HTTP status code %03d", resp.StatusCode)}
	case resp.StatusCode >= 200: // the body of a 101 is the connection, and would not end
		// A response cut off in the middle is no response: the worker may have
		// failed while it wrote.
		if _, err = io.CopyN(io.Discard, resp.Body, drained); err != nil && !errors.Is(err, io.EOF) {
			return noResponse(ctx, err)
		}
	}
	return engine.Outcome{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"))}
}

// retryAfter reads the header as RFC 9110 §10.2.3 has it: seconds or a date.
func retryAfter(v string) time.Duration {
	if v == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(v); err == nil {
		return max(time.Until(date), 0)
	}
	return 0
}

func noResponse(ctx context.Context, err error) engine.Outcome {
	// A socket may notice the deadline before the context does.
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return engine.Outcome{Timeout: true, Failure: "no response by the dispatch deadline"}
	}
	return engine.Outcome{Failure: err.Error()}
}
