package emulator_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

const (
	location = "projects/p/locations/us-central1"
	emails   = location + "/queues/emails"
)

// setup is a server, Google's client for it, and a queue called emails. The handler
// responds with the statuses in order, then 200.
type setup struct {
	*testing.T
	srv    *emulator.Server
	client *cloudtasks.Client
	worker *worker
}

// worker is a target that records its requests.
type worker struct {
	mu       sync.Mutex
	statuses []int
	got      []delivery
	before   func(n int, r *http.Request) // called before the n-th response, from 1
}

type delivery struct {
	at     time.Time
	header http.Header
	path   string
}

func (w *worker) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.got = append(w.got, delivery{time.Now(), r.Header.Clone(), r.URL.RequestURI()})
	n := len(w.got)
	status := http.StatusOK
	if len(w.statuses) > 0 {
		status, w.statuses = w.statuses[0], w.statuses[1:]
	}
	before := w.before
	w.mu.Unlock()
	if before != nil {
		before(n, r)
	}
	rw.WriteHeader(status)
}

func (w *worker) deliveries() []delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]delivery(nil), w.got...)
}

// begin starts everything. With no Handler or Transport in cfg the worker is
// the handler.
func begin(t *testing.T, cfg emulator.Config, statuses ...int) *setup {
	t.Helper()
	w := &worker{statuses: statuses}
	if cfg.Handler == nil && cfg.Transport == nil {
		cfg.Handler = w
	}
	srv := emulator.RunT(t, cfg)
	client, err := cloudtasks.NewClient(t.Context(), srv.ClientOptions()...)
	assert.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	s := &setup{T: t, srv: srv, client: client, worker: w}
	s.createQueue(&cloudtaskspb.Queue{Name: emails})
	return s
}

func (s *setup) createQueue(q *cloudtaskspb.Queue) {
	s.Helper()
	_, err := s.client.CreateQueue(s.Context(), &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: q})
	assert.NoError(s, err)
}

func (s *setup) create(edits ...func(*cloudtaskspb.Task)) *cloudtaskspb.Task {
	s.Helper()
	task, err := s.tryCreate(edits...)
	assert.NoError(s, err)
	return task
}

func (s *setup) tryCreate(edits ...func(*cloudtaskspb.Task)) (*cloudtaskspb.Task, error) {
	task := &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
		Url: "https://worker.example/send",
	}}}
	for _, edit := range edits {
		edit(task)
	}
	return s.client.CreateTask(s.Context(), &cloudtaskspb.CreateTaskRequest{Parent: emails, Task: task})
}

func (s *setup) update(q *cloudtaskspb.Queue) {
	s.Helper()
	q = proto.CloneOf(q)
	q.Name = emails
	_, err := s.client.UpdateQueue(s.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: q})
	assert.NoError(s, err)
}

func (s *setup) wait() {
	s.Helper()
	assert.NoError(s, s.srv.Wait(s.Context()))
}
