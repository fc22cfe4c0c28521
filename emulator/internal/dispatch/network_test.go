package dispatch

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

const soon = 30 * time.Second

func newNetwork(t *testing.T) *Network {
	t.Helper()
	n := NewNetwork(false)
	t.Cleanup(n.Close)
	return n
}

// send makes a request as a dispatch does and reads all of its answer.
func send(ctx context.Context, via http.RoundTripper, method, url string, size int) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(make([]byte, size)))
	if err != nil {
		return 0, err
	}
	resp, err := via.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	_, err = io.CopyN(io.Discard, resp.Body, drained)
	if err == io.EOF {
		err = nil
	}
	resp.Body.Close()
	return resp.StatusCode, err
}

// raw serves connections with serve until the test ends.
func raw(t *testing.T, serve func(c net.Conn, r *bufio.Reader)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		served.Wait()
	})
	return "http://" + l.Addr().String()
}

// TestNetworkAnswers: what a target says is understood as http.Transport
// understands it, to whose rules targets are written.
func TestNetworkAnswers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 4*connBytes)
	for _, tt := range []struct{ name, method, answer string }{
		{"no body", "POST", "HTTP/1.1 204 No Content\r\n\r\n"},
		{"length 0", "POST", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{"a body", "POST", "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops"},
		{"a body in chunks", "POST", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\noops\r\n0\r\n\r\n"},
		{"a body to the end", "POST", "HTTP/1.0 200 OK\r\n\r\noops"},
		{"no reason", "POST", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"},
		{"GET", "GET", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"},
		{"close", "POST", "HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"},
		{"a redirect", "POST", "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"},
		{"continue, then an answer", "POST", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"},
		{"hints, then an answer", "POST", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"},
		{"another protocol", "POST", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"},
		{"a long header", "POST", "HTTP/1.1 200 OK\r\nX-Long: " + long + "\r\nContent-Length: 0\r\n\r\n"},
		{"nothing", "POST", ""},
		{"nonsense", "POST", "hello\r\n\r\n"},
		{"half a status line", "POST", "HTTP/1.1 2"},
		{"half a header", "POST", "HTTP/1.1 200 OK\r\nContent-Le"},
		{"half a body", "POST", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\noo"},
		{"half a chunk", "POST", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\noo"},
		{"two lengths", "POST", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\noops"},
		{"a bad length", "POST", "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\noops"},
		{"a status of two digits", "POST", "HTTP/1.1 20 OK\r\n\r\n"},
		{"a status under 100", "POST", "HTTP/1.1 042 Answer\r\nContent-Length: 0\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			closed := make(chan struct{}, 1)
			target := raw(t, func(c net.Conn, r *bufio.Reader) {
				if req, err := http.ReadRequest(r); err == nil {
					_, _ = io.Copy(io.Discard, req.Body)
					_, _ = io.WriteString(c, tt.answer)
				}
				c.Close()
				closed <- struct{}{}
			})
			n := newNetwork(t)
			want, wantErr := send(t.Context(), n.transport, tt.method, target, 10)
			<-closed
			for range 2 { // the connection of the first is no good to the second
				got, err := send(t.Context(), n, tt.method, target, 10)
				assert.Status(t, got, want)
				assert.Equal(t, err != nil, wantErr != nil)
				<-closed
			}
		})
	}
}

// TestNetworkRequests: what is sent is what http.Transport sends.
func TestNetworkRequests(t *testing.T) {
	t.Parallel()
	received := make(chan string, 1)
	target := raw(t, func(c net.Conn, r *bufio.Reader) {
		var all bytes.Buffer
		req, err := http.ReadRequest(bufio.NewReader(io.TeeReader(r, &all)))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		received <- all.String()
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	})
	n := newNetwork(t)
	for _, tt := range []struct {
		method, path string
		size         int
	}{
		{"POST", "/a?b=c", 10},
		{"POST", "", 0},
		{"PUT", "/%20/ü?q=%zz", 3 * connBytes},
		{"GET", "/", 0},
		{"DELETE", "//x", 0},
		{"HEAD", "/", 0},
		{"OPTIONS", "/", 0},
	} {
		via := func(rt http.RoundTripper) string {
			_, err := send(t.Context(), rt, tt.method, target+tt.path, tt.size)
			assert.NoError(t, err)
			return <-received
		}
		assert.Equal(t, via(n), via(n.transport))
	}
}

// TestNetworkKeepsConnections: one connection serves one request after the
// other, as long as both sides hold to it.
func TestNetworkKeepsConnections(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    int64
	}{
		{"no body", func(http.ResponseWriter, *http.Request) {}, 1},
		{"a body", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "done") }, 1},
		{"a body in chunks", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "done")
			w.(http.Flusher).Flush()
			fmt.Fprint(w, "and done")
		}, 1},
		{"told to close", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }, 5},
		{"a body longer than is read", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, drained+1)) }, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv, made := counting(t, tt.handler)
			n := newNetwork(t)
			for range 5 {
				status, err := send(t.Context(), n, "POST", srv.URL, 10)
				assert.NoError(t, err)
				assert.Status(t, status, http.StatusOK)
			}
			assert.Equal(t, made.Load(), tt.want)
		})
	}
}

