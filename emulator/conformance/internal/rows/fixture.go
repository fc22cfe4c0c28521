package rows

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betatasks "cloud.google.com/go/cloudtasks/apiv2beta3"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// tester is the part of testing.T that rows need.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(f func())
}

// clients are the clients of the server under test, over one transport.
type clients struct {
	rest bool
	v2   *cloudtasks.Client
	beta *betatasks.Client
	conn *grpc.ClientConn // of gRPC; nil over REST
	http *http.Client     // of REST; nil over gRPC
	base string           // URL of the REST API, without a slash at the end
}

// fixture is what a row works with: clients of the server under test, and a
// project and location for its queues.
type fixture struct {
	tester
	clients

	ctx     context.Context
	maxWait time.Duration // how long to wait for dispatches that must come
	project string
	parent  string // projects/*/locations/*
	real    bool   // the service itself, whose project may have other queues
	network network

	mu     sync.Mutex
	queues []string // names given out by freshName
}

// fails is a row's test that expects an error. An empty message is not
// checked.
func fails(code codes.Code, message string, call func(*fixture) error) func(*fixture) {
	return func(b *fixture) {
		b.Helper()
		b.fails(call(b), code, message)
	}
}

func (b *fixture) fails(err error, code codes.Code, message string) outcome {
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

func (b *fixture) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("unexpected error: %+v", outcomeOf(err))
	}
}

func (b *fixture) equal(got, want any) {
	b.Helper()
	if !reflect.DeepEqual(got, want) {
		b.Fatalf("got %#v, want %#v", got, want)
	}
}

func (b *fixture) protoEqual(got, want proto.Message) {
	b.Helper()
	if !proto.Equal(got, want) {
		b.Fatalf("got:  %v\nwant: %v", got, want)
	}
}

