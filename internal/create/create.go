// Package create makes tasks at the service: one at a time or by the hundred,
// retried where that is safe, so that none is lost in between and none is made
// twice under different identities. It knows what the service refuses and says
// so before the call. It deals in protos; what they mean is its caller's.
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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/internal/rpc"
)

var (
	// ErrUnknown says that the answer was lost: the task may or may not exist.
	ErrUnknown = errors.New("the task may or may not have been created")

	// ErrNotSent says that the task was never sent, so it does not exist.
	ErrNotSent = errors.New("the task was not sent")
)

// Patience is how long a create is retried if its context has no deadline.
const Patience = time.Minute

// Creator creates tasks through one client. It is safe for concurrent use.
type Creator struct {
	Client *cloudtasks.Client

	// WithoutBatch is called once, when the server turns out not to know
	// BatchCreateTasks.
	WithoutBatch func()

	singly atomic.Bool
}

// Created is what the service said of a task it took.
type Created struct {
	Name      string
	Duplicate bool // a task of this name existed before the first try
}

// Task creates one task. With again set, it is tried until it succeeds, is
// refused for good, or ctx ends: that is only safe for a task that is named,
// or whose receiver recognises it.
//
// An error that wraps neither [ErrUnknown] nor [ErrNotSent] means that the
// service refused it.
func (c *Creator) Task(ctx context.Context, req *cloudtaskspb.CreateTaskRequest, again bool) (Created, error) {
	if ctx.Err() != nil {
		return Created{}, fmt.Errorf("%w: %w", ErrNotSent, context.Cause(ctx))
	}
	return c.task(ctx, req, again, false)
}

// task is Task where an earlier try may already have created it.
func (c *Creator) task(ctx context.Context, req *cloudtaskspb.CreateTaskRequest, again, maybe bool) (Created, error) {
	p := start(ctx)
	for {
		p.tries++
		task, err := c.try(ctx, &p, req)
		if err == nil {
			return Created{Name: task.GetName()}, nil
		}
		code := status.Code(err)
		if code == codes.AlreadyExists && req.GetTask().GetName() != "" {
			return Created{Name: req.GetTask().GetName(), Duplicate: !maybe}, nil
		}
		maybe = maybe || ambiguous(code)
		if !again || !retryable(code) || !p.wait(ctx) {
			return Created{}, p.explain(ctx, err, maybe)
		}
	}
}

func (c *Creator) try(ctx context.Context, p *pacer, req *cloudtaskspb.CreateTaskRequest) (*cloudtaskspb.Task, error) {
	ctx, cancel := p.clamp(ctx)
	defer cancel()
	return c.Client.CreateTask(ctx, req, codec{}.lean())
}

// retryable codes pass by themselves.
func retryable(code codes.Code) bool {
	return code == codes.Unavailable || code == codes.DeadlineExceeded || code == codes.ResourceExhausted
}

// ambiguous codes do not say whether the server acted before it failed.
func ambiguous(code codes.Code) bool {
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal, codes.DataLoss:
		return true
	}
	return false
}

// pacer spaces the tries of one create.
type pacer struct {
	giveUp  time.Time
	tries   int
	backoff gax.Backoff
}

func start(ctx context.Context) pacer {
	giveUp, ok := ctx.Deadline()
	if !ok {
		giveUp = time.Now().Add(Patience)
	}
	return pacer{giveUp: giveUp, backoff: gax.Backoff{Initial: 100 * time.Millisecond, Max: 10 * time.Second, Multiplier: 2}}
}

// clamp bounds one RPC.
func (p *pacer) clamp(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); !ok && time.Until(p.giveUp) < rpc.Timeout {
		return context.WithDeadline(ctx, p.giveUp)
	}
	return rpc.WithTimeout(ctx)
}

// wait pauses before the next try. It is false when there is no time for one.
func (p *pacer) wait(ctx context.Context) bool {
	pause := p.backoff.Pause()
	return time.Until(p.giveUp) > pause && gax.Sleep(ctx, pause) == nil
}

// explain wraps the error of the last try.
func (p *pacer) explain(ctx context.Context, err error, maybe bool) error {
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w (last answer: %w)", cause, err)
	}
	if p.tries > 1 {
		err = fmt.Errorf("gave up after %d tries: %w", p.tries, err)
	}
	if maybe {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return fmt.Errorf("%w%s", err, hint(status.Code(err)))
}

// hint says what a refusal most likely means, where its own text does not
// (docs/cloud-tasks.md#12.2).
func hint(code codes.Code) string {
	switch code {
	case codes.NotFound:
		return " (either the queue or the service account of the token does not exist)"
	case codes.PermissionDenied:
		return " (the caller needs cloudtasks.tasks.create on the queue, and iam.serviceAccounts.actAs on the token's service account)"
	}
	return ""
}
