package handoff_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

// The letter of a body that cannot be decompressed has the body as it was sent.
func TestLettersOfBodiesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ coding, body string }{
		"a coding that nobody knows": {"br", "\x0b\x02\x80{}"},
		"gzip, cut off":              {"gzip", "\x1f\x8b\x08\x00\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, nil)
			handoff.Handle(b.Router, func(context.Context, note) error { return nil })
			d := typed("1", "x")
			d.body, d.header = tc.body, http.Header{"Content-Encoding": {tc.coding}}
			assert.Status(t, b.send(t, d), 205)
			letter := b.onlyLetter(t)
			assert.Equal(t, string(letter.Payload), tc.body)
			assert.Equal(t, letter.Header["Content-Encoding"], []string{tc.coding})
		})
	}
}

// A body that middleware around the router has already read is not taken for an
// empty one.
func TestABodyThatWasReadIsNotBuried(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	handoff.Handle(b.Router, func(context.Context, note) error { return nil })
	req := typed("1", "x").request()
	_, err := io.Copy(io.Discard, req.Body)
	assert.NoError(t, err)
	assert.Status(t, b.serve(req).Code, 400)
	b.noLetters(t)
	if log := b.log.String(); !strings.Contains(log, "middleware around the router") {
		t.Errorf("the log does not say why: %s", log)
	}
}

// A task whose body is too large is buried when it expires, with the body as it was
// sent.
func TestATooLargeBodyIsBuriedWhenItExpires(t *testing.T) {
	t.Parallel()
	b := newFixture(t, func(c *handoff.RouterConfig) { c.MaxBody = 100 })
	handoff.Handle(b.Router, func(context.Context, note) error { t.Error("it ran"); return nil })
	d := typed("1", strings.Repeat("x", 1000))
	assert.Status(t, b.send(t, d), 413)
	d.stamp.Expires = time.Now().Add(-time.Second)
	assert.Status(t, b.send(t, d), 205)
	assert.Equal(t, string(b.onlyLetter(t).Payload), d.body)
}

// trickling returns a request whose body arrives byte by byte.
func trickling(d task) (req *http.Request, stop func()) {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer w.Close()
		for {
			if _, err := w.Write([]byte(" ")); err != nil {
				return
			}
			select {
			case <-time.After(time.Second):
			case <-done:
				return
			}
		}
	}()
	req = d.request()
	req.Body, req.ContentLength = r, 100_000
	return req, func() { close(done) }
}

// A body that arrives slowly holds its delivery no longer than an attempt may take,
// and ends at once when the router is interrupted. The writer of these tests has no
// deadlines, so the router closes the body instead.
func TestABodyThatTrickles(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change   func(*handoff.RouterConfig)
		deadline time.Duration
		shutdown bool
		status   int
		within   time.Duration
	}{
		"the dispatch deadline":  {func(*handoff.RouterConfig) {}, 20 * time.Second, false, 400, 20 * time.Second},
		"a deadline no task has": {func(*handoff.RouterConfig) {}, 1000 * time.Hour, false, 400, 30 * time.Minute},
		"MaxRun":                 {func(c *handoff.RouterConfig) { c.MaxRun = 3 * time.Second }, 0, false, 400, 4 * time.Second},
		"a shutdown":             {func(*handoff.RouterConfig) {}, 0, true, 500, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, tc.change)
				handoff.Handle(b.Router, func(context.Context, note) error { t.Error("it ran"); return nil })
				d := typed("1", "x")
				d.stamp.Deadline = tc.deadline
				req, stop := trickling(d)
				defer stop()
				start := time.Now()
				status := make(chan int, 1)
				go func() { status <- b.serve(req).Code }()
				if tc.shutdown {
					time.Sleep(time.Second)
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					assert.NoError(t, b.Shutdown(ctx))
				}
				assert.Status(t, <-status, tc.status)
				if took := time.Since(start); took > tc.within {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// The keeper, which sleeps while an attempt runs, is woken for a read whose
// deadline is earlier than the keeper's next wake-up.
func TestABodyThatTricklesBesideARun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, nil)
		release := make(chan struct{})
		handoff.Handle(b.Router, func(context.Context, note) error { <-release; return nil })
		running := make(chan int, 1)
		go func() { running <- b.send(t, typed("1", "x")) }()
		synctest.Wait()

		d := typed("2", "x")
		d.stamp.Deadline = 2 * time.Second
		req, stop := trickling(d)
		defer stop()
		start := time.Now()
		assert.Status(t, b.serve(req).Code, 400)
		if took := time.Since(start); took > d.stamp.Deadline {
			t.Errorf("it took %s", took)
		}
		close(release)
		assert.Status(t, <-running, 200)
	})
}

// On a real connection the read ends by a read deadline. A refusal needs that too,
// because net/http reads the rest of the body before it sends the response.
func TestABodyThatTricklesOverAConnection(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		verifier handoff.Verifier
		status   string
	}{
		"let in":  {nil, "400"},
		"refused": {failingVerifier{handoff.ErrUnauthenticated}, "401"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, func(c *handoff.RouterConfig) {
				c.MaxRun = time.Second
				c.DangerouslyAllowUnauthenticated, c.Verifier = tc.verifier == nil, tc.verifier
			})
			handoff.Handle(b.Router, func(context.Context, note) error { return nil })
			server := httptest.NewServer(b.Router)
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			assert.NoError(t, err)
			defer conn.Close()
			head := typed("1", "x").request()
			var text strings.Builder
			assert.NoError(t, head.Header.Write(&text))
			_, err = fmt.Fprintf(conn, "POST /tasks/note HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n%s\r\n ", text.String())
			assert.NoError(t, err)
			assert.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
			response, err := io.ReadAll(conn)
			if len(response) > 0 {
				assert.Equal(t, string(response)[9:12], tc.status)
			} else if err != nil {
				t.Errorf("nothing came: %v", err)
			}
		})
	}
}
