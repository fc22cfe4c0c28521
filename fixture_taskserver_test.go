package handoff_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/api/option"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

// taskServer is a Cloud Tasks server that stores tasks and dispatches none. Tests
// can make it fail. The real client calls it over real gRPC.
type taskServer struct {
	cloudtaskspb.UnimplementedCloudTasksServer
	longrunningpb.UnimplementedOperationsServer

	// script handles each create; n counts from 1. It may call take, which stores
	// the task. The caller gets what it returns.
	script func(ctx context.Context, n int, req *cloudtaskspb.CreateTaskRequest, take func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error)

	// batch handles each batch call; take stores all its tasks. If batch is nil,
	// the server has no batch call.
	batch func(ctx context.Context, n int, req *cloudtaskspb.BatchCreateTasksRequest, take func() *longrunningpb.Operation) (*longrunningpb.Operation, error)

	// upstream, if set, is the server that stores the tasks; this one is then a
	// proxy.
	upstream cloudtaskspb.CloudTasksClient

	// operation implements GetOperation.
	operation func(ctx context.Context, n int, name string) (*longrunningpb.Operation, error)

	dial    func(context.Context) (net.Conn, error)
	options []option.ClientOption // for further clients, once there is one

	mu      sync.Mutex
	tasks   []*cloudtaskspb.Task
	names   map[string]bool
	ops     map[string]*longrunningpb.Operation // by request ID
	creates int
	batches int
	polls   int
}

// serve starts the server and returns the options for its clients.
func (s *taskServer) serve(t testing.TB) []option.ClientOption {
	t.Helper()
	s.names, s.ops = make(map[string]bool), make(map[string]*longrunningpb.Operation)
	listener := bufconn.Listen(1 << 20)
	s.dial = listener.DialContext
	server := grpc.NewServer()
	cloudtaskspb.RegisterCloudTasksServer(server, s)
	longrunningpb.RegisterOperationsServer(server, s)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	s.options = []option.ClientOption{
		option.WithEndpoint("passthrough:///server"),
		option.WithoutAuthentication(),
		option.WithTelemetryDisabled(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		option.WithGRPCDialOption(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		})),
	}
	return s.options
}

// client returns a client of the server. change may modify its configuration.
func (s *taskServer) client(t testing.TB, change func(*handoff.ClientConfig)) *handoff.Client {
	t.Helper()
	config := handoff.ClientConfig{
		Project:  "p",
		Location: "l",
		Target:   handoff.HTTPTarget{URL: "https://worker.example.com/tasks", ServiceAccount: "caller@p.iam.gserviceaccount.com"},
		Policy:   handoff.Policy{Queue: "q"},
		Options:  s.serve(t),
	}
	if change != nil {
		change(&config)
	}
	client, err := handoff.NewClient(t.Context(), config)
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	return client
}

func (s *taskServer) CreateTask(ctx context.Context, req *cloudtaskspb.CreateTaskRequest) (*cloudtaskspb.Task, error) {
	s.mu.Lock()
	s.creates++
	n := s.creates
	s.mu.Unlock()
	take := func() (*cloudtaskspb.Task, error) { return s.take(req) }
	if s.upstream != nil {
		take = func() (*cloudtaskspb.Task, error) { return s.upstream.CreateTask(context.WithoutCancel(ctx), req) }
	}
	if s.script == nil {
		return take()
	}
	return s.script(ctx, n, req, take)
}

// take stores a task as the service does and returns its BASIC view.
func (s *taskServer) take(req *cloudtaskspb.CreateTaskRequest) (*cloudtaskspb.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	task := proto.CloneOf(req.Task)
	if task.Name == "" {
		task.Name = fmt.Sprintf("%s/tasks/%020d", req.Parent, len(s.tasks)+1)
	}
	if s.names[task.Name] {
		return nil, status.Error(codes.AlreadyExists, "Requested entity already exists")
	}
	s.names[task.Name] = true
	s.tasks = append(s.tasks, task)
	basic := proto.CloneOf(task)
	if r := basic.GetHttpRequest(); r != nil {
		r.Body = nil
	}
	return basic, nil
}

