package conformance_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betatasks "cloud.google.com/go/cloudtasks/apiv2beta3"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"

	"github.com/brillconsulting/handoff/internal/assert"
)

// rule is one row: something that docs/cloud-tasks.md says, and how to see it.
type rule struct {
	section string
	says    string
	test    func(*bench)
}

// bench is what a row works with: a client of the service under test and a
// place for queues of its own.
type bench struct {
	*testing.T
	ctx     context.Context
	options []option.ClientOption
	client  *cloudtasks.Client
	project string
	parent  string // projects/*/locations/*
	real    bool
	rest    bool
	api     http.Handler // the emulator's HTTP port

	betaClient *betatasks.Client // see beta

	mu      sync.Mutex
	workers map[string]*worker // by host
	app     *worker            // the App Engine app
}

// fails is a row's test that expects an error. An empty message is not
// checked: its text is unknown. {name} in a message stands for
// the given queue's name.
func fails(code codes.Code, message string, call func(*bench) error) func(*bench) {
	return func(b *bench) {
		b.Helper()
		b.fails(call(b), code, message)
	}
}

func (b *bench) fails(err error, code codes.Code, message string) outcome {
	b.Helper()
	got := outcomeOf(err)
	if got.code != code {
		b.Fatalf("got %v %q, want %v", got.code, got.message, code)
	}
	if message != "" && got.message != message {
		b.Fatalf("got message\n  %s\nwant\n  %s", got.message, message)
	}
	return got
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("unexpected error: %+v", outcomeOf(err))
	}
}

// grpcOnly skips a row that REST cannot express.
func (b *bench) grpcOnly(reason string) {
	if b.rest {
		b.Skip("not over REST: " + reason)
	}
}

// local skips a row that the real service cannot run from here.
func (b *bench) local(reason string) {
	if b.real {
		b.Skip("not against the real service: " + reason)
	}
}

// freshName is the name of a queue that does not exist.
func (b *bench) freshName() string {
	return b.parent + "/queues/q-" + strings.ToLower(rand.Text())
}

// queue creates a queue and returns its name.
func (b *bench) queue(edits ...func(*cloudtaskspb.Queue)) string {
	b.Helper()
	q := &cloudtaskspb.Queue{Name: b.freshName()}
	for _, edit := range edits {
		edit(q)
	}
	b.ok(b.createQueue(q))
	return q.GetName()
}

func (b *bench) createQueue(q *cloudtaskspb.Queue) error {
	_, err := b.client.CreateQueue(b.ctx, &cloudtaskspb.CreateQueueRequest{Parent: b.parent, Queue: q})
	return err
}

func (b *bench) getQueue(name string) *cloudtaskspb.Queue {
	b.Helper()
	q, err := b.client.GetQueue(b.ctx, &cloudtaskspb.GetQueueRequest{Name: name})
	b.ok(err)
	return q
}

func (b *bench) deleteQueue(name string) {
	b.Helper()
	b.ok(b.client.DeleteQueue(b.ctx, &cloudtaskspb.DeleteQueueRequest{Name: name}))
}

// paused is an edit for rows that look at waiting tasks.
func (b *bench) pausedQueue(edits ...func(*cloudtaskspb.Queue)) string {
	b.Helper()
	name := b.queue(edits...)
	_, err := b.client.PauseQueue(b.ctx, &cloudtaskspb.PauseQueueRequest{Name: name})
	b.ok(err)
	return name
}

func (b *bench) createTask(queue string, task *cloudtaskspb.Task) error {
	_, err := b.client.CreateTask(b.ctx, &cloudtaskspb.CreateTaskRequest{Parent: queue, Task: task})
	return err
}

func (b *bench) task(queue string, task *cloudtaskspb.Task) *cloudtaskspb.Task {
	b.Helper()
	created, err := b.client.CreateTask(b.ctx, &cloudtaskspb.CreateTaskRequest{Parent: queue, Task: task})
	b.ok(err)
	return created
}

func (b *bench) getTask(name string) *cloudtaskspb.Task {
	b.Helper()
	task, err := b.client.GetTask(b.ctx, &cloudtaskspb.GetTaskRequest{Name: name})
	b.ok(err)
	return task
}

// gone fails the row unless the task no longer exists.
func (b *bench) gone(name string) {
	b.Helper()
	_, err := b.client.GetTask(b.ctx, &cloudtaskspb.GetTaskRequest{Name: name})
	b.fails(err, codes.NotFound, "")
}

