package create

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	gax "github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/internal/rpc"
	"github.com/brillconsulting/handoff/internal/wire"
)

// Limits of one call: the service's max number of tasks (docs/cloud-tasks.md#3.5),
// and a size well under the 4 MiB that a gRPC server accepts by default.
const (
	BatchTasks = 100
	BatchBytes = 3 << 20
)

// unbatchedCalls is how many creates of a batch are in flight at a time if the
// server does not support batch calls.
const unbatchedCalls = 8

// Item is one task of a batch.
type Item struct {
	Req *cloudtaskspb.CreateTaskRequest
	ID  string // handoff ID in the task's stamp

	// The result.
	Created Created
	Err     error

	mayExist bool // an earlier call may have created the task
}

func (it *Item) fail(err error) {
	it.Err, it.mayExist = err, it.mayExist || ambiguous(err)
}

// Batch creates tasks in one queue and sets the result of each item. There may be at
// most [BatchTasks] items of at most [BatchBytes] in all. Creates are retried, so
// each task must have a name, or a receiver that recognises a second copy.
func (c *Creator) Batch(ctx context.Context, parent string, items []*Item) {
	if ctx.Err() != nil {
		for _, it := range items {
			it.Err = fmt.Errorf("%w: %w", ErrNotSent, context.Cause(ctx))
		}
		return
	}
	c.oneByOne(ctx, c.together(ctx, parent, items))
}

// together creates items with batch calls. It returns the items that must be created
// with single calls instead.
func (c *Creator) together(ctx context.Context, parent string, items []*Item) []*Item {
	t := startTries(ctx)
	defer func() {
		for _, it := range items {
			if it.Err != nil {
				it.Err = t.explain(ctx, it.Err, it.mayExist)
			}
		}
	}()
	request := rpc.RequestID()
	for left := items; !c.unbatched.Load(); {
		t.count++
		err := c.call(ctx, &t, parent, request, left)
		switch code := status.Code(err); {
		case err == nil:
			// The rest is a different set of tasks, so it needs a new request ID.
			left, request = retryables(left), rpc.RequestID()
		case code == codes.Unimplemented:
			c.withoutBatch()
			return left
		case code == codes.InvalidArgument && len(left) > 1:
			// The service refuses the whole call for one bad task, so try each alone.
			return left
		default:
			for _, it := range left {
				it.fail(err)
			}
			if !retryable(code) {
				left = nil
			}
		}
		if len(left) == 0 || !t.wait(ctx) {
			return nil
		}
	}
	return items
}

func (c *Creator) withoutBatch() {
	if !c.unbatched.Swap(true) && c.WithoutBatch != nil {
		c.WithoutBatch()
	}
}

// retryables returns the items whose errors may be passing.
func retryables(items []*Item) []*Item {
	var left []*Item
	for _, it := range items {
		if it.Err != nil && retryable(status.Code(it.Err)) {
			left = append(left, it)
		}
	}
	return left
}

// oneByOne creates items with single calls.
func (c *Creator) oneByOne(ctx context.Context, items []*Item) {
	next := make(chan *Item)
	var workers sync.WaitGroup
	for range min(unbatchedCalls, len(items)) {
		workers.Go(func() {
			for it := range next {
				it.Created, it.Err = c.task(ctx, it.Req, true, it.mayExist)
			}
		})
	}
	for _, it := range items {
		next <- it
	}
	close(next)
	workers.Wait()
}

// call makes one batch call and waits for its operation. If it returns an error, the
// result of every item is unknown; otherwise each item has its result.
func (c *Creator) call(ctx context.Context, t *tries, parent, request string, items []*Item) error {
	req := &cloudtaskspb.BatchCreateTasksRequest{
		Parent:    parent,
		Requests:  make([]*cloudtaskspb.CreateTaskRequest, len(items)),
		RequestId: request,
	}
	for i, it := range items {
		req.Requests[i] = it.Req
	}
	op, err := c.start(ctx, t, req)
	if err != nil {
		return err
	}
	resp, failure := c.follow(ctx, t, op)
	if !op.Done() {
		for _, it := range items {
			it.mayExist = true
		}
		return failure
	}
	meta, err := op.Metadata()
	if err != nil {
		failure = errors.Join(failure, err)
	}
	assign(items, resp, meta, failure)
	return nil
}

// assign sets the result of each item. It matches created tasks by handoff ID,
// because their order is not documented (docs/cloud-tasks.md#3.5), and failures by
// index. If the whole operation failed, each item without a result gets that
// failure.
func assign(items []*Item, resp *cloudtaskspb.BatchCreateTasksResponse, meta *cloudtaskspb.BatchCreateTasksMetadata, failure error) {
	names := make(map[string]string, len(items)) // by handoff ID
	for _, task := range resp.GetTasks() {
		header, _ := Parts(task)
		names[wire.StampedID(header)] = task.GetName()
	}
	for i, it := range items {
		if name := names[it.ID]; name != "" {
			it.Created, it.Err = Created{Name: name}, nil
			continue
		}
		switch err := status.ErrorProto(meta.GetFailedRequests()[int32(i)]); {
		case status.Code(err) == codes.AlreadyExists && it.Req.Task.Name != "":
			it.Created, it.Err = Created{Name: it.Req.Task.Name, Duplicate: !it.mayExist}, nil
		case err != nil:
			it.fail(err)
		case failure != nil:
			it.fail(failure)
		case meta.GetState() == cloudtaskspb.BatchCreateTasksMetadata_SUCCEEDED:
			it.Created, it.Err = Created{Name: it.Req.Task.Name}, nil
		default:
			it.fail(status.Error(codes.Unavailable, "the operation does not say whether the task was created"))
		}
	}
}

func (c *Creator) start(ctx context.Context, t *tries, req *cloudtaskspb.BatchCreateTasksRequest) (*cloudtasks.BatchCreateTasksOperation, error) {
	ctx, cancel := t.bound(ctx)
	defer cancel()
	return c.Client.BatchCreateTasks(ctx, req)
}

// follow waits for the operation. The client's own Wait polls once a second at
// first, which is too slow for a hundred tasks.
func (c *Creator) follow(ctx context.Context, t *tries, op *cloudtasks.BatchCreateTasksOperation) (*cloudtaskspb.BatchCreateTasksResponse, error) {
	backoff := gax.Backoff{Initial: 20 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2}
	for {
		resp, err := c.poll(ctx, t, op)
		switch {
		case op.Done():
			return resp, err
		case err != nil && !retryable(status.Code(err)):
			return nil, fmt.Errorf("following %s: %w", op.Name(), err)
		}
		pause := backoff.Pause()
		if time.Until(t.end) <= pause {
			return nil, fmt.Errorf("%s is not done yet: %w", op.Name(), context.DeadlineExceeded)
		}
		if gax.Sleep(ctx, pause) != nil {
			return nil, fmt.Errorf("%s is not done yet: %w", op.Name(), context.Cause(ctx))
		}
	}
}

func (c *Creator) poll(ctx context.Context, t *tries, op *cloudtasks.BatchCreateTasksOperation) (*cloudtaskspb.BatchCreateTasksResponse, error) {
	ctx, cancel := t.bound(ctx)
	defer cancel()
	return op.Poll(ctx)
}
