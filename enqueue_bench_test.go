package handoff_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/benchtest"
	"github.com/brillconsulting/handoff/internal/rpc"
)

// Each benchmark alternates between the bare client and ours, because the speed of
// the machine varies over time:
//
//	go test -run '^$' -bench OverBare -benchtime 20000x -count 5 .

// forgetful returns a server that stores no tasks.
func forgetful() *taskServer {
	return &taskServer{
		script: func(_ context.Context, _ int, req *cloudtaskspb.CreateTaskRequest, _ func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
			return named(req), nil
		},
		batch: func(_ context.Context, _ int, req *cloudtaskspb.BatchCreateTasksRequest, _ func() *longrunningpb.Operation) (*longrunningpb.Operation, error) {
			resp := &cloudtaskspb.BatchCreateTasksResponse{Tasks: make([]*cloudtaskspb.Task, len(req.Requests))}
			for i, r := range req.Requests {
				resp.Tasks[i] = named(r)
			}
			return operation(req.RequestId, resp, nil), nil
		},
	}
}

// named returns the BASIC view of a task, under a name that the service generates.
func named(req *cloudtaskspb.CreateTaskRequest) *cloudtaskspb.Task {
	task := req.Task
	task.Name = req.Parent + "/tasks/01234567890123456789"
	task.GetHttpRequest().Body = nil
	return task
}

// byHand builds the task that Enqueue creates for an invoice, without checks.
func byHand(b *testing.B, in benchtest.Invoice, like *cloudtaskspb.Task) *cloudtaskspb.CreateTaskRequest {
	body, err := json.Marshal(in)
	if err != nil {
		b.Fatal(err)
	}
	r, now := like.GetHttpRequest(), time.Now()
	header := maps.Clone(r.Headers)
	header["Handoff-Id"] = rand.Text()[:22]
	header["Handoff-Enqueued"] = strconv.FormatInt(now.UnixMilli(), 10)
	header["Handoff-Expires"] = strconv.FormatInt(now.Add(24*time.Hour).UnixMilli(), 10)
	return &cloudtaskspb.CreateTaskRequest{
		Parent: "projects/p/locations/l/queues/q",
		Task: &cloudtaskspb.Task{
			MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
				Url: r.Url, HttpMethod: r.HttpMethod, Headers: header, Body: body,
				AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
					ServiceAccountEmail: r.GetOidcToken().ServiceAccountEmail, Audience: r.GetOidcToken().Audience,
				}},
			}},
			RetryConfig: &cloudtaskspb.RetryConfig{
				MaxAttempts: -1, MaxRetryDuration: durationpb.New(0),
				MinBackoff: durationpb.New(time.Second), MaxBackoff: durationpb.New(time.Hour), MaxDoublings: 16,
			},
		},
	}
}

// costs adds up what one way of enqueueing has cost.
type costs struct {
	time   time.Duration
	allocs uint64
}

// count adds the cost of fn.
func (c *costs) count(fn func()) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	fn()
	c.time += time.Since(start)
	runtime.ReadMemStats(&after)
	c.allocs += after.Mallocs - before.Mallocs
}

// clients returns our client and the bare one, both of a forgetful server, and a
// task that ours created.
func clients(b *testing.B) (*handoff.Client, *cloudtasks.Client, *cloudtaskspb.Task) {
	b.Helper()
	server := forgetful()
	var like *cloudtaskspb.Task
	create := server.script
	server.script = func(ctx context.Context, n int, req *cloudtaskspb.CreateTaskRequest, take func() (*cloudtaskspb.Task, error)) (*cloudtaskspb.Task, error) {
		if like == nil {
			like = proto.CloneOf(req.Task)
		}
		return create(ctx, n, req, take)
	}
	options := server.serve(b)
	bare, err := cloudtasks.NewClient(b.Context(), options...)
	assert.NoError(b, err)
	b.Cleanup(func() { _ = bare.Close() })
	ours, err := handoff.NewClient(b.Context(), handoff.ClientConfig{
		Project: "p", Location: "l", Policy: handoff.Policy{Queue: "q"}, Options: options,
		Target: handoff.HTTPTarget{URL: "https://worker.example.com/tasks", ServiceAccount: "caller@p.iam.gserviceaccount.com"},
	})
	assert.NoError(b, err)
	b.Cleanup(func() { _ = ours.Close() })
	_, err = ours.Enqueue(b.Context(), benchtest.Invoice{})
	assert.NoError(b, err)
	return ours, bare, like
}

// BenchmarkEnqueueOverBare reports what Enqueue costs more than the bare client,
// which creates the same task. The aim is at most 5 µs and 5 allocations.
func BenchmarkEnqueueOverBare(b *testing.B) {
	ours, bare, like := clients(b)
	ctx := b.Context()
	const turn = 20
	var with, without costs
	for n := 0; b.Loop(); n++ {
		if n%turn != 0 {
			continue
		}
		without.count(func() {
			for range turn {
				if _, err := bare.CreateTask(ctx, byHand(b, benchtest.Invoice{}, like)); err != nil {
					b.Fatal(err)
				}
			}
		})
		with.count(func() {
			for range turn {
				if _, err := ours.Enqueue(ctx, benchtest.Invoice{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	tasks := float64((b.N + turn - 1) / turn * turn)
	b.ReportMetric(float64((with.time-without.time).Nanoseconds())/tasks, "ns-added/task")
	b.ReportMetric((float64(with.allocs)-float64(without.allocs))/tasks, "allocs-added/task")
	b.ReportMetric(float64(without.time.Nanoseconds())/tasks, "ns-bare/task")
}

// BenchmarkEnqueueBatchOverBare reports the cost of EnqueueBatch as a multiple of
// the bare BatchCreateTasks with the same tasks and as many calls in flight. The
// aim is at most 1.25.
func BenchmarkEnqueueBatchOverBare(b *testing.B) {
	ours, bare, like := clients(b)
	ctx := b.Context()
	const turn = 2000
	payloads := slices.Repeat([]benchtest.Invoice{{}}, turn)
	var with, without costs
	for n := 0; b.Loop(); n++ {
		if n%turn != 0 {
			continue
		}
		without.count(func() { bareBatches(b, bare, like, payloads) })
		with.count(func() {
			for _, err := range handoff.EnqueueBatch(ctx, ours, slices.Values(payloads)) {
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.ReportMetric(float64(with.time)/float64(without.time), "times-bare")
	b.ReportMetric(float64(with.allocs)/float64(without.allocs), "times-bare-allocs")
}

// bareBatches creates tasks with hand-written batch calls, eight at a time.
func bareBatches(b *testing.B, bare *cloudtasks.Client, like *cloudtaskspb.Task, payloads []benchtest.Invoice) {
	chunks := make(chan []*cloudtaskspb.CreateTaskRequest)
	ended := make(chan struct{})
	const flights = 8
	for range flights {
		go func() {
			defer func() { ended <- struct{}{} }()
			for requests := range chunks {
				op, err := bare.BatchCreateTasks(b.Context(), &cloudtaskspb.BatchCreateTasksRequest{Parent: requests[0].Parent, Requests: requests, RequestId: rpc.RequestID()})
				if err == nil {
					_, err = op.Wait(b.Context())
				}
				if err != nil {
					b.Error(err)
				}
			}
		}()
	}
	for chunk := range slices.Chunk(payloads, 100) {
		requests := make([]*cloudtaskspb.CreateTaskRequest, len(chunk))
		for i, p := range chunk {
			requests[i] = byHand(b, p, like)
		}
		chunks <- requests
	}
	close(chunks)
	for range flights {
		<-ended
	}
}
