package handoff_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/create"
	"github.com/brillconsulting/handoff/memstore"
)

// runs counts how often each payload ran.
type runs struct {
	mu sync.Mutex
	n  map[string]int
}

func (r *runs) ran(payload string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n[payload]++
	return nil
}

// newEmulated starts an emulator with the queues q, orders and jobs, which
// dispatches to a fenced router.
func newEmulated(t *testing.T) (*emulator.Server, *runs) {
	t.Helper()
	seen := &runs{n: make(map[string]int)}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true,
		Store:                           memstore.New(),
		DeadLetters:                     memstore.NewDeadLetters(),
	})
	assert.NoError(t, err)
	handoff.Handle(router, func(_ context.Context, p job) error { return seen.ran(fmt.Sprint("job ", p.N)) })
	handoff.Handle(router, func(_ context.Context, p order) error { return seen.ran("order " + p.ID) })
	handoff.Handle(router, func(_ context.Context, p blob) error { return seen.ran("blob " + p.Text) })
	srv := emulator.RunT(t, emulator.Config{Handler: router})
	t.Cleanup(func() { assert.NoError(t, router.Shutdown(context.Background())) })
	createQueues(t, srv, "q", "orders", "jobs")
	return srv, seen
}

func createQueues(t *testing.T, srv *emulator.Server, ids ...string) {
	t.Helper()
	queues := cloudtaskspb.NewCloudTasksClient(srv.Conn())
	for _, id := range ids {
		_, err := queues.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{
			Parent: "projects/p/locations/l",
			Queue:  &cloudtaskspb.Queue{Name: "projects/p/locations/l/queues/" + id},
		})
		assert.NoError(t, err)
	}
}

func newEmulatedClient(t *testing.T, opts []option.ClientOption) *handoff.Client {
	t.Helper()
	client, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project:  "p",
		Location: "l",
		Target:   handoff.HTTPTarget{URL: "https://worker.example.com/tasks", ServiceAccount: "caller@p.iam.gserviceaccount.com"},
		Policy:   handoff.Policy{Queue: "q"},
		Options:  opts,
	})
	assert.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	return client
}

// The service loses responses after it has stored the task, responds too late, and
// fails every third call. Each payload still runs exactly once, and no task is
// created under two identities.
func TestLostResponsesRunOnce(t *testing.T) {
	t.Parallel()
	const n = 300
	type enqueue = func(t *testing.T, ctx context.Context, client *handoff.Client)
	one := func(payload func(i int) handoff.Payload) enqueue {
		return func(t *testing.T, ctx context.Context, client *handoff.Client) {
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					if _, err := client.Enqueue(ctx, payload(i)); err != nil {
						t.Errorf("%d: %v", i, err)
					}
				})
			}
			wg.Wait()
		}
	}
	batch := func(t *testing.T, ctx context.Context, client *handoff.Client) {
		for _, err := range handoff.EnqueueBatch(ctx, client, jobs(n)) {
			if err != nil {
				t.Error(err)
			}
		}
	}
	for name, tc := range map[string]struct {
		enqueue enqueue
		batch   bool // the server has the batch call
	}{
		"Enqueue":                   {one(func(i int) handoff.Payload { return job{i} }), false},
		"Enqueue, keyed":            {one(func(i int) handoff.Payload { return order{fmt.Sprint(i + 1)} }), false},
		"EnqueueBatch":              {batch, true},
		"EnqueueBatch, one by one ": {batch, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv, seen := newEmulated(t)
				upstream := cloudtaskspb.NewCloudTasksClient(srv.Conn())
				bad := &taskServer{upstream: upstream, script: unreliable}
				if tc.batch {
					bad.batch = func(ctx context.Context, n int, req *cloudtaskspb.BatchCreateTasksRequest, _ func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
						ctx2 := context.WithoutCancel(ctx)
						if n%3 == 0 {
							return nil, status.Error(codes.Unavailable, "every third")
						}
						op, err := upstream.BatchCreateTasks(ctx2, req)
						switch n % 4 {
						case 0:
							return nil, status.Error(codes.Unavailable, "created, and the response lost")
						case 1:
							<-ctx.Done() // too late
						}
						return op, err
					}
					bad.operation = func(ctx context.Context, _ int, name string) (*longrunningpb.Operation, error) {
						return longrunningpb.NewOperationsClient(srv.Conn()).GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: name})
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				tc.enqueue(t, ctx, newEmulatedClient(t, bad.serve(t)))
				assert.NoError(t, srv.Wait(ctx))
				if creates, batches, _ := bad.counts(); creates+batches*100 < n*13/10 {
					t.Errorf("%d creates and %d batch calls for %d payloads: no response was lost, so the test shows nothing", creates, batches, n)
				}
				assert.Equal(t, len(seen.n), n)
				for payload, times := range seen.n {
					if times != 1 {
						t.Errorf("%s ran %d times", payload, times)
					}
				}
			})
		})
	}
}

