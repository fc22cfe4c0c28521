package frameworks_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/internal/wire"
	"github.com/brillconsulting/handoff/memstore"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

// order is the payload of the deliveries. Do tells the handler what to do.
type order struct {
	Do string `json:"do"`
}

func (order) Kind() string { return "order" }

func handle(ctx context.Context, o order) error {
	switch o.Do {
	case "fail":
		return errors.New("no stock")
	case "die":
		return handoff.Permanent(errors.New("no such card"))
	case "drop":
		return handoff.Drop(nil)
	case "slow down":
		return handoff.RetryAfter(errors.New("overloaded"), 3*time.Second)
	case "be busy":
		return handoff.ErrBusy
	case "panic":
		panic("index out of range")
	case "abort":
		panic(http.ErrAbortHandler)
	case "exit":
		runtime.Goexit()
	case "wait":
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// delivery is one row of the table.
type delivery struct {
	do     string              // payload.Do
	change func(*http.Request) // changes the request; nil for no change
	gzip   bool
	want   string // outcome, reason and status as told to the observer; empty for no delivery
	status int    // of the response; 0 if the connection was aborted

	// otherwise holds, by framework, a status that differs from the router's
	// because the framework's own middleware wrote it.
	otherwise map[string]int
	// unseen holds, by framework, the status of a response that is sent without
	// calling the router.
	unseen map[string]int
}

var deliveries = map[string]delivery{
	"done":                {do: "", want: "done - 200", status: 200},
	"done, compressed":    {do: "", gzip: true, want: "done - 200", status: 200},
	"failed":              {do: "fail", want: "failed - 500", status: 500},
	"permanently":         {do: "die", want: "dead permanent 205", status: 205},
	"dropped":             {do: "drop", want: "dropped - 204", status: 204},
	"throttled":           {do: "slow down", want: "throttled - 503", status: 503},
	"busy":                {do: "be busy", want: "busy - 409", status: 409},
	"panics":              {do: "panic", want: "failed - 500", status: 500},
	"no token":            {change: func(r *http.Request) { r.Header.Del("Authorization") }, want: "unauthenticated no-token 401", status: 401},
	"no task":             {change: func(r *http.Request) { r.Header.Del("X-CloudTasks-TaskName") }, want: "malformed malformed 400", status: 400},
	"no handler":          {change: func(r *http.Request) { r.URL.Path = "/tasks/nobody" }, want: "unknown-kind unknown-kind 404", status: 404},
	"another method":      {change: func(r *http.Request) { r.Method = http.MethodGet }, want: "malformed malformed 400", status: 400},
	"not JSON":            {change: body("not JSON"), want: "dead undecodable 205", status: 205},
	"over MaxBody":        {change: body(strings.Repeat(" ", 5<<10)), want: "too-large too-large 413", status: 413},
	"undecodable, zipped": {change: func(r *http.Request) { body("not JSON")(r) }, gzip: true, want: "dead undecodable 205", status: 205},

	// net/http closes the connection. gin's Recovery recovers the panic and sends
	// the status that the router had set.
	"aborts": {do: "abort", want: "failed - 0", status: 0, otherwise: map[string]int{"gin": 500}},

	// http.TimeoutHandler runs the router in its own goroutine. When that exits, it
	// still waits until its timeout.
	"exits": {do: "exit", want: "failed - 0", status: 0, otherwise: map[string]int{"net/http": 503}},

	// At the timeout the context of the handler ends. http.TimeoutHandler then
	// writes 503; the others let the router write its status.
	"too slow": {do: "wait", want: "failed - 500", status: 500, otherwise: map[string]int{"net/http": 503}},

	// echo refuses the request by its Content-Length before it calls the router.
	"over the framework's limit": {
		change: body(strings.Repeat(" ", 2*bodyLimit)), want: "too-large too-large 413", status: 413,
		unseen: map[string]int{"echo v4": 413, "echo v5": 413},
	},
}

func body(text string) func(*http.Request) {
	return func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(text))
		r.ContentLength = int64(len(text))
	}
}

// TestOneTableForAllFrameworks: a delivery ends in the same way in each framework,
// the observer gets the same Delivery, and a task that has not ended never gets a
// 2xx.
func TestOneTableForAllFrameworks(t *testing.T) {
	t.Parallel()
	for framework, mount := range mounts {
		t.Run(framework, func(t *testing.T) {
			t.Parallel()
			for name, tc := range deliveries {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					f := serve(t, mount)
					got := f.send(t, tc)
					want := tc.status
					if status, ok := tc.otherwise[framework]; ok {
						want = status
					}
					if status, ok := tc.unseen[framework]; ok {
						assert.Status(t, got, status)
						assert.Equal(t, len(f.ended), 0)
						return
					}
					assert.Status(t, got, want)
					d := <-f.ended
					if d.Status == 0 && want != tc.status {
						d.Status = tc.status // the router's response was discarded, and the Delivery says so
					}
					assert.Equal(t, short(d), tc.want)
					assert.Equal(t, f.common(d), f.common(reference(t, tc)))
					if got >= 200 && got <= 299 && !d.Outcome.Final() {
						t.Errorf("the router ended with %s, but the response is %d", d.Outcome, got)
					}
				})
			}
		})
	}
}

