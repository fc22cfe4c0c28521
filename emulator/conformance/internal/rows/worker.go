package rows

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// network gives workers their addresses.
type network interface {
	// open gives a worker a host that the server under test can reach, such as
	// "127.0.0.1:40001".
	open(b *fixture, w *worker) (host string)
	// appEngine makes a worker the app of the fixture's project. It skips the row
	// where the server was not told where its App Engine is.
	appEngine(b *fixture, w *worker)
}

// dispatch is one request that reached a worker.
type dispatch struct {
	*http.Request
	body string
	at   time.Time
}

// worker is a target that responds as it is told and records its requests.
type worker struct {
	b    *fixture
	url  string // ends with a slash
	host string

	respond func(nth int, w http.ResponseWriter, r *http.Request)

	mu      sync.Mutex
	got     []dispatch
	arrived chan struct{} // closed at the next dispatch
}

// worker starts a target. Dispatches are numbered from 1; without a function it responds 200.
func (b *fixture) worker(respond func(nth int, w http.ResponseWriter, r *http.Request)) *worker {
	b.Helper()
	b.local("it needs a worker with a public address")
	w := &worker{b: b, respond: respond, arrived: make(chan struct{})}
	w.host = b.network.open(b, w)
	w.url = "http://" + w.host + "/"
	return w
}

// appEngine starts the worker that is the project's App Engine app.
func (b *fixture) appEngine(respond func(nth int, w http.ResponseWriter, r *http.Request)) *worker {
	b.Helper()
	b.local("it needs an App Engine app")
	w := &worker{b: b, respond: respond, arrived: make(chan struct{})}
	b.network.appEngine(b, w)
	return w
}

func (w *worker) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	w.got = append(w.got, dispatch{Request: r, body: string(body), at: time.Now()})
	nth := len(w.got)
	close(w.arrived)
	w.arrived = make(chan struct{})
	w.mu.Unlock()
	if w.respond != nil {
		w.respond(nth, rw, r)
	}
}

func (w *worker) soFar() (got []dispatch, arrived <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.got), w.arrived
}

// take waits for n dispatches and returns the first n.
func (w *worker) take(n int) []dispatch {
	w.b.Helper()
	late := time.NewTimer(w.b.maxWait)
	defer late.Stop()
	for {
		got, arrived := w.soFar()
		if len(got) >= n {
			return got[:n]
		}
		select {
		case <-arrived:
		case <-w.b.ctx.Done():
			w.b.Fatalf("%d dispatches arrived, want %d", len(got), n)
		case <-late.C:
			w.b.Fatalf("%d dispatches arrived in %v, want %d", len(got), w.b.maxWait, n)
		}
	}
}

// one waits for the only dispatch.
func (w *worker) one() dispatch {
	w.b.Helper()
	return w.take(1)[0]
}

// pause is how long a row waits to see that no further dispatch comes.
const pause = 300 * time.Millisecond

// idle waits for pause and returns all dispatches so far.
func (w *worker) idle() []dispatch {
	time.Sleep(pause)
	got, _ := w.soFar()
	return got
}

// only waits for n dispatches and fails the row if more come.
func (w *worker) only(n int) []dispatch {
	w.b.Helper()
	w.take(n)
	got := w.idle()
	if len(got) != n {
		w.b.Fatalf("%d dispatches arrived, want %d", len(got), n)
	}
	return got
}

// statuses responds with one status after the other, and with 200 after the
// last.
func statuses(codes ...int) func(int, http.ResponseWriter, *http.Request) {
	return func(nth int, w http.ResponseWriter, _ *http.Request) {
		if nth <= len(codes) {
			w.WriteHeader(codes[nth-1])
		}
	}
}

// always responds to every dispatch with one status.
func always(status int) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// held responds when the channel is closed or the caller has gone.
func held(until <-chan struct{}) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-until:
		case <-r.Context().Done():
		}
	}
}

const absent = "(absent)"

func header(d dispatch, name string) string {
	if values, ok := d.Header[http.CanonicalHeaderKey(name)]; ok {
		return strings.Join(values, "|")
	}
	return absent
}

// address splits the host of a worker into the host and the port of an override.
func (w *worker) address(b *fixture) (host string, port int64) {
	b.Helper()
	host, number, err := net.SplitHostPort(w.host)
	b.ok(err)
	port, err = strconv.ParseInt(number, 10, 64)
	b.ok(err)
	return host, port
}