// counting is a server that counts its connections.
func counting(t *testing.T, h http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	made := new(atomic.Int64)
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			made.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv, made
}

// TestNetworkStaleConnection: a target that was restarted, or closed its idle
// connections, costs no attempt; nor does one that says more than its answer.
func TestNetworkStaleConnection(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 2)
	target := raw(t, func(c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		c.Close()
		closed <- struct{}{}
	})
	n := newNetwork(t)
	for range 2 {
		_, err := send(t.Context(), n, "POST", target, 10)
		assert.NoError(t, err)
		<-closed // which the next request has to notice
	}

	said := make(chan struct{})
	chatty := raw(t, func(c net.Conn, r *bufio.Reader) {
		if req, err := http.ReadRequest(r); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 Not Asked\r\nContent-Length: 0\r\n\r\n")
			said <- struct{}{}
			_, _ = io.Copy(io.Discard, r) // until the other side closes
		}
	})
	for range 2 {
		status, err := send(t.Context(), n, "POST", chatty, 10)
		assert.NoError(t, err)
		assert.Status(t, status, http.StatusOK)
		<-said
	}
}

// TestNetworkLetsGo of connections that are not for another request, though
// their other end stays open.
func TestNetworkLetsGo(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone",
		"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
	} {
		var made atomic.Int64
		target := raw(t, func(c net.Conn, r *bufio.Reader) {
			made.Add(1)
			for {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(c, answer)
			}
		})
		n := newNetwork(t)
		for range 3 {
			_, err := send(t.Context(), n, "POST", target, 10)
			assert.NoError(t, err)
		}
		assert.Equal(t, made.Load(), 3)
	}

	n := newNetwork(t)
	n.idle["a"] = make([]*conn, mostIdle)
	assert.Equal(t, n.put(&conn{addr: "a"}), false)
	delete(n.idle, "a")
}

// TestNetworkEarlyAnswer: a target may answer before it has read the request,
// and read no more of it.
func TestNetworkEarlyAnswer(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, mostWritten / 2, mostWritten, 1 << 20, 32 << 20} {
		answered := make(chan struct{})
		target := raw(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := r.Peek(1); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 413 Too Much\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				<-answered
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		status, err := send(ctx, newNetwork(t), "POST", target, size)
		cancel()
		close(answered)
		assert.NoError(t, err)
		assert.Status(t, status, http.StatusRequestEntityTooLarge)
	}
}

// TestNetworkAnswerToHalf: an answer counts though the request could not be
// written to its end, but the connection is of no more use.
func TestNetworkAnswerToHalf(t *testing.T) {
	t.Parallel()
	half := deaf{r: strings.NewReader("HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n")}
	c := &conn{Conn: half}
	c.r, c.w = bufio.NewReader(c), bufio.NewWriter(half)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://worker.example", http.NoBody)
	assert.NoError(t, err)
	resp, err := c.exchange(req)
	assert.NoError(t, err)
	resp.Body.Close()
	assert.Status(t, resp.StatusCode, http.StatusRequestEntityTooLarge)
	assert.Equal(t, resp.Close, true)
}

// deaf is a connection on which nothing can be written any more.
type deaf struct {
	net.Conn
	r io.Reader
}

