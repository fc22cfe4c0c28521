package handofftest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff"
)

// DefaultQueue takes the tasks of payloads that name no queue, in the clients
// of this package.
const DefaultQueue = "default"

// Recorder keeps what its Client enqueues and sends nothing anywhere: behind
// the real client stands a server in memory that says yes. A name that was used
// is refused, as the service would, so that [handoff.Receipt].Duplicate is
// real. It is safe for concurrent use.
type Recorder struct {
	Client *handoff.Client

	mu    sync.Mutex
	tasks []*cloudtaskspb.Task
	names map[string]bool
}

// NewRecorder returns a recorder that ends with the test. change may alter the
// configuration of its client, its Policy for example.
func NewRecorder(t testing.TB, change ...func(*handoff.ClientConfig)) *Recorder {
	t.Helper()
	r := &Recorder{names: make(map[string]bool)}
	listener := bufconn.Listen(64 << 10)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(2 << 20))
	cloudtaskspb.RegisterCloudTasksServer(server, recording{r: r})
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	client, err := handoff.NewClient(context.Background(), clientConfig([]option.ClientOption{
		option.WithEndpoint("passthrough:///recorder"),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		option.WithGRPCDialOption(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		})),
	}, change))
	if err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	t.Cleanup(func() { _ = client.Close() })
	r.Client = client
	return r
}

func clientConfig(opts []option.ClientOption, change []func(*handoff.ClientConfig)) handoff.ClientConfig {
	config := handoff.ClientConfig{
		Project:  "handofftest",
		Location: "test",
		Target:   handoff.HTTPTarget{URL: Audience + "/tasks", ServiceAccount: Account},
		Policy:   handoff.Policy{Queue: DefaultQueue},
		Options:  opts,
		Logger:   slog.New(slog.DiscardHandler),
	}
	for _, fn := range change {
		fn(&config)
	}
	return config
}

// recording is the server's side of a Recorder.
type recording struct {
	cloudtaskspb.UnimplementedCloudTasksServer
	r *Recorder
}

func (s recording) CreateTask(_ context.Context, req *cloudtaskspb.CreateTaskRequest) (*cloudtaskspb.Task, error) {
	task := proto.CloneOf(req.GetTask())
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if task.Name == "" {
		task.Name = req.GetParent() + "/tasks/" + rand.Text()
	}
	if s.r.names[task.Name] {
		return nil, status.Error(codes.AlreadyExists, "Requested entity already exists")
	}
	if task.ScheduleTime == nil {
		task.ScheduleTime = timestamppb.Now()
	}
	s.r.names[task.Name] = true
	s.r.tasks = append(s.r.tasks, task)
	return task, nil
}

// Reset forgets everything that was recorded, names included.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tasks, r.names = nil, make(map[string]bool)
}

// Tasks returns copies of the recorded tasks as the service would have stored
// them, in the order of their creation: for what [RequireEnqueued] does not
// show, such as the tasks of EnqueueRequest.
func (r *Recorder) Tasks() []*cloudtaskspb.Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	tasks := make([]*cloudtaskspb.Task, len(r.tasks))
	for i, task := range r.tasks {
		tasks[i] = proto.CloneOf(task)
	}
	return tasks
}

// Enqueued is one recorded task that carries a T.
type Enqueued[T handoff.Payload] struct {
	Payload     T
	Queue       string // queue ID
	Name        string // full resource name
	ScheduledAt time.Time
	Header      http.Header
}

// RequireEnqueued returns the first recorded task that carries a T and fits
// every match. If there is none it fails the test and shows what there is.
func RequireEnqueued[T handoff.Payload](t testing.TB, r *Recorder, match ...func(T) bool) Enqueued[T] {
	t.Helper()
	found := enqueued(t, r, match)
	if len(found) == 0 {
		t.Fatalf("handofftest: no %s was enqueued%s; %s", kindOf[T](), fitting(match), r.shown())
		return Enqueued[T]{} // a testing.TB that records its failures goes on
	}
	return found[0]
}

// RequireExactly returns all recorded tasks that carry a T and fit every
// match, in order, and fails the test unless there are n.
func RequireExactly[T handoff.Payload](t testing.TB, r *Recorder, n int, match ...func(T) bool) []Enqueued[T] {
	t.Helper()
	found := enqueued(t, r, match)
	if len(found) != n {
		t.Fatalf("handofftest: %d tasks of %s were enqueued%s, want %d; %s", len(found), kindOf[T](), fitting(match), n, r.shown())
	}
	return found
}

// RequireNone fails the test if a task that carries a T and fits every match
// was recorded.
func RequireNone[T handoff.Payload](t testing.TB, r *Recorder, match ...func(T) bool) {
	t.Helper()
	if n := len(enqueued(t, r, match)); n > 0 {
		t.Fatalf("handofftest: %d tasks of %s were enqueued%s, want none; %s", n, kindOf[T](), fitting(match), r.shown())
	}
}

func fitting[T any](match []func(T) bool) string {
	if len(match) == 0 {
		return ""
	}
	return " that fits"
}

func kindOf[T handoff.Payload]() string {
	var payload T
	return payload.Kind()
}

func enqueued[T handoff.Payload](t testing.TB, r *Recorder, match []func(T) bool) []Enqueued[T] {
	t.Helper()
	var found []Enqueued[T]
	for _, task := range r.Tasks() {
		address, body := parts(task)
		if path.Base(address) != kindOf[T]() {
			continue
		}
		e := Enqueued[T]{Queue: queueOf(task.Name), Name: task.Name, ScheduledAt: task.ScheduleTime.AsTime(), Header: headers(task)}
		if err := json.Unmarshal(body, &e.Payload); err != nil {
			t.Fatalf("handofftest: the recorded payload is not a %T: %v", e.Payload, err)
		}
		if !slices.ContainsFunc(match, func(fits func(T) bool) bool { return !fits(e.Payload) }) {
			found = append(found, e)
		}
	}
	return found
}

// shown lists what was recorded, one task a line.
func (r *Recorder) shown() string {
	tasks := r.Tasks()
	if len(tasks) == 0 {
		return "nothing was enqueued"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "what was enqueued (%d):", len(tasks))
	for _, task := range tasks {
		address, body := parts(task)
		fmt.Fprintf(&b, "\n  %s on queue %s, due %s: %s", path.Base(address), queueOf(task.Name), task.ScheduleTime.AsTime().Format(time.RFC3339), body)
	}
	return b.String()
}

// queueOf takes the queue ID out of …/queues/ID/tasks/ID.
func queueOf(task string) string { return path.Base(path.Dir(path.Dir(task))) }

// parts returns where a task goes and its body, inflated.
func parts(task *cloudtaskspb.Task) (address string, body []byte) {
	if r := task.GetHttpRequest(); r != nil {
		address, body = r.Url, r.Body
	} else {
		r := task.GetAppEngineHttpRequest()
		address, body = r.GetRelativeUri(), r.GetBody()
	}
	if headers(task).Get("Content-Encoding") != "gzip" {
		return address, body
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return address, body
	}
	inflated, _ := io.ReadAll(z) // what was written in this process, so bounded
	return address, inflated
}

func headers(task *cloudtaskspb.Task) http.Header {
	given := task.GetHttpRequest().GetHeaders()
	if r := task.GetAppEngineHttpRequest(); r != nil {
		given = r.Headers
	}
	h := make(http.Header, len(given))
	for name, value := range given {
		h.Set(name, value)
	}
	return h
}
