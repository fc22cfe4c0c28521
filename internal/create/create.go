// Package create creates tasks at the service, one at a time or in batches, and
// retries where that is safe. It also checks the service's limits, so that a task
// beyond one is refused before the call.
package create

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	gax "github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/internal/rpc"
)

var (
	// ErrUnknown means that the response was lost: the task may or may not
	// exist.
	ErrUnknown = errors.New("the task may or may not have been created")

	// ErrNotSent means that the request never reached a server, so the task
	// does not exist.
	ErrNotSent = errors.New("the task was not sent")

	// errNoConnection is wrapped by the error of a call that had no connection,
	// see TellUnsent.
	errNoConnection = errors.New("no connection")
)

// RetryFor is how long a create is retried if its context has no deadline: one
// minute.
const RetryFor = time.Minute

// Creator creates tasks through one client. It is safe for concurrent use.
type Creator struct {
	Client *cloudtasks.Client

	// WithoutBatch is called once, when the server turns out not to support
	// BatchCreateTasks.
	WithoutBatch func()

	unbatched atomic.Bool
}

// Created is a task that exists.
type Created struct {
	Name      string
	Duplicate bool // a task with this name existed before the first call
}

// Task creates one task. If retry is true, it retries until the task exists, the
// service refuses it, or ctx ends. That is safe only for a task that has a name, or
// whose receiver recognises a second copy.
//
// An error that wraps neither [ErrUnknown] nor [ErrNotSent] means that the
// service refused the task.
func (c *Creator) Task(ctx context.Context, req *cloudtaskspb.CreateTaskRequest, retry bool) (Created, error) {
	if ctx.Err() != nil {
		return Created{}, fmt.Errorf("%w: %w", ErrNotSent, context.Cause(ctx))
	}
	return c.task(ctx, req, retry, false)
}

// task is like Task. mayExist reports whether an earlier call may have created the
// task.
func (c *Creator) task(ctx context.Context, req *cloudtaskspb.CreateTaskRequest, retry, mayExist bool) (Created, error) {
	t := startTries(ctx)
	for {
		t.count++
		task, err := c.try(ctx, &t, req)
		if err == nil {
			return Created{Name: task.GetName()}, nil
		}
		code := status.Code(err)
		if code == codes.AlreadyExists && req.GetTask().GetName() != "" {
			return Created{Name: req.GetTask().GetName(), Duplicate: !mayExist}, nil
		}
		mayExist = mayExist || ambiguous(err)
		if !retry || !retryable(code) || !t.wait(ctx) {
			return Created{}, t.explain(ctx, err, mayExist)
		}
	}
}

func (c *Creator) try(ctx context.Context, t *tries, req *cloudtaskspb.CreateTaskRequest) (*cloudtaskspb.Task, error) {
	ctx, cancel := t.bound(ctx)
	defer cancel()
	task, err := c.Client.CreateTask(ctx, req)
	if err == nil && task.GetName() == "" {
		err = status.Error(codes.Internal, "the response holds no task")
	}
	return task, err
}

// TellUnsent returns a client option that lets [Creator] tell a request that was
// never sent from a lost response. Both have the same status code. With this option,
// the error of a call that never had a connection wraps errNoConnection.
func TellUnsent() option.ClientOption {
	return option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(tellUnsent))
}

func tellUnsent(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	var server peer.Peer // set when the call gets a connection
	err := invoke(ctx, method, req, reply, conn, append(opts, grpc.Peer(&server))...)
	if err != nil && server.Addr == nil && ambiguous(err) {
		return fmt.Errorf("%w: %w", errNoConnection, err)
	}
	return err
}

// retryable reports whether code is that of a passing failure.
func retryable(code codes.Code) bool {
	return code == codes.Unavailable || code == codes.DeadlineExceeded || code == codes.ResourceExhausted
}

// ambiguous reports whether the server may have executed a call that returned err.
func ambiguous(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal, codes.DataLoss:
		return !errors.Is(err, errNoConnection)
	}
	return false
}

// tries paces the calls of one create.
type tries struct {
	end     time.Time // no call begins after it
	count   int
	backoff gax.Backoff
}

func startTries(ctx context.Context) tries {
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(RetryFor)
	}
	return tries{end: end, backoff: gax.Backoff{Initial: 100 * time.Millisecond, Max: 10 * time.Second, Multiplier: 2}}
}

// bound returns the context of one call.
func (t *tries) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); !ok && time.Until(t.end) < rpc.Timeout {
		return context.WithDeadline(ctx, t.end)
	}
	return rpc.WithTimeout(ctx)
}

// wait waits before the next call. It reports whether there is time for one.
func (t *tries) wait(ctx context.Context) bool {
	pause := t.backoff.Pause()
	return time.Until(t.end) > pause && gax.Sleep(ctx, pause) == nil
}

// explain wraps the error of the last call.
func (t *tries) explain(ctx context.Context, err error, mayExist bool) error {
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w (last error: %w)", cause, err)
	}
	if t.count > 1 {
		err = fmt.Errorf("gave up after %d tries: %w", t.count, err)
	}
	switch {
	case mayExist:
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	case errors.Is(err, errNoConnection):
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return fmt.Errorf("%w%s", err, hint(status.Code(err)))
}

// hint returns the most likely reason for a refusal that the service's own message
// does not explain (docs/cloud-tasks.md#12.2).
func hint(code codes.Code) string {
	switch code {
	case codes.NotFound:
		return " (either the queue or the service account of the token does not exist)"
	case codes.PermissionDenied:
		return " (the caller needs cloudtasks.tasks.create on the queue, and iam.serviceAccounts.actAs on the token's service account)"
	}
	return ""
}
