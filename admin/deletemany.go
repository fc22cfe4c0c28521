package admin

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	gax "github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/internal/rpc"
)

// deleteTasks is the maximum number of tasks that one call may delete
// (docs/cloud-tasks.md#3.5).
const deleteTasks = 1000

// DeleteMany deletes any number of tasks. It yields each name in order, with
// nil, [ErrNotFound] for a task that was already gone, [ErrInvalid] for a
// malformed name, or the service's error. Each BatchDeleteTasks call deletes up to
// a thousand tasks of one queue; DeleteMany waits for its operation. If the server
// does not implement that call, tasks are deleted singly, several at a time.
//
// When ctx ends, no more names are read. A name that was read already is yielded
// with ctx's error, unless the result of its deletion is known. Deleting again is
// safe.
func (t *Tasks) DeleteMany(ctx context.Context, names iter.Seq[string]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var chunk []string
		flush := func() bool {
			errs := t.deleteChunk(ctx, chunk)
			for i, name := range chunk {
				if !yield(name, errs[i]) {
					return false
				}
			}
			chunk = chunk[:0]
			return ctx.Err() == nil
		}
		current := ""
		for name := range names {
			queue, err := queueOfTask(name)
			if len(chunk) == deleteTasks || len(chunk) > 0 && queue != current {
				if !flush() {
					return
				}
			}
			if err != nil {
				if !yield(name, err) {
					return
				}
				continue
			}
			current = queue
			chunk = append(chunk, name)
		}
		if len(chunk) > 0 {
			flush()
		}
	}
}

// deleteChunk deletes tasks of one queue and returns an error for each.
func (t *Tasks) deleteChunk(ctx context.Context, names []string) []error {
	errs := make([]error, len(names))
	if !t.a.singly.Load() {
		err := t.deleteBatch(ctx, names, errs)
		if status.Code(err) != codes.Unimplemented {
			for i, name := range names {
				if err != nil {
					errs[i] = err
				}
				errs[i] = deleteTask.on(ctx, name, errs[i])
			}
			return errs
		}
		t.a.singly.Store(true)
	}
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(atOnce, len(names)) {
		workers.Go(func() {
			for i := range next {
				errs[i] = deleteTask.on(ctx, names[i], t.delete(ctx, names[i]))
			}
		})
	}
	for i := range names {
		next <- i
	}
	close(next)
	workers.Wait()
	return errs
}

// deleteBatch makes one batch call and waits for its operation. It fills in
// errs, or returns an error for all of them.
func (t *Tasks) deleteBatch(ctx context.Context, names []string, errs []error) error {
	queue, err := queueOfTask(names[0])
	if err != nil {
		return err
	}
	// A retry with the same request ID returns the same operation.
	req := &cloudtaskspb.BatchDeleteTasksRequest{Parent: queue, Names: names, RequestId: rpc.RequestID()}
	op, err := call(ctx, t.a.v2.BatchDeleteTasks, req, retried)
	if err != nil {
		return err
	}
	failure := follow(ctx, op)
	if !op.Done() {
		return failure
	}
	meta, err := op.Metadata()
	if err != nil {
		return errors.Join(failure, fmt.Errorf("metadata of %s: %w", op.Name(), err))
	}
	if failure != nil && len(meta.GetFailedRequests()) == 0 {
		return failure
	}
	for i, s := range meta.GetFailedRequests() {
		if int(i) < len(errs) {
			errs[i] = status.ErrorProto(s)
		}
	}
	return nil
}

// follow waits for the operation and returns its error. The client's own Wait
// would call with the deadline of ctx, which the service may refuse, and polls
// every second at first.
func follow(ctx context.Context, op *cloudtasks.BatchDeleteTasksOperation) error {
	pause := gax.Backoff{Initial: 20 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2}
	for {
		err := poll(ctx, op)
		if op.Done() || err != nil && !resolves(err) {
			return err
		}
		if err := gax.Sleep(ctx, pause.Pause()); err != nil {
			return err
		}
	}
}

func poll(ctx context.Context, op *cloudtasks.BatchDeleteTasksOperation) error {
	ctx, cancel := rpc.WithTimeout(ctx)
	defer cancel()
	return op.Poll(ctx)
}