func (s *taskServer) BatchCreateTasks(ctx context.Context, req *cloudtaskspb.BatchCreateTasksRequest) (*longrunningpb.Operation, error) {
	s.mu.Lock()
	s.batches++
	n := s.batches
	s.mu.Unlock()
	if s.batch == nil {
		return nil, status.Error(codes.Unimplemented, "unknown method BatchCreateTasks")
	}
	return s.batch(ctx, n, req, func() *longrunningpb.Operation { return s.takeAll(req) })
}

// takeAll stores a batch once for each request ID. It returns the tasks in reverse,
// because their order is not documented.
func (s *taskServer) takeAll(req *cloudtaskspb.BatchCreateTasksRequest) *longrunningpb.Operation {
	s.mu.Lock()
	op, repeated := s.ops[req.RequestId]
	s.mu.Unlock()
	if repeated {
		return op
	}
	resp := &cloudtaskspb.BatchCreateTasksResponse{}
	failed := make(map[int32]error)
	for i, r := range req.Requests {
		task, err := s.take(r)
		if err != nil {
			failed[int32(i)] = err
			continue
		}
		resp.Tasks = append([]*cloudtaskspb.Task{task}, resp.Tasks...)
	}
	op = operation(req.RequestId, resp, failed)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops[req.RequestId] = op
	return op
}

// operation returns an operation that is done.
func operation(id string, resp *cloudtaskspb.BatchCreateTasksResponse, failed map[int32]error) *longrunningpb.Operation {
	meta := &cloudtaskspb.BatchCreateTasksMetadata{
		State:          cloudtaskspb.BatchCreateTasksMetadata_SUCCEEDED,
		FailedRequests: make(map[int32]*spb.Status),
	}
	for i, err := range failed {
		meta.State = cloudtaskspb.BatchCreateTasksMetadata_PARTIALLY_SUCCEEDED
		meta.FailedRequests[i] = status.Convert(err).Proto()
	}
	return &longrunningpb.Operation{
		Name:     "projects/p/locations/l/operations/" + id,
		Done:     true,
		Metadata: mustAny(meta),
		Result:   &longrunningpb.Operation_Response{Response: mustAny(resp)},
	}
}

func mustAny(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return a
}

func (s *taskServer) GetOperation(ctx context.Context, req *longrunningpb.GetOperationRequest) (*longrunningpb.Operation, error) {
	s.mu.Lock()
	s.polls++
	n := s.polls
	s.mu.Unlock()
	return s.operation(ctx, n, req.Name)
}

// taken returns the tasks that the server holds.
func (s *taskServer) taken() []*cloudtaskspb.Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*cloudtaskspb.Task(nil), s.tasks...)
}

// only returns the only task of the server. It fails the test if there is not
// exactly one.
func (s *taskServer) only(t testing.TB) *cloudtaskspb.Task {
	t.Helper()
	tasks := s.taken()
	if len(tasks) != 1 {
		t.Fatalf("the server holds %d tasks, want 1", len(tasks))
	}
	return tasks[0]
}

// counts returns the numbers of creates, batch calls and polls.
func (s *taskServer) counts() (creates, batches, polls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.creates, s.batches, s.polls
}

// allSet fails the test for every field that is not set, in the message and in
// those that it contains. In a oneof, one field is enough.
func allSet(t testing.TB, m protoreflect.Message) {
	t.Helper()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch name := string(field.FullName().Name()); {
		case field.ContainingOneof() != nil:
			if m.WhichOneof(field.ContainingOneof()) == nil {
				t.Errorf("no %s is set", field.ContainingOneof().FullName())
			}
		case outputOnly[name] || m.Has(field):
		default:
			t.Errorf("%s is not set", field.FullName())
		}
		if field.Kind() == protoreflect.MessageKind && !field.IsMap() && !field.IsList() && m.Has(field) && field.Message().ParentFile().Package() == "google.cloud.tasks.v2" {
			allSet(t, m.Get(field).Message())
		}
	}
}

// outputOnly lists the fields that only the service sets, such as the routing host,
// which it derives from other fields.
var outputOnly = map[string]bool{
	"create_time": true, "dispatch_count": true, "response_count": true, "first_attempt": true, "last_attempt": true, "view": true, "host": true,
	"max_doublings": true, // 0 is a value
}
