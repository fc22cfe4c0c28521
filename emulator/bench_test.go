package emulator_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// The benchmarks run client, server and target in one process. They compare
// versions of the server and do not measure it alone.

func benchServer(b *testing.B, queues int, handler http.HandlerFunc) (*emulator.Server, cloudtaskspb.CloudTasksClient) {
	b.Helper()
	srv := emulator.RunT(b, emulator.Config{Handler: handler})
	client := cloudtaskspb.NewCloudTasksClient(srv.Conn())
	for i := range queues {
		_, err := client.CreateQueue(b.Context(), &cloudtaskspb.CreateQueueRequest{
			Parent: location, Queue: &cloudtaskspb.Queue{Name: benchQueue(i)},
		})
		assert.NoError(b, err)
	}
	return srv, client
}

func benchQueue(i int) string { return fmt.Sprintf("%s/queues/q%d", location, i) }

func benchTask() *cloudtaskspb.Task {
	return &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
		Url: "http://worker.example/tasks/welcome-email", Body: make([]byte, 100),
	}}}
}

func BenchmarkCreateTask(b *testing.B) {
	_, client := benchServer(b, 1, func(http.ResponseWriter, *http.Request) {})
	_, err := client.PauseQueue(b.Context(), &cloudtaskspb.PauseQueueRequest{Name: benchQueue(0)})
	assert.NoError(b, err)
	req := &cloudtaskspb.CreateTaskRequest{Parent: benchQueue(0), Task: benchTask()}
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := client.CreateTask(b.Context(), req); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkBatchCreateTasks(b *testing.B) {
	_, client := benchServer(b, 1, func(http.ResponseWriter, *http.Request) {})
	_, err := client.PauseQueue(b.Context(), &cloudtaskspb.PauseQueueRequest{Name: benchQueue(0)})
	assert.NoError(b, err)
	req := &cloudtaskspb.BatchCreateTasksRequest{Parent: benchQueue(0)}
	for range 100 {
		req.Requests = append(req.Requests, &cloudtaskspb.CreateTaskRequest{Parent: benchQueue(0), Task: benchTask()})
	}
	b.ReportAllocs()
	for b.Loop() {
		_, err := client.BatchCreateTasks(b.Context(), req)
		assert.NoError(b, err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/task")
}

// BenchmarkDispatch creates 2,000 tasks in 40 queues and waits until they have
// run. Each queue has 50, which its bucket of 100 lets through at once.
func BenchmarkDispatch(b *testing.B) {
	const queues, tasks = 40, 2000
	var got atomic.Int64
	srv, client := benchServer(b, queues, func(http.ResponseWriter, *http.Request) { got.Add(1) })
	b.ReportAllocs()
	for b.Loop() {
		got.Store(0)
		for i := range tasks {
			_, err := client.CreateTask(b.Context(), &cloudtaskspb.CreateTaskRequest{Parent: benchQueue(i % queues), Task: benchTask()})
			assert.NoError(b, err)
		}
		assert.NoError(b, srv.Wait(b.Context()))
		assert.Equal(b, got.Load(), tasks)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/tasks, "ns/task")
}
