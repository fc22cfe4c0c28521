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
)

// What one call may carry: the service's limit of tasks (docs/cloud-tasks.md#3.5), and
// bytes well under the 4 MiB that a gRPC server takes by default.
const (
	BatchTasks = 100
	BatchBytes = 3 << 20
)

// atOnce is how many creates a batch has in flight where it is made of single
// ones.
const atOnce = 8

// Item is one task of a batch.
type Item struct {
	Req *cloudtaskspb.CreateTaskRequest
	ID  string // the handoff ID that the task is stamped with

	// The result.
	Created Created
	Err     error

	maybe bool // an earlier try may have created it
}

func (it *Item) failed(err error) {
	it.Err, it.maybe = err, it.maybe || ambiguous(status.Code(err))
}

// Batch creates the tasks of one queue together and gives each its result. At
// most [BatchTasks] tasks, at most [BatchBytes] of them; all are named, or have
// a receiver that recognises a second copy.
func (c *Creator) Batch(ctx context.Context, parent string, items []*Item) {
	if ctx.Err() != nil {
		for _, it := range items {
			it.Err = fmt.Errorf("%w: %w", ErrNotSent, context.Cause(ctx))
		}
		return
	}
	c.each(ctx, c.together(ctx, parent, items))
}

// together creates items by batch calls, and returns those that must be
// created one by one instead.
func (c *Creator) together(ctx context.Context, parent string, items []*Item) []*Item {
	p := start(ctx)
	defer func() {
		for _, it := range items {
			if it.Err != nil {
				it.Err = p.explain(ctx, it.Err, it.maybe)
			}
		}
	}()
	request := rpc.RequestID()
	for left := items; !c.singly.Load(); {
		p.tries++
		err := c.call(ctx, &p, parent, request, left)
		switch code := status.Code(err); {
		case err == nil:
			// What is left is another set of tasks, so another operation.
			left, request = unsettled(left), rpc.RequestID()
		case code == codes.Unimplemented:
			c.withoutBatch()
			return left
		case code == codes.InvalidArgument && len(left) > 1:
			// One task that the service does not like must not take the
			// others with it.
			return left
		default:
			for _, it := range left {
				it.failed(err)
			}
			if !retryable(code) {
				left = nil
			}
		}
		if len(left) == 0 || !p.wait(ctx) {
			return nil
		}
	}
	return items
}

func (c *Creator) withoutBatch() {
	if !c.singly.Swap(true) && c.WithoutBatch != nil {
		c.WithoutBatch()
	}
}

// unsettled returns the items that are worth another try.
func unsettled(items []*Item) []*Item {
	var left []*Item
	for _, it := range items {
		if it.Err != nil && retryable(status.Code(it.Err)) {
			left = append(left, it)
		}
	}
	return left
}

// each creates items by single calls.
func (c *Creator) each(ctx context.Context, items []*Item) {
	next := make(chan *Item)
	var workers sync.WaitGroup
	for range min(atOnce, len(items)) {
		workers.Go(func() {
			for it := range next {
				it.Created, it.Err = c.task(ctx, it.Req, true, it.maybe)
			}
		})
	}
	for _, it := range items {
		next <- it
	}
	close(next)
	workers.Wait()
}

// call makes one batch call and follows its operation to the end. It returns
// an error if nothing is known of any item; else each item has its result.
func (c *Creator) call(ctx context.Context, p *pacer, parent, request string, items []*Item) error {
	req := &cloudtaskspb.BatchCreateTasksRequest{
		Parent:    parent,
		Requests:  make([]*cloudtaskspb.CreateTaskRequest, len(items)),
		RequestId: request,
	}
	for i, it := range items {
		req.Requests[i] = it.Req
	}
	made := names{items: items, names: make([]string, len(items))}
	lean := codec{found: made.add}.lean()
	op, err := c.start(ctx, p, req, lean)
	if err != nil {
		return err
	}
	failure := c.follow(ctx, p, op, lean)
	if !op.Done() {
		for _, it := range items {
			it.maybe = true
		}
		return failure
	}
	meta, err := op.Metadata()
	if err != nil {
		failure = errors.Join(failure, err)
	}
	assign(items, made.names, meta, failure)
	return nil
}

// names are those of the tasks that a batch call made, by item. Tasks are
// recognised by their handoff ID, because their order is not documented
// (docs/cloud-tasks.md#3.5); where they come in order, each is found at once.
type names struct {
	items []*Item
	names []string
	next  int
}

func (n *names) add(id, name []byte) {
	for range n.items {
		i := n.next
		n.next = (i + 1) % len(n.items)
		if n.items[i].ID == string(id) {
			n.names[i] = string(name)
			return
		}
	}
}

// assign gives each item its result. Failures are told by index. A failure of
// the whole is that of every item that has no result of its own.
func assign(items []*Item, made []string, meta *cloudtaskspb.BatchCreateTasksMetadata, failure error) {
	for i, it := range items {
		if made[i] != "" {
			it.Created, it.Err = Created{Name: made[i]}, nil
			continue
		}
		switch err := status.ErrorProto(meta.GetFailedRequests()[int32(i)]); {
		case status.Code(err) == codes.AlreadyExists && it.Req.Task.Name != "":
			it.Created, it.Err = Created{Name: it.Req.Task.Name, Duplicate: !it.maybe}, nil
		case err != nil:
			it.failed(err)
		case failure != nil:
			it.failed(failure)
		case meta.GetState() == cloudtaskspb.BatchCreateTasksMetadata_SUCCEEDED:
			it.Created, it.Err = Created{Name: it.Req.Task.Name}, nil
		default:
			it.failed(status.Error(codes.Unavailable, "the operation does not say what became of the task"))
		}
	}
}

func (c *Creator) start(ctx context.Context, p *pacer, req *cloudtaskspb.BatchCreateTasksRequest, lean gax.CallOption) (*cloudtasks.BatchCreateTasksOperation, error) {
	ctx, cancel := p.clamp(ctx)
	defer cancel()
	return c.Client.BatchCreateTasks(ctx, req, lean)
}

// follow waits for the operation. The library's own Wait polls a second apart
// at first, which is an age for a hundred tasks.
func (c *Creator) follow(ctx context.Context, p *pacer, op *cloudtasks.BatchCreateTasksOperation, lean gax.CallOption) error {
	backoff := gax.Backoff{Initial: 20 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2}
	for {
		err := c.poll(ctx, p, op, lean)
		switch {
		case op.Done():
			return err
		case err != nil && !retryable(status.Code(err)):
			return fmt.Errorf("following %s: %w", op.Name(), err)
		}
		pause := backoff.Pause()
		if time.Until(p.giveUp) <= pause {
			return fmt.Errorf("%s is not done yet: %w", op.Name(), context.DeadlineExceeded)
		}
		if gax.Sleep(ctx, pause) != nil {
			return fmt.Errorf("%s is not done yet: %w", op.Name(), context.Cause(ctx))
		}
	}
}

func (c *Creator) poll(ctx context.Context, p *pacer, op *cloudtasks.BatchCreateTasksOperation, lean gax.CallOption) error {
	ctx, cancel := p.clamp(ctx)
	defer cancel()
	_, err := op.Poll(ctx, lean)
	return err
}