func (b *bench) tasks(queue string) []*cloudtaskspb.Task {
	b.Helper()
	var all []*cloudtaskspb.Task
	it := b.client.ListTasks(b.ctx, &cloudtaskspb.ListTasksRequest{Parent: queue})
	for {
		task, err := it.Next()
		if errors.Is(err, iterator.Done) {
			return all
		}
		b.ok(err)
		all = append(all, task)
	}
}

// httpTask is a task for url.
func httpTask(url string, edits ...func(*cloudtaskspb.Task)) *cloudtaskspb.Task {
	t := &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: url}}}
	for _, edit := range edits {
		edit(t)
	}
	return t
}

// appEngineTask is a task for the project's App Engine app.
func appEngineTask(edit func(*cloudtaskspb.AppEngineHttpRequest)) *cloudtaskspb.Task {
	r := &cloudtaskspb.AppEngineHttpRequest{}
	if edit != nil {
		edit(r)
	}
	return &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{AppEngineHttpRequest: r}}
}

// dispatch is one request that reached a worker.
type dispatch struct {
	*http.Request
	body string
	at   time.Time
}

// worker is a target that answers what it is told and remembers what came.
type worker struct {
	b      *bench
	url    string
	host   string
	mu     sync.Mutex
	got    []dispatch
	answer func(attempt int, w http.ResponseWriter, r *http.Request)
}

// worker starts a target. Attempts are numbered from 1; a nil answer is 200.
func (b *bench) worker(answer func(attempt int, w http.ResponseWriter, r *http.Request)) *worker {
	b.Helper()
	b.local("it needs a worker with a public address")
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &worker{b: b, host: fmt.Sprintf("worker-%d.test", len(b.workers)+1), answer: answer}
	w.url = "https://" + w.host + "/"
	b.workers[w.host] = w
	return w
}

// appEngine is the worker of the project's App Engine app.
func (b *bench) appEngine(answer func(attempt int, w http.ResponseWriter, r *http.Request)) *worker {
	b.Helper()
	w := b.worker(answer)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.app = w
	return w
}

// statuses answers one status after the other, and 200 after the last.
func statuses(codes ...int) func(int, http.ResponseWriter, *http.Request) {
	return func(attempt int, w http.ResponseWriter, _ *http.Request) {
		if attempt <= len(codes) {
			w.WriteHeader(codes[attempt-1])
		}
	}
}

// always answers every attempt with the one status.
func always(status int) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

func (w *worker) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.b.Errorf("reading a dispatch: %v", err)
	}
	w.mu.Lock()
	w.got = append(w.got, dispatch{Request: r, body: string(body), at: time.Now()})
	attempt := len(w.got)
	w.mu.Unlock()
	if w.answer != nil {
		w.answer(attempt, rw, r)
	}
}

// after lets d of virtual time pass, waits until nothing moves any more and
// returns what has arrived.
func (w *worker) after(d time.Duration) []dispatch {
	w.b.Helper()
	time.Sleep(d)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]dispatch(nil), w.got...)
}

// one waits a minute and returns the one dispatch that arrived.
func (w *worker) one() dispatch {
	w.b.Helper()
	got := w.after(time.Minute)
	if len(got) != 1 {
		w.b.Fatalf("%d dispatches arrived, want 1", len(got))
	}
	return got[0]
}

// waits are the times between dispatches.
func waits(got []dispatch) []time.Duration {
	var all []time.Duration
	for i := 1; i < len(got); i++ {
		all = append(all, got[i].at.Sub(got[i-1].at))
	}
	return all
}

// http sends a request that no client library can.
func (b *bench) http(method, path, body string) (status int, answer map[string]any) {
	b.Helper()
	b.local("it is plain HTTP, without credentials")
	rec := httptest.NewRecorder()
	b.api.ServeHTTP(rec, httptest.NewRequestWithContext(b.ctx, method, "http://localhost"+path, strings.NewReader(body)))
	b.ok(json.Unmarshal(rec.Body.Bytes(), &answer))
	return rec.Code, answer
}

// keys is a transport that serves the emulator's keys, whatever it is asked for.
func (b *bench) keys() http.RoundTripper { return inProcess{b.api} }

func (b *bench) equal(got, want any) {
	b.Helper()
	assert.Equal(b, got, want)
}