// eventually waits until a condition holds.
func (b *fixture) eventually(what string, holds func() bool) {
	b.Helper()
	for waited := time.Duration(0); !holds(); waited += 20 * time.Millisecond {
		if waited >= b.maxWait || b.ctx.Err() != nil {
			b.Fatalf("waited %v: %s", b.maxWait, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// grpcOnly skips a row that REST cannot express.
func (b *fixture) grpcOnly(reason string) {
	if b.rest {
		b.Skipf("not over REST: %s", reason)
	}
}

// local skips a row that cannot be run against the service.
func (b *fixture) local(reason string) {
	if b.real {
		b.Skipf("not against the service: %s", reason)
	}
}

// freshName is the name of a queue that does not exist.
func (b *fixture) freshName() string {
	name := b.parent + "/queues/q-" + strings.ToLower(rand.Text())
	b.made(name)
	return name
}

// made remembers the name of a queue that is to be deleted when the row is over.
func (b *fixture) made(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queues = append(b.queues, name)
}

// names are those of the queues that the row may have made.
func (b *fixture) names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.queues)
}

// queue creates a queue and returns its name.
func (b *fixture) queue(edits ...func(*cloudtaskspb.Queue)) string {
	b.Helper()
	q := &cloudtaskspb.Queue{Name: b.freshName()}
	for _, edit := range edits {
		edit(q)
	}
	b.ok(b.createQueue(q))
	return q.GetName()
}

func (b *fixture) createQueue(q *cloudtaskspb.Queue) error {
	_, err := b.v2.CreateQueue(b.ctx, &cloudtaskspb.CreateQueueRequest{Parent: b.parent, Queue: q})
	return err
}

func (b *fixture) getQueue(name string) *cloudtaskspb.Queue {
	b.Helper()
	q, err := b.v2.GetQueue(b.ctx, &cloudtaskspb.GetQueueRequest{Name: name})
	b.ok(err)
	return q
}

func (b *fixture) deleteQueue(name string) {
	b.Helper()
	b.ok(b.v2.DeleteQueue(b.ctx, &cloudtaskspb.DeleteQueueRequest{Name: name}))
}

// pausedQueue is a queue for rows that look at waiting tasks.
func (b *fixture) pausedQueue(edits ...func(*cloudtaskspb.Queue)) string {
	b.Helper()
	name := b.queue(edits...)
	_, err := b.v2.PauseQueue(b.ctx, &cloudtaskspb.PauseQueueRequest{Name: name})
	b.ok(err)
	return name
}

func (b *fixture) resume(queue string) {
	b.Helper()
	_, err := b.v2.ResumeQueue(b.ctx, &cloudtaskspb.ResumeQueueRequest{Name: queue})
	b.ok(err)
}

func (b *fixture) createTask(queue string, task *cloudtaskspb.Task) error {
	_, err := b.v2.CreateTask(b.ctx, &cloudtaskspb.CreateTaskRequest{Parent: queue, Task: task})
	return err
}

func (b *fixture) task(queue string, task *cloudtaskspb.Task) *cloudtaskspb.Task {
	b.Helper()
	created, err := b.v2.CreateTask(b.ctx, &cloudtaskspb.CreateTaskRequest{Parent: queue, Task: task})
	b.ok(err)
	return created
}

func (b *fixture) getTask(name string) *cloudtaskspb.Task {
	b.Helper()
	task, err := b.v2.GetTask(b.ctx, &cloudtaskspb.GetTaskRequest{Name: name})
	b.ok(err)
	return task
}

func (b *fixture) fullTask(name string) *cloudtaskspb.Task {
	b.Helper()
	task, err := b.v2.GetTask(b.ctx, &cloudtaskspb.GetTaskRequest{Name: name, ResponseView: cloudtaskspb.Task_FULL})
	b.ok(err)
	return task
}

func (b *fixture) deleteTask(name string) {
	b.Helper()
	b.ok(b.v2.DeleteTask(b.ctx, &cloudtaskspb.DeleteTaskRequest{Name: name}))
}

func (b *fixture) run(name string) *cloudtaskspb.Task {
	b.Helper()
	task, err := b.v2.RunTask(b.ctx, &cloudtaskspb.RunTaskRequest{Name: name})
	b.ok(err)
	return task
}

// gone waits until a task no longer exists.
func (b *fixture) gone(name string) {
	b.Helper()
	b.eventually("the task still exists", func() bool {
		_, err := b.v2.GetTask(b.ctx, &cloudtaskspb.GetTaskRequest{Name: name})
		if err != nil {
			b.fails(err, codes.NotFound, "")
		}
		return err != nil
	})
}

func (b *fixture) tasks(queue string) []*cloudtaskspb.Task {
	b.Helper()
	var all []*cloudtaskspb.Task
	it := b.v2.ListTasks(b.ctx, &cloudtaskspb.ListTasksRequest{Parent: queue})
	for {
		task, err := it.Next()
		if errors.Is(err, iterator.Done) {
			return all
		}
		b.ok(err)
		all = append(all, task)
	}
}

// plain skips a row about plain HTTP if the transport is gRPC.
func (b *fixture) plain() {
	b.local("it is plain HTTP, without credentials")
	if !b.rest {
		b.Skipf("only over REST: it is plain HTTP")
	}
}

// send sends a request that no client library can send.
func (b *fixture) send(method, path, body string, header ...string) (status int, text string) {
	b.Helper()
	b.plain()
	r, err := http.NewRequestWithContext(b.ctx, method, b.base+path, strings.NewReader(body))
	b.ok(err)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := b.http.Do(r)
	b.ok(err)
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	b.ok(err)
	return resp.StatusCode, string(read)
}

// status fails the row unless a request has the given status, and returns the
// body of the response.
func (b *fixture) status(want int, method, path, body string, header ...string) string {
	b.Helper()
	got, text := b.send(method, path, body, header...)
	if got != want {
		b.Fatalf("%s %s: got %d %s, want %d", method, path, got, brief(text), want)
	}
	return text
}

// brief shortens a text for a finding.
func brief(text string) string {
	if len(text) > 200 {
		return fmt.Sprintf("%s … (%d bytes)", text[:200], len(text))
	}
	return strings.TrimSpace(text)
}
