package rows

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
)

// buffered creates a queue whose tasks need no URL, and its worker.
func buffered(b *fixture) (queue string, w *worker) {
	b.Helper()
	b.plain()
	w = b.worker(nil)
	host, port := w.address(b)
	scheme := cloudtaskspb.UriOverride_HTTP
	return b.queue(target(uri(&cloudtaskspb.UriOverride{Scheme: &scheme, Host: &host, Port: &port, PathOverride: path("/buffered")}))), w
}

// bufferRows are about BufferTask (docs/cloud-tasks.md#3.4).
var bufferRows = []Row{
	bufferedBy(http.MethodGet, ""), bufferedBy(http.MethodPost, "raw body"), bufferedBy(http.MethodPut, "raw body"),
	bufferedBy(http.MethodPatch, "raw body"), bufferedBy(http.MethodDelete, ""),
	{"3.4", Documented, "BufferTask with an ID", func(b *fixture) {
		queue, w := buffered(b)
		b.status(http.StatusOK, http.MethodPost, "/v2/"+queue+"/tasks/mine:buffer", "x")
		b.equal(header(w.one(), "X-CloudTasks-TaskName"), "mine")
	}},
	{"3.4", Documented, "BufferTask with an empty ID", func(b *fixture) {
		queue, w := buffered(b)
		b.status(http.StatusOK, http.MethodPost, "/v2/"+queue+"/tasks/:buffer", "x")
		w.one()
	}},
	{"3.4", Documented, "BufferTask returns the task", func(b *fixture) {
		queue, _ := buffered(b)
		name, _ := field(b, b.status(http.StatusOK, http.MethodPost, "/v2/"+queue+"/tasks/mine:buffer", "x"), "task.name").(string)
		b.equal(name, queue+"/tasks/mine")
	}},
	{"3.4", Documented, "BufferTask: the URL is that of the queue", func(b *fixture) {
		queue, w := buffered(b)
		b.status(http.StatusOK, http.MethodPost, "/v2/"+queue+"/tasks:buffer", "x")
		got := w.one()
		b.equal(got.URL.Path, "/buffered")
		b.equal(got.Host, w.host)
	}},
	{"3.4", Documented, "BufferTask: the body is not read as JSON", func(b *fixture) {
		queue, w := buffered(b)
		b.status(http.StatusOK, http.MethodPost, "/v2/"+queue+"/tasks:buffer", "{\"task\":\x00\xff")
		b.equal(w.one().body, "{\"task\":\x00\xff")
	}},
	{"3.4", Documented, "BufferTask: the name of a task that is there", func(b *fixture) {
		b.plain()
		host := "example.com"
		queue := b.pausedQueue(target(uri(&cloudtaskspb.UriOverride{Host: &host})))
		b.status(http.StatusOK, http.MethodPost, "/v2/"+queue+"/tasks/mine:buffer", "x")
		b.status(http.StatusConflict, http.MethodPost, "/v2/"+queue+"/tasks/mine:buffer", "x")
	}},
	{"3.4", Documented, "BufferTask: a missing queue", func(b *fixture) {
		b.plain()
		b.status(http.StatusNotFound, http.MethodPost, "/v2/"+b.freshName()+"/tasks:buffer", "x")
	}},
	{"3.4", Documented, "BufferTask of v2beta3", func(b *fixture) {
		queue, w := buffered(b)
		b.status(http.StatusOK, http.MethodPost, "/v2beta3/"+queue+"/tasks:buffer", "x")
		b.equal(w.one().body, "x")
	}},
}

func bufferedBy(method, body string) Row {
	return Row{"3.4", Documented, "BufferTask by " + method, func(b *fixture) {
		queue, w := buffered(b)
		b.status(http.StatusOK, method, "/v2/"+queue+"/tasks:buffer", body)
		b.equal(w.one().body, body)
	}}
}

// batch makes n create requests for a queue.
func batch(queue string, n int) *cloudtaskspb.BatchCreateTasksRequest {
	req := &cloudtaskspb.BatchCreateTasksRequest{Parent: queue}
	for range n {
		req.Requests = append(req.Requests, &cloudtaskspb.CreateTaskRequest{Parent: queue, Task: httpTask(example)})
	}
	return req
}

func (b *fixture) batchCreate(req *cloudtaskspb.BatchCreateTasksRequest) *cloudtasks.BatchCreateTasksOperation {
	b.Helper()
	op, err := b.v2.BatchCreateTasks(b.ctx, req)
	b.ok(err)
	return op
}

func (b *fixture) batchDelete(queue string, names ...string) *cloudtasks.BatchDeleteTasksOperation {
	b.Helper()
	op, err := b.v2.BatchDeleteTasks(b.ctx, &cloudtaskspb.BatchDeleteTasksRequest{Parent: queue, Names: names})
	b.ok(err)
	return op
}