// The client and the emulator compute the same size of a task, to the byte: the
// largest task that the client sends is accepted, and one byte more would be
// refused.
func TestLimitAgreesWithTheEmulator(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]handoff.Request{
		"HTTP":       {URL: "https://receiver.example.com/hook"},
		"App Engine": {AppEngine: &handoff.AppEngineTarget{Service: "worker"}, URL: "/hook"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := emulator.RunT(t)
			createQueues(t, srv, "q")
			client := newEmulatedClient(t, srv.ClientOptions())
			at := handoff.At(time.Now().Add(time.Hour))
			fits, over := 1_048_000, 1_049_000
			for over-fits > 1 {
				middle := (fits + over) / 2
				request.Body = make([]byte, middle)
				if _, err := client.EnqueueRequest(t.Context(), request, at); err == nil {
					fits = middle
				} else if over = middle; status.Code(err) == codes.InvalidArgument {
					t.Fatalf("the emulator refused a task that the client sent: %v", err)
				}
			}
			for _, task := range srv.Tasks("projects/p/locations/l/queues/q") {
				_, body := create.Parts(task)
				if len(body) != fits {
					continue
				}
				task = proto.CloneOf(task)
				task.Name = strings.Replace(task.Name, "/tasks/", "/tasks/0", 1)[:len(task.Name)]
				if r := task.GetHttpRequest(); r != nil {
					r.Body = append(r.Body, 0)
				} else {
					r := task.GetAppEngineHttpRequest()
					r.Body = append(r.Body, 0)
				}
				_, err := cloudtaskspb.NewCloudTasksClient(srv.Conn()).CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: "projects/p/locations/l/queues/q", Task: task})
				assert.Equal(t, status.Code(err), codes.InvalidArgument)
				return
			}
			t.Fatal("the largest task is not there")
		})
	}
}

// Enqueue to queues in every state.
func TestEnqueueQueueStates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, seen := newEmulated(t)
		client := newEmulatedClient(t, srv.ClientOptions())
		queues, err := cloudtasks.NewClient(t.Context(), srv.ClientOptions()...)
		assert.NoError(t, err)
		defer queues.Close()
		ctx := t.Context()

		_, err = client.Enqueue(ctx, job{1}, handoff.OnQueue("nowhere"))
		assert.Equal(t, status.Code(err), codes.NotFound)
		assert.ErrorContains(t, err, `queue "nowhere"`, "does not exist")

		assert.NoError(t, queues.DeleteQueue(ctx, &cloudtaskspb.DeleteQueueRequest{Name: "projects/p/locations/l/queues/jobs"}))
		_, err = client.Enqueue(ctx, job{2}, handoff.OnQueue("jobs"))
		assert.Equal(t, status.Code(err), codes.NotFound)
		for _, err := range handoff.EnqueueBatch(ctx, client, jobs(2), handoff.OnQueue("jobs")) {
			assert.Equal(t, status.Code(err), codes.NotFound)
		}

		// A paused queue accepts tasks, and dispatches them when it is resumed.
		_, err = queues.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: "projects/p/locations/l/queues/q"})
		assert.NoError(t, err)
		_, err = client.Enqueue(ctx, job{3})
		assert.NoError(t, err)
		synctest.Wait()
		assert.Equal(t, len(seen.n), 0)
		_, err = queues.ResumeQueue(ctx, &cloudtaskspb.ResumeQueueRequest{Name: "projects/p/locations/l/queues/q"})
		assert.NoError(t, err)
		assert.NoError(t, srv.Wait(ctx))
		assert.Equal(t, seen.n, map[string]int{"job 3": 1})
	})
}