func (d deaf) Read(p []byte) (int, error) { return d.r.Read(p) }
func (deaf) Write([]byte) (int, error)    { return 0, &net.OpError{Op: "write", Err: syscall.EPIPE} }

// TestNetworkUnwritable: what cannot be a request fails, and waits for nothing.
func TestNetworkUnwritable(t *testing.T) {
	t.Parallel()
	srv, _ := counting(t, func(http.ResponseWriter, *http.Request) {})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, http.NoBody)
	assert.NoError(t, err)
	req.URL.RawQuery = "\x01"
	resp, err := newNetwork(t).RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	assert.ErrorContains(t, err, "control character")
}

// TestNetworkContext: the end of the context ends a request wherever it is, and
// its connection with it.
func TestNetworkContext(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, answer, want string }{
		{"before the answer", "", "context canceled"},
		{"in the header", "HTTP/1.1 200 OK\r\nContent-", "context canceled"},
		{"in the body", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\noo", ""}, // it may come before the header is read
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			gone := make(chan struct{})
			target := raw(t, func(c net.Conn, r *bufio.Reader) {
				if req, err := http.ReadRequest(r); err == nil {
					_, _ = io.Copy(io.Discard, req.Body)
					_, _ = io.WriteString(c, tt.answer)
					cancel()
					_, _ = r.ReadByte() // until the other side closes
					close(gone)
				}
			})
			_, err := send(ctx, newNetwork(t), "POST", target, 10)
			assert.ErrorContains(t, err, tt.want)
			select {
			case <-gone:
			case <-time.After(soon):
				t.Error("the connection is still open")
			}
		})
	}
	t.Run("before it begins", func(t *testing.T) {
		t.Parallel()
		var got atomic.Int64
		srv, _ := counting(t, func(http.ResponseWriter, *http.Request) { got.Add(1) })
		n := newNetwork(t)
		_, err := send(t.Context(), n, "POST", srv.URL, 10) // there is a connection now
		assert.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = send(ctx, n, "POST", srv.URL, 10)
		assert.ErrorIs(t, err, context.Canceled)
		_, err = send(t.Context(), n, "POST", srv.URL, 10)
		assert.NoError(t, err)
		assert.Equal(t, got.Load(), 2)
	})
}

// TestNetworkLongHeader: a header has an end.
func TestNetworkLongHeader(t *testing.T) {
	t.Parallel()
	target := raw(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		for line := "X-More: " + strings.Repeat("x", 1<<10) + "\r\n"; err == nil; {
			_, err = io.WriteString(c, line)
		}
	})
	_, err := send(t.Context(), newNetwork(t), "POST", target, 0)
	assert.ErrorContains(t, err, "too long")
}

// TestNetworkIdleConnections are closed after a while, though not while others
// to the same target are used, and by Close.
func TestNetworkIdleConnections(t *testing.T) {
	t.Parallel()
	var open atomic.Int64
	both := make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/both" { // at once
			select {
			case both <- struct{}{}:
			case <-both:
			}
		}
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	srv.Start()
	defer srv.Close()
	n := NewNetwork(false)
	two := func() {
		var sent sync.WaitGroup
		for range 2 {
			sent.Go(func() {
				_, err := send(t.Context(), n, "POST", srv.URL+"/both", 10)
				assert.NoError(t, err)
			})
		}
		sent.Wait()
		assert.Equal(t, open.Load(), 2)
	}
	two()
	assert.Eventually(t, soon, func() bool { // with one of them always in use
		_, err := send(t.Context(), n, "POST", srv.URL, 10)
		assert.NoError(t, err)
		return open.Load() == 1
	}, "the connection that nobody uses is closed")
	assert.Eventually(t, soon, func() bool { return open.Load() == 0 }, "the other one is closed")
	two()
	n.Close()
	assert.Eventually(t, soon, func() bool { return open.Load() == 0 }, "Close closes both")
}

// TestNetworkOldConnection: one that has been idle for too long is not used,
// though it is still there.
func TestNetworkOldConnection(t *testing.T) {
	t.Parallel()
	srv, made := counting(t, func(http.ResponseWriter, *http.Request) {})
	n := newNetwork(t)
	for range 2 {
		_, err := send(t.Context(), n, "POST", srv.URL, 10)
		assert.NoError(t, err)
		n.mu.Lock()
		for _, idle := range n.idle {
			idle[0].since = time.Now().Add(-idleTime)
		}
		n.mu.Unlock()
	}
	assert.Equal(t, made.Load(), 2)
}