// uuid returns a random UUID of version 4, for a request ID.
func uuid() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// halfBad runs a batch of three requests to its end. The second has no URL.
func halfBad(b *fixture) (queue string, op *cloudtasks.BatchCreateTasksOperation) {
	b.Helper()
	queue = b.pausedQueue()
	req := batch(queue, 3)
	req.Requests[1].Task.GetHttpRequest().Url = ""
	op = b.batchCreate(req)
	_, _ = op.Wait(b.ctx) // another row tests how the operation ends
	return queue, op
}

// batchRows are about the batch calls (docs/cloud-tasks.md#3.5).
var batchRows = []Row{
	{"3.5", Documented, "BatchCreateTasks creates the tasks", func(b *fixture) {
		queue := b.pausedQueue()
		_, err := b.batchCreate(batch(queue, 3)).Wait(b.ctx)
		b.ok(err)
		b.equal(len(b.tasks(queue)), 3)
	}},
	{"3.5", Documented, "BatchCreateTasks: the response of the operation has the tasks", func(b *fixture) {
		resp, err := b.batchCreate(batch(b.pausedQueue(), 3)).Wait(b.ctx)
		b.ok(err)
		b.equal(len(resp.GetTasks()), 3)
	}},
	{"3.5", Documented, "BatchCreateTasks: the state is SUCCEEDED", func(b *fixture) {
		op := b.batchCreate(batch(b.pausedQueue(), 3))
		_, err := op.Wait(b.ctx)
		b.ok(err)
		meta, err := op.Metadata()
		b.ok(err)
		b.equal(meta.GetState(), cloudtaskspb.BatchCreateTasksMetadata_SUCCEEDED)
	}},
	{"3.5", Documented, "BatchCreateTasks: GetOperation finds the operation by its name", func(b *fixture) {
		op := b.batchCreate(batch(b.pausedQueue(), 1))
		resp, err := b.v2.BatchCreateTasksOperation(op.Name()).Wait(b.ctx)
		b.ok(err)
		b.equal(len(resp.GetTasks()), 1)
	}},
	{"3.5", Documented, "BatchCreateTasks of 100 requests", func(b *fixture) {
		queue := b.pausedQueue()
		_, err := b.batchCreate(batch(queue, 100)).Wait(b.ctx)
		b.ok(err)
		b.equal(len(b.tasks(queue)), 100)
	}},
	{"3.5", Documented, "BatchCreateTasks of 101 requests", fails(codes.InvalidArgument, "", func(b *fixture) error {
		_, err := b.v2.BatchCreateTasks(b.ctx, batch(b.pausedQueue(), 101))
		return err
	})},
	{"3.5", Documented, "BatchCreateTasks: a request for another queue", fails(codes.InvalidArgument, "", func(b *fixture) error {
		req := batch(b.pausedQueue(), 2)
		req.Requests[1].Parent = b.pausedQueue()
		_, err := b.v2.BatchCreateTasks(b.ctx, req)
		return err
	})},
	{"3.5", Documented, "BatchCreateTasks: a request_id that is no UUID", fails(codes.InvalidArgument, "", func(b *fixture) error {
		req := batch(b.pausedQueue(), 1)
		req.RequestId = "again"
		_, err := b.v2.BatchCreateTasks(b.ctx, req)
		return err
	})},
	{"3.5", Documented, "BatchCreateTasks: a repeated request_id joins the operation", func(b *fixture) {
		req := batch(b.pausedQueue(), 2)
		req.RequestId = uuid()
		b.equal(b.batchCreate(req).Name(), b.batchCreate(req).Name())
	}},
	{"3.5", Documented, "BatchCreateTasks: a repeated request_id creates once", func(b *fixture) {
		queue := b.pausedQueue()
		req := batch(queue, 2)
		req.RequestId = uuid()
		for range 2 {
			_, err := b.batchCreate(req).Wait(b.ctx)
			b.ok(err)
		}
		b.equal(len(b.tasks(queue)), 2)
	}},
	{"3.5", Documented, "BatchCreateTasks is not atomic", func(b *fixture) {
		queue, _ := halfBad(b)
		b.equal(len(b.tasks(queue)), 2)
	}},
	{"3.5", Documented, "BatchCreateTasks of which some fail: PARTIALLY_SUCCEEDED", func(b *fixture) {
		_, op := halfBad(b)
		meta, err := op.Metadata()
		b.ok(err)
		b.equal(meta.GetState(), cloudtaskspb.BatchCreateTasksMetadata_PARTIALLY_SUCCEEDED)
	}},
	{"3.5", Documented, "BatchCreateTasks: failures by the index of the request", func(b *fixture) {
		_, op := halfBad(b)
		meta, err := op.Metadata()
		b.ok(err)
		b.equal(len(meta.GetFailedRequests()), 1)
		b.equal(codes.Code(meta.GetFailedRequests()[1].GetCode()), codes.InvalidArgument)
	}},
	{"3.5", Documented, "BatchCreateTasks: failed_requests in JSON", func(b *fixture) {
		b.plain()
		queue := b.pausedQueue()
		body, err := json.Marshal(map[string]any{"requests": []any{map[string]any{"parent": queue, "task": map[string]any{"httpRequest": map[string]any{}}}}})
		b.ok(err)
		text := b.status(http.StatusOK, http.MethodPost, "/v2/"+queue+"/tasks:batchCreate", string(body))
		name, _ := field(b, text, "name").(string)
		b.eventually("the operation is not done", func() bool {
			text = b.status(http.StatusOK, http.MethodGet, "/v2/"+name, "")
			return field(b, text, "done") == true
		})
		b.equal(field(b, text, "metadata.failedRequests.0.code"), float64(codes.InvalidArgument))
	}},
	{"3.5", Documented, "BatchDeleteTasks deletes the tasks it names", func(b *fixture) {
		queue := b.pausedQueue()
		kept, a, c := b.task(queue, httpTask(example)), b.task(queue, httpTask(example)), b.task(queue, httpTask(example))
		b.ok(b.batchDelete(queue, a.GetName(), c.GetName()).Wait(b.ctx))
		left := b.tasks(queue)
		b.equal(len(left), 1)
		b.equal(left[0].GetName(), kept.GetName())
	}},
	{"3.5", Documented, "BatchDeleteTasks: the state is SUCCEEDED", func(b *fixture) {
		queue := b.pausedQueue()
		op := b.batchDelete(queue, b.task(queue, httpTask(example)).GetName())
		b.ok(op.Wait(b.ctx))
		meta, err := op.Metadata()
		b.ok(err)
		b.equal(meta.GetState(), cloudtaskspb.BatchDeleteTasksMetadata_SUCCEEDED)
	}},
	{"3.5", Documented, "BatchDeleteTasks of which some fail: PARTIALLY_SUCCEEDED, by index", func(b *fixture) {
		queue := b.pausedQueue()
		op := b.batchDelete(queue, b.task(queue, httpTask(example)).GetName(), queue+"/tasks/never")
		_ = op.Wait(b.ctx)
		meta, err := op.Metadata()
		b.ok(err)
		b.equal(meta.GetState(), cloudtaskspb.BatchDeleteTasksMetadata_PARTIALLY_SUCCEEDED)
		b.equal(codes.Code(meta.GetFailedRequests()[1].GetCode()), codes.NotFound)
	}},
	{"3.5", Documented, "BatchDeleteTasks of which all fail: ABORTED", fails(codes.Aborted, "", func(b *fixture) error {
		queue := b.pausedQueue()
		return b.batchDelete(queue, queue+"/tasks/never").Wait(b.ctx)
	})},
	{"3.5", Documented, "BatchDeleteTasks: a request_id that is no UUID", fails(codes.InvalidArgument, "", func(b *fixture) error {
		queue := b.pausedQueue()
		_, err := b.v2.BatchDeleteTasks(b.ctx, &cloudtaskspb.BatchDeleteTasksRequest{Parent: queue, Names: manyNames(queue, 1), RequestId: "again"})
		return err
	})},
	{"3.5", Documented, "BatchDeleteTasks: a repeated request_id joins the operation", func(b *fixture) {
		queue := b.pausedQueue()
		req := &cloudtaskspb.BatchDeleteTasksRequest{Parent: queue, Names: []string{b.task(queue, httpTask(example)).GetName()}, RequestId: uuid()}
		first, err := b.v2.BatchDeleteTasks(b.ctx, req)
		b.ok(err)
		second, err := b.v2.BatchDeleteTasks(b.ctx, req)
		b.ok(err)
		b.equal(first.Name(), second.Name())
	}},
	{"3.5", Documented, "BatchDeleteTasks of 1000 names", func(b *fixture) {
		queue := b.pausedQueue()
		b.batchDelete(queue, manyNames(queue, 1000)...)
	}},
	{"3.5", Documented, "BatchDeleteTasks of 1001 names", fails(codes.InvalidArgument, "", func(b *fixture) error {
		queue := b.pausedQueue()
		_, err := b.v2.BatchDeleteTasks(b.ctx, &cloudtaskspb.BatchDeleteTasksRequest{Parent: queue, Names: manyNames(queue, 1001)})
		return err
	})},
	{"3.5", Documented, "BatchDeleteTasks: a name of another queue", fails(codes.InvalidArgument, "", func(b *fixture) error {
		_, err := b.v2.BatchDeleteTasks(b.ctx, &cloudtaskspb.BatchDeleteTasksRequest{Parent: b.pausedQueue(), Names: []string{b.pausedQueue() + "/tasks/t"}})
		return err
	})},
}

func manyNames(queue string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s/tasks/t%d", queue, i)
	}
	return names
}
