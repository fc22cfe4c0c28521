package conformance_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	betatasks "cloud.google.com/go/cloudtasks/apiv2beta3"
	"google.golang.org/api/option"

	"github.com/brillconsulting/handoff/emulator"
)

const (
	defaultProject = "conformance"
	defaultPlace   = "us-central1"
)

// conform runs the rows against the emulator over both transports, and
// against the real service where a project is named.
func conform(t *testing.T, rules []rule) {
	t.Helper()
	project := os.Getenv("HANDOFF_CONFORMANCE_PROJECT")
	for name, rest := range map[string]bool{"gRPC": false, "REST": true} {
		for _, r := range rules {
			title := "#" + r.section + " " + r.says
			t.Run(name+"/"+title, func(t *testing.T) {
				t.Parallel()
				skipped := false
				synctest.Test(t, func(t *testing.T) {
					defer func() { skipped = t.Skipped() }() // the bubble does not pass it on
					r.test(emulated(t, rest))
				})
				if skipped {
					t.SkipNow()
				}
			})
			if project != "" {
				t.Run("real/"+name+"/"+title, func(t *testing.T) { r.test(genuine(t, project, rest)) })
			}
		}
	}
}

// emulated is a bench with an emulator of its own, no socket in it.
func emulated(t *testing.T, rest bool) *bench {
	t.Helper()
	b := &bench{T: t, ctx: t.Context(), project: defaultProject, parent: "projects/" + defaultProject + "/locations/" + defaultPlace,
		rest: rest, workers: map[string]*worker{}}
	srv := emulator.RunT(t, emulator.Config{Handler: http.HandlerFunc(b.deliver), Hosts: []string{"www.googleapis.com"}})
	b.api = srv.HTTPHandler()
	b.options = srv.ClientOptions()
	if rest {
		b.options = []option.ClientOption{option.WithEndpoint("http://emulator"), option.WithHTTPClient(&http.Client{Transport: inProcess{b.api}})}
	}
	b.connect()
	return b
}

// genuine is a bench on the real service. It has never been exercised.
func genuine(t *testing.T, project string, rest bool) *bench {
	t.Helper()
	place := os.Getenv("HANDOFF_CONFORMANCE_LOCATION")
	if place == "" {
		place = defaultPlace
	}
	b := &bench{T: t, ctx: t.Context(), project: project, parent: "projects/" + project + "/locations/" + place, rest: rest, real: true}
	b.connect()
	return b
}

func (b *bench) connect() {
	b.Helper()
	dial := cloudtasks.NewClient
	if b.rest {
		dial = cloudtasks.NewRESTClient
	}
	client, err := dial(b.ctx, b.options...)
	b.ok(err)
	b.client = client
	b.Cleanup(func() { _ = client.Close() })
}

// beta is a client of v2beta3, of the same service.
func (b *bench) beta() *betatasks.Client {
	b.Helper()
	if b.betaClient != nil {
		return b.betaClient
	}
	dial := betatasks.NewClient
	if b.rest {
		dial = betatasks.NewRESTClient
	}
	client, err := dial(b.ctx, b.options...)
	b.ok(err)
	b.Cleanup(func() { _ = client.Close() })
	b.betaClient = client
	return client
}

// deliver hands a dispatch to the worker it is for.
func (b *bench) deliver(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	worker := b.workers[r.Host]
	if worker == nil {
		worker = b.app
	}
	b.mu.Unlock()
	if worker == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	worker.ServeHTTP(w, r)
}

// inProcess carries REST calls to a handler without a socket. Like a
// connection it carries the caller's end, not its deadline.
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
