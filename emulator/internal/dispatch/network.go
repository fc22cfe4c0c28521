package dispatch

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/net/http/httpguts"
)

// Network is the http.RoundTripper for targets reached over sockets. For http
// URLs it writes the request and reads the answer in the goroutine that asks
// for it: http.Transport has two more for each connection, and waking them is a
// third of what a dispatch costs. What this does not do, it leaves to an
// http.Transport; see ours.
type Network struct {
	transport *http.Transport // with a DialContext

	mu    sync.Mutex
	idle  map[string][]*conn // by address, the one used last at the end
	sweep *time.Timer        // closes what has been idle too long; nil while nothing is
}

const (
	idleTime  = 4 * time.Second // after which a connection is not used again
	sweepTime = time.Second     // between looks at those that are not
	mostIdle  = 512             // to one address: what a target has in flight at ordinary times
	connBytes = 2 << 10         // of each buffer: a request is little more than its header, an answer than its status

	// mostWritten fits in the buffers of a socket: to write it is not to wait
	// for a target that is waiting for its answer to be read.
	mostWritten = 64 << 10
	// mostHead bounds the header of an answer, to a buffer, as http.Transport does.
	mostHead = 10 << 20
)

// NewNetwork returns a Network. An insecure one accepts any certificate. Call
// Close when done.
func NewNetwork(insecure bool) *Network {
	t := transport()
	t.MaxIdleConns = 0 // no limit
	t.MaxIdleConnsPerHost = mostIdle
	t.IdleConnTimeout = idleTime
	t.DisableCompression = true // Accept-Encoding is ours to write, and bodies are not read
	t.ReadBufferSize = connBytes
	if insecure {
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // what was asked for
	}
	return &Network{transport: t, idle: make(map[string][]*conn)}
}

// transport is Go's own as the program has it, unless that is something else.
func transport() *http.Transport {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if own, ok := http.DefaultTransport.(*http.Transport); ok {
		t = own.Clone()
	}
	if t.DialContext == nil {
		t.DialContext = new(net.Dialer).DialContext
	}
	return t
}

// Close closes every idle connection. No request may be under way.
func (n *Network) Close() {
	n.transport.CloseIdleConnections()
	n.mu.Lock()
	if n.sweep != nil {
		n.sweep.Stop()
		n.sweep = nil
	}
	old := n.takeOld(time.Now())
	n.mu.Unlock()
	closeAll(old)
}

// RoundTrip implements http.RoundTripper. Its errors do not name the URL.
func (n *Network) RoundTrip(req *http.Request) (*http.Response, error) {
	if !n.ours(req) {
		return n.transport.RoundTrip(req)
	}
	ctx := req.Context()
	c, err := n.connect(ctx, address(req))
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	c.release = context.AfterFunc(ctx, c.interrupt)
	resp, err := c.exchange(req)
	if err != nil {
		n.done(c, false)
		return nil, err
	}
	if resp.Body == http.NoBody {
		n.done(c, !resp.Close)
	} else {
		resp.Body = &answer{ReadCloser: resp.Body, network: n, conn: c, keep: !resp.Close}
	}
	return resp, nil
}

// ours says whether a request is not left to the http.Transport. That does TLS
// and proxies, encodes names of hosts, reads while it writes, holds a body back
// until it is asked for, and tells what is wrong with a request.
func (n *Network) ours(req *http.Request) bool {
	if !seesClosed || req.URL.Scheme != "http" || req.URL.Host == "" || !isASCII(req.URL.Host) || req.Header.Get("Expect") != "" {
		return false
	}
	size := req.ContentLength
	for name, values := range req.Header {
		for _, value := range values {
			if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
				return false
			}
			size += int64(len(name) + len(value))
		}
	}
	if size > mostWritten {
		return false
	}
	if n.transport.Proxy == nil {
		return true
	}
	proxy, err := n.transport.Proxy(req)
	return proxy == nil && err == nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}

func address(req *http.Request) string {
	if req.URL.Port() == "" {
		return net.JoinHostPort(req.URL.Hostname(), "80")
	}
	return req.URL.Host
}

// connect returns a connection that is still open, the one used last first.
func (n *Network) connect(ctx context.Context, addr string) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for c := n.take(addr); c != nil; c = n.take(addr) {
		if time.Since(c.since) < idleTime && isOpen(c.Conn) {
			return c, nil
		}
		_ = c.Close()
	}
	raw, err := n.transport.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, addr: addr}
	c.r, c.w = bufio.NewReaderSize(c, connBytes), bufio.NewWriterSize(raw, connBytes)
	return c, nil
}