// TestResponseWrittenAround: middleware that writes a response before or after the
// router must not make Cloud Tasks delete a task that has not ended. The Delivery
// has the status that was sent.
func TestResponseWrittenAround(t *testing.T) {
	t.Parallel()
	for framework, early := range earlyMounts {
		for name, tc := range map[string]struct {
			written int
			delivery
		}{
			"200, done":       {200, delivery{want: "done - 200", status: 200}},
			"200, failed":     {200, delivery{do: "fail", want: "dead response-sent 200", status: 200}},
			"200, died":       {200, delivery{do: "die", want: "dead permanent 200", status: 200}},
			"200, no handler": {200, delivery{change: func(r *http.Request) { r.URL.Path = "/tasks/nobody" }, want: "unknown-kind unknown-kind 0", status: 0}},
			"200, no token":   {200, delivery{change: func(r *http.Request) { r.Header.Del("Authorization") }, want: "unauthenticated no-token 0", status: 0}},
			"401":             {401, delivery{want: "failed response-sent 401", status: 401}},
		} {
			t.Run(framework+"/early/"+name, func(t *testing.T) {
				t.Parallel()
				f := serve(t, func(r *handoff.Router) http.Handler { return early(r, tc.written) })
				assert.Status(t, f.send(t, tc.delivery), tc.status)
				assert.Equal(t, short(<-f.ended), tc.want)
			})
		}
	}
	for framework, late := range lateMounts {
		t.Run(framework+"/late", func(t *testing.T) {
			t.Parallel()
			f := serve(t, late)
			assert.Status(t, f.send(t, delivery{do: "fail"}), 500)
			assert.Equal(t, short(<-f.ended), "failed - 500")
		})
	}
}

func short(d handoff.Delivery) string {
	return fmt.Sprint(d.Outcome, " ", cmp.Or(d.Reason, "-"), " ", d.Status)
}

// reference returns the Delivery of a router without a framework.
func reference(t *testing.T, tc delivery) handoff.Delivery {
	t.Helper()
	f := serve(t, func(router *handoff.Router) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), timeout)
			defer cancel()
			router.ServeHTTP(w, r.WithContext(ctx))
		})
	})
	f.send(t, tc)
	return <-f.ended
}

// fixture is a router in a framework, behind a real server.
type fixture struct {
	url   string
	ended chan handoff.Delivery
}

func serve(t *testing.T, mount func(*handoff.Router) http.Handler) *fixture {
	t.Helper()
	f := &fixture{ended: make(chan handoff.Delivery, 4)}
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{oidctest.Audience}, Callers: []string{oidctest.Email},
		Keys: handoff.StaticKeys(oidctest.JWKS(oidctest.Shared())),
	})
	assert.NoError(t, err)
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier: verifier, Store: memstore.New(), DeadLetters: memstore.NewDeadLetters(),
		MaxBody: bodyLimit / 2, Logger: slog.New(slog.DiscardHandler),
		Observers: []handoff.Observer{{End: func(_ context.Context, d handoff.Delivery) { f.ended <- d }}},
	})
	assert.NoError(t, err)
	handoff.Handle(router, handle)
	server := httptest.NewUnstartedServer(mount(router))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	f.url = server.URL
	t.Cleanup(func() {
		assert.NoError(t, router.Shutdown(context.Background()))
		server.Close()
	})
	return f
}

// send returns the status of the response; 0 if there was none.
func (f *fixture) send(t *testing.T, tc delivery) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+"/tasks/order", strings.NewReader(fmt.Sprintf(`{"do":%q}`, tc.do)))
	assert.NoError(t, err)
	wire.HTTP.Write(req.Header, wire.Dispatch{Queue: "orders", Task: "t1", ETA: time.Unix(1_700_000_000, 0)})
	wire.Stamp{ID: "id-1", MaxAttempts: 3}.Write(req.Header.Set)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Tenant", "7")
	req.Header.Set("Authorization", "Bearer "+oidctest.Shared().Good())
	if tc.change != nil {
		tc.change(req)
	}
	if tc.gzip {
		compress(t, req)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

func compress(t *testing.T, req *http.Request) {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := io.Copy(w, req.Body)
	assert.NoError(t, err)
	assert.NoError(t, w.Close())
	req.Body, req.ContentLength = io.NopCloser(&packed), int64(packed.Len())
	req.Header.Set("Content-Encoding", "gzip")
}

// common returns the parts of a Delivery that are the same in each run.
func (f *fixture) common(d handoff.Delivery) string {
	info := d.Info
	return fmt.Sprint(d.Outcome, d.Status, d.Reason, d.Err, d.Known, d.LeaseLost, d.Started.IsZero(), d.Ended.IsZero(),
		info.ID, info.Kind, info.Queue, info.Task, info.Attempt, info.MaxAttempts, info.Header, info.Caller)
}
