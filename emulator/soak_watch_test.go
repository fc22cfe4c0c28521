package emulator_test

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/dashboard/emulatorsource"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// watched serves a dashboard of srv until the test ends.
func watched(t *testing.T, srv *emulator.Server) (base string) {
	t.Helper()
	source, err := emulatorsource.New(srv)
	assert.NoError(t, err)
	board, err := dashboard.New(dashboard.Config{Source: source, Loopback: true, Logger: slog.New(noErrors{t})})
	assert.NoError(t, err)
	server := httptest.NewServer(board)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		board.Close()
		_ = source.Close()
	})
	return server.URL
}

// watcher reads the dashboard, sometimes as a background tab does, which does not
// read what it is sent.
type watcher struct {
	generator
	base string
	http *http.Client
}

// watch reads pages and their streams, or leaves them unread, until ctx is done.
func (c *watcher) watch(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		c.begin()
		page := c.base + "/" + one(&c.generator, []string{"", "queues/p/l/q1", "queues/p/l/q2", "queues/p/l/q2/tasks/t1"}, "queues/p/l/none", "%00", "queues/p/l/q1/tasks/%2F", "dead")
		look, cancel := context.WithTimeout(ctx, time.Duration(50+c.rng.IntN(2000))*time.Millisecond)
		r, err := http.NewRequestWithContext(look, http.MethodGet, page, http.NoBody)
		assert.NoError(t, err)
		streams := c.rng.IntN(2) == 0
		if streams {
			r.Header.Set("Accept", "text/event-stream")
		}
		resp, err := c.http.Do(r)
		switch {
		case err != nil && look.Err() == nil:
			t.Errorf("%s: %v", page, err)
		case err == nil && resp.StatusCode >= 500 && resp.StatusCode != http.StatusServiceUnavailable:
			t.Errorf("%s: %d", page, resp.StatusCode)
		case err == nil && streams && c.rng.IntN(2) == 0:
			<-look.Done() // the background tab
		case err == nil:
			_, _ = io.Copy(io.Discard, resp.Body)
		}
		if err == nil {
			_ = resp.Body.Close()
		}
		cancel()
	}
}

// disturb resets the emulator, waits for it and reads its keys, beside the other
// clients.
func disturb(ctx context.Context, t *testing.T, srv *emulator.Server, client *http.Client, rng *rand.Rand) {
	for ctx.Err() == nil {
		call := []struct{ method, path string }{
			{http.MethodPost, "/emulator/reset"}, {http.MethodGet, "/emulator/wait?timeout=100ms"}, {http.MethodGet, "/oauth2/v3/certs"}, {http.MethodGet, "/healthz"},
		}[rng.IntN(4)]
		r, err := http.NewRequestWithContext(ctx, call.method, "http://"+srv.HTTPAddr()+call.path, http.NoBody)
		assert.NoError(t, err)
		resp, err := client.Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		if ctx.Err() == nil && (err != nil || resp.StatusCode >= 500) {
			t.Errorf("%s: %v %v", call.path, resp, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rng.IntN(400)) * time.Millisecond):
		}
	}
}
