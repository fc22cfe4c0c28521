package conformance_test

import (
	"fmt"
	"testing"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
)

// batch makes n create requests for a queue.
func batch(queue string, n int) *cloudtaskspb.BatchCreateTasksRequest {
	req := &cloudtaskspb.BatchCreateTasksRequest{Parent: queue}
	for range n {
		req.Requests = append(req.Requests, &cloudtaskspb.CreateTaskRequest{Parent: queue, Task: httpTask("https://example.com/")})
	}
	return req
}

func (b *bench) batchCreate(req *cloudtaskspb.BatchCreateTasksRequest) *cloudtasks.BatchCreateTasksOperation {
	b.Helper()
	op, err := b.client.BatchCreateTasks(b.ctx, req)
	b.ok(err)
	return op
}

func TestBatches(t *testing.T) {
	conform(t, []rule{
		{"3.5", "BatchCreateTasks: the operation holds the tasks and SUCCEEDED", func(b *bench) {
			queue := b.pausedQueue()
			op := b.batchCreate(batch(queue, 3))
			resp, err := op.Wait(b.ctx)
			b.ok(err)
			b.equal(len(resp.GetTasks()), 3)
			b.equal(len(b.tasks(queue)), 3)
			meta, err := op.Metadata()
			b.ok(err)
			b.equal(meta.GetState(), cloudtaskspb.BatchCreateTasksMetadata_SUCCEEDED)
		}},
		{"3.5", "BatchCreateTasks: GetOperation finds the operation by its name", func(b *bench) {
			op := b.batchCreate(batch(b.pausedQueue(), 1))
			resp, err := b.client.BatchCreateTasksOperation(op.Name()).Poll(b.ctx)
			b.ok(err)
			b.equal(len(resp.GetTasks()), 1)
		}},
		{"3.5", "BatchCreateTasks: 100 requests are allowed, 101 are not", func(b *bench) {
			queue := b.pausedQueue()
			b.batchCreate(batch(queue, 100))
			_, err := b.client.BatchCreateTasks(b.ctx, batch(queue, 101))
			b.fails(err, codes.InvalidArgument, "")
		}},
		{"3.5", "BatchCreateTasks: a request for another queue", fails(codes.InvalidArgument, "", func(b *bench) error {
			req := batch(b.pausedQueue(), 2)
			req.Requests[1].Parent = b.pausedQueue()
			_, err := b.client.BatchCreateTasks(b.ctx, req)
			return err
		})},
		{"3.5", "BatchCreateTasks: the same request_id creates once", func(b *bench) {
			queue := b.pausedQueue()
			req := batch(queue, 2)
			req.RequestId = "6f1f1b9e-8a2b-4f4e-9a70-0b6d7f6f1c11"
			first, second := b.batchCreate(req), b.batchCreate(req)
			b.equal(first.Name(), second.Name())
			b.equal(len(b.tasks(queue)), 2)
		}},
		{"3.5", "BatchCreateTasks: not atomic, failures by index in the metadata", func(b *bench) {
			queue := b.pausedQueue()
			req := batch(queue, 3)
			req.Requests[1].Task.GetHttpRequest().Url = ""
			op := b.batchCreate(req)
			_, _ = op.Wait(b.ctx)
			meta, err := op.Metadata()
			b.ok(err)
			b.equal(meta.GetState(), cloudtaskspb.BatchCreateTasksMetadata_PARTIALLY_SUCCEEDED)
			b.equal(len(meta.GetFailedRequests()), 1)
			b.equal(meta.GetFailedRequests()[1].GetMessage(), "HttpRequest.url is required.")
			b.equal(len(b.tasks(queue)), 2)
		}},
		{"3.5", "BatchDeleteTasks: deletes, failures by index", func(b *bench) {
			queue := b.pausedQueue()
			kept := b.task(queue, httpTask("https://example.com/"))
			a, c := b.task(queue, httpTask("https://example.com/")), b.task(queue, httpTask("https://example.com/"))
			op, err := b.client.BatchDeleteTasks(b.ctx, &cloudtaskspb.BatchDeleteTasksRequest{
				Parent: queue, Names: []string{a.GetName(), queue + "/tasks/never", c.GetName()},
			})
			b.ok(err)
			_ = op.Wait(b.ctx)
			meta, err := op.Metadata()
			b.ok(err)
			b.equal(meta.GetState(), cloudtaskspb.BatchDeleteTasksMetadata_PARTIALLY_SUCCEEDED)
			b.equal(codes.Code(meta.GetFailedRequests()[1].GetCode()), codes.NotFound)
			left := b.tasks(queue)
			b.equal(len(left), 1)
			b.equal(left[0].GetName(), kept.GetName())
		}},
		{"3.5", "BatchDeleteTasks: every deletion failed", fails(codes.Aborted,
			"None of the requests succeeded, refer to BatchDeleteTasksMetadata.failed_requests for individual error details", func(b *bench) error {
				queue := b.pausedQueue()
				op, err := b.client.BatchDeleteTasks(b.ctx, &cloudtaskspb.BatchDeleteTasksRequest{Parent: queue, Names: []string{queue + "/tasks/never"}})
				b.ok(err)
				return op.Wait(b.ctx)
			})},
		{"3.5", "BatchDeleteTasks: 1000 names are allowed, 1001 are not", func(b *bench) {
			queue := b.pausedQueue()
			req := &cloudtaskspb.BatchDeleteTasksRequest{Parent: queue}
			for i := range 1000 {
				req.Names = append(req.Names, fmt.Sprintf("%s/tasks/t%d", queue, i))
			}
			_, err := b.client.BatchDeleteTasks(b.ctx, req)
			b.ok(err)
			req.Names = append(req.Names, queue+"/tasks/more")
			_, err = b.client.BatchDeleteTasks(b.ctx, req)
			b.fails(err, codes.InvalidArgument, "")
		}},
	})
}
