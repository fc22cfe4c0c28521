package handofftest

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
)

// DefaultQueue is the queue of payloads whose Policy names no queue, in the
// clients of this package.
const DefaultQueue = "default"

// queues is an emulated Cloud Tasks in which a queue is created with its first
// task. All queues are paused, so that only the test dispatches.
type queues struct {
	server *emulator.Server
	api    cloudtaskspb.CloudTasksClient // bypasses the interceptor

	mu    sync.Mutex
	known map[string]bool
}

func newQueues(t testing.TB, config emulator.Config) *queues {
	t.Helper()
	server := emulator.RunT(t, config)
	return &queues{server: server, api: cloudtaskspb.NewCloudTasksClient(server.Conn()), known: make(map[string]bool)}
}

// client returns a client that is connected to the queues and closed when the
// test ends.
func (q *queues) client(t testing.TB, change func(*handoff.ClientConfig)) *handoff.Client {
	t.Helper()
	config := handoff.ClientConfig{
		Project:  "handofftest",
		Location: "test",
		Target:   handoff.HTTPTarget{URL: Audience + "/tasks", ServiceAccount: Account},
		Policy:   handoff.Policy{Queue: DefaultQueue},
		Options:  append(q.server.ClientOptions(), option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(q.intercept))),
		Logger:   logger(t),
	}
	if change != nil {
		change(&config)
	}
	client, err := handoff.NewClient(t.Context(), config)
	if err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// intercept creates the queue of a task before the call that creates the task.
func (q *queues) intercept(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if create, ok := req.(interface{ GetParent() string }); ok {
		if err := q.ensure(ctx, create.GetParent()); err != nil {
			return err
		}
	}
	return invoke(ctx, method, req, reply, conn, opts...)
}

func (q *queues) ensure(ctx context.Context, name string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.known[name] {
		return nil
	}
	location, _, _ := strings.Cut(name, "/queues/")
	ctx = metadata.NewOutgoingContext(ctx, nil) // the metadata of the intercepted call routes to the queue, which does not exist yet
	_, err := q.api.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: &cloudtaskspb.Queue{Name: name}})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return err
	}
	if _, err := q.api.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: name}); err != nil {
		return err
	}
	q.known[name] = true
	return nil
}

// tasks returns copies of all tasks, oldest first. Tasks with the same creation
// time are in the order of their queues. In a bubble many have the same time.
func (q *queues) tasks() []*cloudtaskspb.Task {
	var all []*cloudtaskspb.Task
	for _, queue := range q.server.Queues() {
		all = append(all, q.server.Tasks(queue.Name)...)
	}
	slices.SortStableFunc(all, func(a, b *cloudtaskspb.Task) int {
		return a.CreateTime.AsTime().Compare(b.CreateTime.AsTime())
	})
	return all
}

// purge deletes all tasks.
func (q *queues) purge(ctx context.Context) error {
	for _, queue := range q.server.Queues() {
		if _, err := q.api.PurgeQueue(ctx, &cloudtaskspb.PurgeQueueRequest{Name: queue.Name}); err != nil {
			return fmt.Errorf("handofftest: %w", err)
		}
	}
	return nil
}

// queueOf returns the queue ID in …/queues/ID/tasks/ID.
func queueOf(task string) string { return path.Base(path.Dir(path.Dir(task))) }

// kindAt returns the kind of the task with this URL: its last path segment.
func kindAt(address string) string {
	address, _, _ = strings.Cut(address, "?")
	return path.Base(address)
}

// parts returns the URL, header and body of an HTTP or App Engine task.
func parts(task *cloudtaskspb.Task) (address string, header http.Header, body []byte) {
	given := task.GetHttpRequest().GetHeaders()
	address, body = task.GetHttpRequest().GetUrl(), task.GetHttpRequest().GetBody()
	if r := task.GetAppEngineHttpRequest(); r != nil {
		address, given, body = r.RelativeUri, r.Headers, r.Body
	}
	header = make(http.Header, len(given))
	for name, value := range given {
		header.Set(name, value)
	}
	return address, header, body
}

// byDue compares tasks by the time of their next dispatch.
func byDue(a, b *cloudtaskspb.Task) int {
	return cmp.Or(
		a.ScheduleTime.AsTime().Compare(b.ScheduleTime.AsTime()),
		a.CreateTime.AsTime().Compare(b.CreateTime.AsTime()),
	)
}
