package handoff_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

// watcher is an interceptor that records every request.
type watcher struct {
	mu    sync.Mutex
	tasks []*cloudtaskspb.Task
}

func (w *watcher) intercept(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	w.mu.Lock()
	switch req := req.(type) {
	case *cloudtaskspb.CreateTaskRequest:
		w.tasks = append(w.tasks, proto.CloneOf(req.Task))
	case *cloudtaskspb.BatchCreateTasksRequest:
		for _, r := range req.Requests {
			w.tasks = append(w.tasks, proto.CloneOf(r.Task))
		}
	}
	w.mu.Unlock()
	return invoke(ctx, method, req, reply, conn, opts...)
}

// An interceptor in ClientConfig.Options sees every field of a task.
func TestInterceptorSeesTheTask(t *testing.T) {
	t.Parallel()
	server, seen := &taskServer{batch: accept}, new(watcher)
	client := server.client(t, func(c *handoff.ClientConfig) {
		c.Options = append(c.Options, option.WithGRPCDialOption(grpc.WithUnaryInterceptor(seen.intercept)))
	})
	ctx := t.Context()
	opts := []handoff.Option{handoff.In(time.Hour), handoff.Header("X-Tenant", "acme")}
	_, err := client.Enqueue(ctx, order{ID: "1"}, opts...)
	assert.NoError(t, err)
	for _, err := range handoff.EnqueueBatch(ctx, client, func(yield func(order) bool) { yield(order{ID: "2"}) }, opts...) {
		assert.NoError(t, err)
	}
	_, err = client.EnqueueRequest(ctx, handoff.Request{
		AppEngine: &handoff.AppEngineTarget{Service: "worker", Version: "2", Instance: "3"}, URL: "/hook", Method: "PUT", Body: []byte("raw"),
		Retry: handoff.Retry{MaxAttempts: 2},
	}, append(opts, handoff.Deadline(time.Minute))...)
	assert.NoError(t, err)

	received := server.taken()
	assert.Equal(t, len(seen.tasks), 3)
	for i, task := range seen.tasks {
		if !proto.Equal(task, received[i]) {
			t.Errorf("the interceptor saw\n%v\nthe server\n%v", task, received[i])
		}
		allSet(t, task.ProtoReflect())
		if len(task.ProtoReflect().GetUnknown()) > 0 {
			t.Error("the task has unknown fields")
		}
	}
	assert.Equal(t, string(seen.tasks[0].GetHttpRequest().GetBody()), `{"id":"1"}`)
	assert.Equal(t, seen.tasks[1].GetHttpRequest().GetUrl(), "https://worker.example.com/tasks/order")
	assert.Equal(t, string(seen.tasks[2].GetAppEngineHttpRequest().GetBody()), "raw")
}

// Interceptors may modify a request: no two requests share a message.
func TestInterceptorMayChangeTheTask(t *testing.T) {
	t.Parallel()
	server := new(taskServer)
	client := server.client(t, func(c *handoff.ClientConfig) {
		c.Options = append(c.Options, option.WithGRPCDialOption(grpc.WithUnaryInterceptor(
			func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				task := req.(*cloudtaskspb.CreateTaskRequest).Task
				task.RetryConfig.MinBackoff.Seconds++
				task.GetHttpRequest().GetOidcToken().Audience += "+"
				task.GetHttpRequest().Headers["X-Added"] += "+"
				return invoke(ctx, method, req, reply, conn, opts...)
			})))
	})
	for range 2 {
		_, err := client.Enqueue(t.Context(), job{})
		assert.NoError(t, err)
	}
	for _, task := range server.taken() {
		assert.Equal(t, task.RetryConfig.MinBackoff.Seconds, 2)
		assert.Equal(t, task.GetHttpRequest().GetOidcToken().Audience, "https://worker.example.com+")
		assert.Equal(t, task.GetHttpRequest().Headers["X-Added"], "+")
	}
}

// If the server cannot be reached, the error says that no task was created. If a
// response is lost, it says that the task may exist.
func TestEnqueueConnectionRefused(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NoError(t, err)
	address := listener.Addr().String()
	assert.NoError(t, listener.Close())
	client, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project: "p", Location: "l", Target: handoff.AppEngineTarget{}, Policy: handoff.Policy{Queue: "q"},
		Options: []option.ClientOption{
			option.WithEndpoint(address), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		},
	})
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	check := func(err error) {
		t.Helper()
		assert.ErrorIs(t, err, handoff.ErrNotSent)
		if strings.Contains(err.Error(), "may or may not") {
			t.Error(err)
		}
	}
	_, err = client.Enqueue(ctx, job{})
	check(err)
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for _, err := range handoff.EnqueueBatch(ctx, client, jobs(2)) {
		check(err)
	}
}

// If one response is lost before connections are refused, the task may exist.
func TestEnqueueLostThenRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var conn net.Conn
		server := new(taskServer)
		server.script = func(_ context.Context, _ int, _ *cloudtaskspb.CreateTaskRequest, take func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
			mu.Lock()
			defer mu.Unlock()
			_ = conn.Close()
			return take()
		}
		options := server.serve(t)
		dial := server.dial
		client, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
			Project: "p", Location: "l", Target: handoff.AppEngineTarget{}, Policy: handoff.Policy{Queue: "q"},
			Options: append(options, option.WithGRPCDialOption(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				if conn != nil {
					return nil, errors.New("refused")
				}
				var err error
				conn, err = dial(ctx)
				return conn, err
			}))),
		})
		assert.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, client.Close()) })
		_, err = client.Enqueue(t.Context(), job{})
		assert.ErrorIs(t, err, handoff.ErrUnknown)
		assert.Equal(t, errors.Is(err, handoff.ErrNotSent), false)
		assert.Equal(t, len(server.taken()), 1)
	})
}

// Few payloads are in memory at a time, however many there are. A million need the
// same heap as these.
func TestBatchMemory(t *testing.T) {
	const payloads = 100_000
	server := &taskServer{batch: func(_ context.Context, _ int, req *cloudtaskspb.BatchCreateTasksRequest, _ func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
		return operation(req.RequestId, new(cloudtaskspb.BatchCreateTasksResponse), nil), nil
	}}
	client := server.client(t, nil)
	n, highest := 0, uint64(0)
	for _, err := range handoff.EnqueueBatch(t.Context(), client, jobs(payloads)) {
		assert.NoError(t, err)
		if n++; n%10_000 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			highest = max(highest, m.HeapAlloc)
		}
	}
	assert.Equal(t, n, payloads)
	t.Logf("heap of client and server: %d MB at most", highest>>20)
	if highest > 64<<20 {
		t.Errorf("the heap grew to %d MB", highest>>20)
	}
}