func (n *Network) take(addr string) *conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	idle := n.idle[addr]
	if len(idle) == 0 {
		return nil
	}
	last := len(idle) - 1
	c := idle[last]
	idle[last] = nil
	n.idle[addr] = idle[:last]
	return c
}

// done ends the use of c. It is kept for the next request if it may be and
// nothing has interrupted it.
func (n *Network) done(c *conn, keep bool) {
	if !c.release() || !keep || c.r.Buffered() > 0 || !n.put(c) {
		_ = c.Close()
	}
}

func (n *Network) put(c *conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.idle[c.addr]) >= mostIdle {
		return false
	}
	c.since = time.Now()
	n.idle[c.addr] = append(n.idle[c.addr], c)
	if n.sweep == nil {
		n.sweep = time.AfterFunc(sweepTime, n.closeOld)
	}
	return true
}

// closeOld closes the connections that have been idle for too long, and comes
// back for the others.
func (n *Network) closeOld() {
	n.mu.Lock()
	old := n.takeOld(time.Now().Add(-idleTime))
	if len(n.idle) == 0 {
		n.sweep = nil
	} else if n.sweep != nil { // not closed meanwhile
		n.sweep.Reset(sweepTime)
	}
	n.mu.Unlock()
	closeAll(old)
}

// takeOld takes the connections that have been idle since before t.
func (n *Network) takeOld(t time.Time) (old []*conn) {
	for addr, idle := range n.idle {
		first := slices.IndexFunc(idle, func(c *conn) bool { return c.since.After(t) })
		if first < 0 {
			delete(n.idle, addr)
			old = append(old, idle...)
			continue
		}
		old = append(old, idle[:first]...)
		n.idle[addr] = slices.Delete(idle, 0, first)
	}
	return old
}

// closeAll is not called with the lock, for which every dispatch waits.
func closeAll(conns []*conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

// conn is a connection to a target. It is used by one request at a time.
type conn struct {
	net.Conn
	addr    string
	r       *bufio.Reader
	w       *bufio.Writer
	left    int64       // bytes that may be read
	release func() bool // says false if interrupt was called
	since   time.Time   // idle
}

// Read fails when the header of an answer is longer than it may be.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("the answer's header is too long")
	}
	n, err := c.Conn.Read(p)
	c.left -= int64(n)
	return n, err
}

// interrupt ends what c is waiting for.
func (c *conn) interrupt() { _ = c.SetDeadline(time.Unix(1, 0)) }

// exchange writes a request and reads the header of its answer. A target that
// closes the connection before it has read the request may have answered all
// the same.
func (c *conn) exchange(req *http.Request) (*http.Response, error) {
	sent := c.send(req)
	if _, closed := errors.AsType[*net.OpError](sent); sent != nil && !closed {
		return nil, sent // it is no request, and there will be no answer
	}
	resp, err := c.receive(req)
	if err != nil {
		return nil, cmp.Or(req.Context().Err(), sent, err)
	}
	resp.Close = resp.Close || sent != nil
	return resp, nil
}

func (c *conn) send(req *http.Request) error {
	if err := req.Write(c.w); err != nil {
		return err
	}
	return c.w.Flush()
}

// receive skips what comes before the answer proper.
func (c *conn) receive(req *http.Request) (*http.Response, error) {
	c.left = mostHead
	for {
		resp, err := http.ReadResponse(c.r, req)
		if err != nil {
			return nil, err
		}
		switch code := resp.StatusCode; {
		case code >= 200:
			c.left = math.MaxInt64 // its body is bounded by who reads it
			return resp, nil
		case code < 100, code == http.StatusSwitchingProtocols:
			resp.Close = true // what follows is not HTTP
			return resp, nil
		}
	}
}

// answer is the body of an answer. It is to be read to its end, if its
// connection is to be kept, and closed.
type answer struct {
	io.ReadCloser
	network *Network
	conn    *conn // nil: closed
	keep    bool
	ended   bool
}

func (a *answer) Read(p []byte) (int, error) {
	if a.conn == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := a.ReadCloser.Read(p)
	a.ended = a.ended || errors.Is(err, io.EOF)
	return n, err
}

// Close leaves what has not been read unread, unlike the body it wraps.
func (a *answer) Close() error {
	if a.conn != nil {
		a.network.done(a.conn, a.keep && a.ended)
		a.conn = nil
	}
	return nil
}
