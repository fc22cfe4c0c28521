package rows

import (
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// loopback is a network whose workers listen on ports of this machine.
type loopback struct {
	name string // the host that the server under test reaches this machine by
	app  *appServer
}

func (n *loopback) open(b *fixture, w *worker) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	b.ok(err)
	serve(b.Cleanup, listener, w)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	b.ok(err)
	return net.JoinHostPort(n.name, port)
}

func (n *loopback) appEngine(b *fixture, w *worker) {
	if n.app == nil {
		b.Skipf("it needs --app-engine, the address that the server sends App Engine tasks to")
	}
	n.app.add(b, w)
}

// serve serves a handler until cleanup.
func serve(cleanup func(func()), listener net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // until Close
	}()
	cleanup(func() {
		_ = server.Close()
		<-done
	})
}

// appServer is the App Engine app of all rows, which run concurrently. The queue
// tells which row a dispatch belongs to.
type appServer struct {
	mu      sync.Mutex
	workers map[*fixture]*worker
}

func (s *appServer) add(b *fixture, w *worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workers[b] = w
	b.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.workers, b)
	})
}

func (s *appServer) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if w := s.worker(r.Header.Get("X-AppEngine-QueueName")); w != nil {
		w.ServeHTTP(rw, r)
		return
	}
	http.Error(rw, "no row waits for this queue", http.StatusNotFound)
}

func (s *appServer) worker(queue string) *worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b, w := range s.workers {
		if slices.ContainsFunc(b.names(), func(name string) bool { return lastID(name) == queue }) {
			return w
		}
	}
	return nil
}
