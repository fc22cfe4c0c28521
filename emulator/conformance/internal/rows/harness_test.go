package rows

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	betatasks "cloud.google.com/go/cloudtasks/apiv2beta3"
	"google.golang.org/api/option"

	"github.com/brillconsulting/handoff/emulator"
)

// rule is a row that only go test runs: it takes hours of virtual time, or tests a
// choice of the emulator where the service is unknown.
type rule struct {
	section string
	says    string
	test    func(*fixture)
}

func conform(t *testing.T, rules []rule) {
	t.Helper()
	for name, rest := range map[string]bool{"gRPC": false, "REST": true} {
		for _, r := range rules {
			t.Run(name+"/#"+r.section+" "+r.says, func(t *testing.T) {
				t.Parallel()
				inBubble(t, rest, emulator.Config{}, r.test)
			})
		}
	}
}

// inBubble runs a row against an emulator of its own, with virtual time and no
// socket.
func inBubble(t *testing.T, rest bool, cfg emulator.Config, test func(*fixture)) {
	t.Helper()
	skipped := false
	synctest.Test(t, func(t *testing.T) {
		defer func() { skipped = t.Skipped() }() // synctest does not pass it on
		test(emulated(t, rest, cfg))
	})
	if skipped {
		t.SkipNow()
	}
}

// emulated is a fixture with an emulator of its own and without sockets.
func emulated(t *testing.T, rest bool, cfg emulator.Config) *fixture {
	t.Helper()
	n := &memory{workers: map[string]*worker{}}
	cfg.Handler = http.HandlerFunc(n.deliver)
	cfg.Hosts = []string{"www.googleapis.com"}
	srv := emulator.RunT(t, cfg)
	b := &fixture{tester: t, ctx: t.Context(), maxWait: 10 * time.Second, project: "conformance", parent: "projects/conformance/locations/us-central1", network: n}
	b.rest, b.base, b.conn = rest, "http://emulator", srv.Conn()
	b.http = &http.Client{Transport: inProcess{srv.HTTPHandler()}}
	options := srv.ClientOptions()
	dial, dialBeta := cloudtasks.NewClient, betatasks.NewClient
	if rest {
		options = []option.ClientOption{option.WithEndpoint(b.base), option.WithHTTPClient(b.http)}
		dial, dialBeta = cloudtasks.NewRESTClient, betatasks.NewRESTClient
	}
	var err error
	b.v2, err = dial(b.ctx, options...)
	b.ok(err)
	b.beta, err = dialBeta(b.ctx, options...)
	b.ok(err)
	t.Cleanup(func() {
		_ = b.v2.Close()
		_ = b.beta.Close()
	})
	return b
}

// memory is a network without sockets. The emulator calls deliver for each dispatch.
type memory struct {
	mu      sync.Mutex
	workers map[string]*worker // by host
	app     *worker
}

func (n *memory) open(_ *fixture, w *worker) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	host := fmt.Sprintf("127.0.0.1:%d", 20_001+len(n.workers))
	n.workers[host] = w
	return host
}

func (n *memory) appEngine(_ *fixture, w *worker) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.app = w
}

// deliver hands a dispatch to the worker it is for.
func (n *memory) deliver(rw http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	w := n.workers[r.Host]
	if w == nil {
		w = n.app
	}
	n.mu.Unlock()
	if w == nil {
		rw.WriteHeader(http.StatusNotFound)
		return
	}
	w.ServeHTTP(rw, r)
}

// inProcess carries REST calls to a handler without a socket. As over a connection,
// the handler learns that the caller has gone, and not its deadline.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	defer context.AfterFunc(r.Context(), cancel)()
	in := r.Clone(ctx)
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	p.handler.ServeHTTP(rec, in)
	return rec.Result(), nil
}

// after lets d of virtual time pass, waits until all goroutines are blocked, and
// returns the dispatches so far.
func (w *worker) after(d time.Duration) []dispatch {
	w.b.Helper()
	time.Sleep(d)
	synctest.Wait()
	got, _ := w.soFar()
	return got
}

// TestRows: every row passes over both transports in virtual time, except those in
// differs.
func TestRows(t *testing.T) {
	for name, rest := range map[string]bool{"gRPC": false, "REST": true} {
		for _, r := range All() {
			t.Run(name+"/#"+r.Section+" "+r.Name, func(t *testing.T) {
				t.Parallel()
				d, known := differs[r.Name]
				if known && !d.strict {
					t.Skip(d.why)
				}
				inBubble(t, rest, emulator.Config{Strict: d.strict}, r.test)
			})
		}
	}
}

// differs are the rows that the emulator fails, and why. Those marked strict pass
// with Config.Strict.
var differs = map[string]struct {
	strict bool
	why    string
}{
	"a gRPC call without x-goog-request-params is refused": {true, "plain gRPC tools do not send it"},
	"an OIDC token for http://localhost/":                  {true, "workers on this machine have no certificate"},
	"an OIDC token for http://127.0.0.1/":                  {true, "workers on this machine have no certificate"},
	"an OAuth token for http://localhost/":                 {true, "workers on this machine have no certificate"},
	"an OAuth token for http://127.0.0.1/":                 {true, "workers on this machine have no certificate"},
	"tombstone_ttl is an hour by default":                  {false, "names stay reserved for 24 h, as long as the service may keep them"},
}