// A deadline of more than 30 s must not reach the service, which would refuse the
// call.
func TestEnqueueLongDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, seen := newEmulated(t)
		client := newEmulatedClient(t, srv.ClientOptions())
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := client.Enqueue(ctx, job{1})
		assert.NoError(t, err)
		for _, err := range handoff.EnqueueBatch(ctx, client, jobs(1), handoff.OnQueue("jobs")) {
			assert.NoError(t, err)
		}
		assert.NoError(t, srv.Wait(ctx))
		assert.Equal(t, seen.n, map[string]int{"job 1": 1, "job 0": 1})
	})
}

// A large payload is sent compressed, and the handler gets the original.
func TestEnqueueCompressedIsInflated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, seen := newEmulated(t)
		client := newEmulatedClient(t, srv.ClientOptions())
		text := strings.Repeat("all work and no play ", 10_000)
		_, err := client.Enqueue(t.Context(), blob{text}, handoff.In(time.Hour))
		assert.NoError(t, err)
		body := srv.Tasks("projects/p/locations/l/queues/q")[0].GetHttpRequest().GetBody()
		if len(body) > len(text)/10 {
			t.Errorf("%d bytes of text travel as %d", len(text), len(body))
		}
		assert.NoError(t, srv.Wait(t.Context()))
		assert.Equal(t, seen.n, map[string]int{"blob " + text: 1})
	})
}

// A connection that the caller has made has none of our interceptors, and works the
// same.
func TestEnqueueOverAGivenConnection(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t)
	createQueues(t, srv, "q")
	client := newEmulatedClient(t, []option.ClientOption{option.WithGRPCConn(srv.Conn())})
	receipt, err := client.Enqueue(t.Context(), job{0}, handoff.In(time.Hour))
	assert.NoError(t, err)
	names := map[string]bool{receipt.Name: true}
	for receipt, err := range handoff.EnqueueBatch(t.Context(), client, jobs(5), handoff.In(time.Hour)) {
		assert.NoError(t, err)
		names[receipt.Name] = true
	}
	tasks := srv.Tasks("projects/p/locations/l/queues/q")
	assert.Equal(t, len(tasks), 6)
	for _, task := range tasks {
		if !names[task.Name] {
			t.Errorf("no receipt names %s", task.Name)
		}
	}
}

// Missing or wrong credentials, with a server that checks them.
func TestEnqueueWrongCredentials(t *testing.T) {
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", t.TempDir()+"/none.json")
	config := handoff.ClientConfig{Project: "p", Location: "l", Target: handoff.AppEngineTarget{}}
	_, err := handoff.NewClient(t.Context(), config)
	assert.ErrorContains(t, err, "handoff: new client", "none.json")

	server := &taskServer{script: func(context.Context, int, *cloudtaskspb.CreateTaskRequest, func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
		return nil, status.Error(codes.Unauthenticated, "Request had invalid authentication credentials.")
	}}
	_, err = server.client(t, nil).Enqueue(t.Context(), job{})
	assert.Equal(t, status.Code(err), codes.Unauthenticated)
	if errors.Is(err, handoff.ErrUnknown) {
		t.Error(err)
	}
}
