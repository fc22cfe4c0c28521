package emulator

import (
	"net"
	"strings"
	"sync"
	"time"
)

// preface is what every HTTP/2 client sends first (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// prefaceTime is how long a connection may stay silent at first.
const prefaceTime = time.Minute

// splitter serves gRPC and HTTP/1 on the same ports: the first bytes of a
// connection decide which of the two servers gets it.
type splitter struct {
	grpc, http *handedListener

	mu        sync.Mutex
	closed    bool
	listeners []net.Listener
	undecided map[net.Conn]struct{}
	all       sync.WaitGroup
}

func newSplitter() *splitter {
	return &splitter{grpc: newHandedListener(), http: newHandedListener(), undecided: make(map[net.Conn]struct{})}
}

// serve accepts the connections of l until the splitter is closed.
func (s *splitter) serve(l net.Listener) {
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	s.all.Go(func() {
		for pause := time.Millisecond; ; {
			conn, err := l.Accept()
			switch {
			case err == nil:
				pause = time.Millisecond
				s.take(conn)
			case s.isClosed():
				return
			default: // out of descriptors, for one: connections that end free some
				time.Sleep(pause)
				pause = min(2*pause, time.Second)
			}
		}
	})
}

func (s *splitter) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// take hands a connection to its server when the first bytes have come.
func (s *splitter) take(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return
	}
	s.undecided[conn] = struct{}{}
	s.all.Go(func() {
		first, err := readFirst(conn)
		s.mu.Lock()
		delete(s.undecided, conn)
		s.mu.Unlock()
		switch {
		case err != nil:
			_ = conn.Close()
		case string(first) == preface:
			s.grpc.hand(&begunConn{conn, first})
		default:
			s.http.hand(&begunConn{conn, first})
		}
	})
}

// readFirst reads until it is clear whether the preface of HTTP/2 comes.
func readFirst(conn net.Conn) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(prefaceTime)); err != nil {
		return nil, err
	}
	first := make([]byte, 0, len(preface))
	for len(first) < len(preface) && strings.HasPrefix(preface, string(first)) {
		n, err := conn.Read(first[len(first):cap(first)])
		if err != nil {
			return nil, err
		}
		first = first[:len(first)+n]
	}
	return first, conn.SetReadDeadline(time.Time{})
}

// stopAccepting closes the ports. Connections that are open stay.
func (s *splitter) stopAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, l := range s.listeners {
		_ = l.Close()
	}
	for conn := range s.undecided {
		_ = conn.Close()
	}
}

// close returns when no goroutine of the splitter runs any more.
func (s *splitter) close() {
	s.stopAccepting()
	_ = s.grpc.Close()
	_ = s.http.Close()
	s.all.Wait()
}

// begunConn is a connection of which the first bytes have been read.
type begunConn struct {
	net.Conn
	first []byte
}

func (c *begunConn) Read(p []byte) (int, error) {
	if len(c.first) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.first)
	c.first = c.first[n:]
	return n, nil
}

// handedListener accepts the connections that are handed to it.
type handedListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandedListener() *handedListener {
	return &handedListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *handedListener) hand(conn net.Conn) {
	select {
	case l.conns <- conn:
	case <-l.closed:
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (l *handedListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *handedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener. Connections come from several ports.
func (l *handedListener) Addr() net.Addr { return handedAddr{} }

type handedAddr struct{}

func (handedAddr) Network() string { return "tcp" }
func (handedAddr) String() string  { return "emulator" }