// TestNetworkClosedAnswer: an answer may be closed twice, as others may, and
// has no more to do with its connection.
func TestNetworkClosedAnswer(t *testing.T) {
	t.Parallel()
	srv, made := counting(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "done") })
	n := newNetwork(t)
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, http.NoBody)
		assert.NoError(t, err)
		resp, err := n.RoundTrip(req)
		assert.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		assert.NoError(t, err)
		assert.Equal(t, string(body), "done")
		for range 2 {
			assert.NoError(t, resp.Body.Close())
		}
		_, err = resp.Body.Read(body)
		assert.ErrorIs(t, err, http.ErrBodyReadAfterClose)
	}
	assert.Equal(t, made.Load(), 1)
}

// TestNetworkRefuses what http.Transport refuses, with its words.
func TestNetworkRefuses(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	for want, change := range map[string]func(*http.Request){
		"invalid header field name":      func(r *http.Request) { r.Header["X Foo"] = []string{"1"} },
		"invalid header field value":     func(r *http.Request) { r.Header["X-Foo"] = []string{"1\n2"} },
		"no Host in request URL":         func(r *http.Request) { r.URL.Host = "" },
		"unsupported protocol scheme \"": func(r *http.Request) { r.URL.Scheme = "" },
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://worker.example", http.NoBody)
		assert.NoError(t, err)
		change(req)
		resp, err := n.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		assert.ErrorContains(t, err, want)
	}
}

// TestNetworkDefaultTransport: a program may have put something else in place
// of Go's own.
func TestNetworkDefaultTransport(t *testing.T) {
	own := http.DefaultTransport
	defer func() { http.DefaultTransport = own }()
	srv, _ := counting(t, func(http.ResponseWriter, *http.Request) {})
	for _, other := range []http.RoundTripper{struct{ http.RoundTripper }{own}, new(http.Transport)} {
		http.DefaultTransport = other
		status, err := send(t.Context(), newNetwork(t), "POST", srv.URL, 10)
		assert.NoError(t, err)
		assert.Status(t, status, http.StatusOK)
	}
}

// lateContext has a deadline that is over before it notices.
type lateContext struct{ context.Context }

func (lateContext) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

func TestNoAnswerByTheDeadline(t *testing.T) {
	t.Parallel()
	assert.Equal(t, noAnswer(lateContext{t.Context()}, os.ErrDeadlineExceeded).Timeout, true)
	assert.Equal(t, noAnswer(t.Context(), os.ErrDeadlineExceeded).Timeout, false)
}

// TestNetworkLeaves what it is not good for: TLS, proxies, names that have to
// be encoded.
func TestNetworkLeaves(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	n := NewNetwork(true)
	defer n.Close()
	status, err := send(t.Context(), n, "POST", srv.URL, 10)
	assert.NoError(t, err)
	assert.Status(t, status, http.StatusOK)

	asked := make(chan string, 2)
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.RequestURI }))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	assert.NoError(t, err)
	n.transport.Proxy = http.ProxyURL(at)
	status, err = send(t.Context(), n, "POST", "http://worker.example/a", 10)
	assert.NoError(t, err)
	assert.Status(t, status, http.StatusOK)
	assert.Equal(t, <-asked, "http://worker.example/a")

	n.transport.Proxy = nil
	books := &url.URL{Scheme: "http", Host: "books.example"}
	assert.Equal(t, n.ours(&http.Request{URL: books}), true)
	assert.Equal(t, n.ours(&http.Request{URL: books, Header: http.Header{"Expect": {"100-continue"}}}), false)
	assert.Equal(t, n.ours(&http.Request{URL: books, ContentLength: mostWritten - 10}), true)
	assert.Equal(t, n.ours(&http.Request{URL: books, ContentLength: mostWritten - 10, Header: http.Header{"X-Long": {"12345"}}}), false)
	assert.Equal(t, n.ours(&http.Request{URL: &url.URL{Scheme: "http", Host: "bücher.example"}}), false)
}
