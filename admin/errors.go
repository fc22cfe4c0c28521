package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Errors of this package wrap these; use errors.Is. They wrap the service's own
// error too: status.Code and status.Convert of google.golang.org/grpc/status
// return its code and details.
var (
	// ErrNotFound means that there is no such queue or task. A new queue may not be
	// found for a minute or more. A task no longer exists once it succeeded, was
	// given up or was deleted.
	ErrNotFound = errors.New("not found")

	// ErrAlreadyExists means that a queue of this name exists. Use Ensure to change
	// it.
	ErrAlreadyExists = errors.New("already exists")

	// ErrTombstoned means that a queue of this name was deleted too recently to be
	// created again. The error is a [*TombstonedError], which has the longest wait.
	ErrTombstoned = errors.New("existed too recently")

	// ErrPermission means that the caller has no valid credentials or lacks a
	// permission, which the text names. The service returns it for a project that
	// does not exist, too.
	ErrPermission = errors.New("permission denied")

	// ErrInvalid means that a value is invalid. If that was found before the call,
	// the error is an [*InvalidError], which names the field; otherwise the
	// service's text says more.
	ErrInvalid = errors.New("invalid")
)

// InvalidError is one invalid value. An error may wrap several: all problems
// that can be found before a call are reported together.
type InvalidError struct {
	Field string // such as "QueueConfig.MaxAttempts"; in a file, its key
	Value any
	Want  string // what would be right
}

// Error implements error.
func (e *InvalidError) Error() string {
	return fmt.Sprintf("admin: %s is %s; it must be %s", e.Field, text(e.Value), e.Want)
}

// Is reports whether target is [ErrInvalid].
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

func invalid(field string, value any, want string) error {
	return &InvalidError{Field: field, Value: value, Want: want}
}

// TombstonedError is an [ErrTombstoned] with its details.
type TombstonedError struct {
	Queue string // ID

	// Wait is the longest that the name of a queue stays reserved after its
	// deletion. The service does not say when the queue was deleted, and Google's
	// pages say 3 days
	// (https://cloud.google.com/tasks/docs/manage-queues-and-tasks) and 7
	// (https://cloud.google.com/tasks/docs/quotas): this is the longer. Trying
	// earlier does no harm.
	Wait time.Duration
}

// Error implements error.
func (e *TombstonedError) Error() string {
	return fmt.Sprintf("a queue named %q existed too recently: use another name, or wait until up to %d days after it was deleted", e.Queue, int(e.Wait.Hours())/24)
}

// Is reports whether target is [ErrTombstoned].
func (e *TombstonedError) Is(target error) bool { return target == ErrTombstoned }

const tombstone = 7 * 24 * time.Hour // docs/cloud-tasks.md#6.6

// method describes a call in an error.
type method struct {
	does       string
	permission string // docs/cloud-tasks.md#17
}

var (
	createQueue = method{"create queue", "cloudtasks.queues.create"}
	getQueue    = method{"get queue", "cloudtasks.queues.get"}
	listQueues  = method{"list queues of", "cloudtasks.queues.list"}
	updateQueue = method{"update queue", "cloudtasks.queues.update"}
	pauseQueue  = method{"pause queue", "cloudtasks.queues.pause"}
	resumeQueue = method{"resume queue", "cloudtasks.queues.resume"}
	purgeQueue  = method{"purge queue", "cloudtasks.queues.purge"}
	deleteQueue = method{"delete queue", "cloudtasks.queues.delete"}
	listTasks   = method{"list tasks of queue", "cloudtasks.tasks.list"}
	getTask     = method{"get task", "cloudtasks.tasks.get"}
	deleteTask  = method{"delete task", "cloudtasks.tasks.delete"}
	runTask     = method{"run task", "cloudtasks.tasks.run"}
)

// on wraps the error of a call for the named queue or task. It returns nil for nil.
func (m method) on(ctx context.Context, name string, err error) error {
	if err == nil {
		return nil
	}
	var cause error // why the caller's context ended; gRPC reports only a status
	if ctx.Err() != nil {
		cause = context.Cause(ctx)
	}
	prefix := fmt.Sprintf("admin: %s %q", m.does, name)
	code := status.Code(err)
	switch {
	case cause != nil && (code == codes.Canceled || code == codes.DeadlineExceeded):
		return fmt.Errorf("%s: %w: %w", prefix, cause, err)
	case code == codes.NotFound:
		return fmt.Errorf("%s: %w; %s: %w", prefix, ErrNotFound, m.missing(), err)
	case code == codes.AlreadyExists:
		return fmt.Errorf("%s: %w; Ensure changes it: %w", prefix, ErrAlreadyExists, err)
	case code == codes.FailedPrecondition && (m == createQueue || m == updateQueue):
		return fmt.Errorf("%s: %w: %w", prefix, &TombstonedError{Queue: name, Wait: tombstone}, err)
	case code == codes.PermissionDenied:
		return fmt.Errorf("%s: %w: check that the project is right, that its Cloud Tasks API is enabled, and that the caller has %s: %w", prefix, ErrPermission, m.permission, err)
	case code == codes.Unauthenticated:
		return fmt.Errorf("%s: %w: the caller has no valid credentials; run gcloud auth application-default login, or set Config.Options: %w", prefix, ErrPermission, err)
	case code == codes.InvalidArgument:
		return fmt.Errorf("%s: %w: %w", prefix, ErrInvalid, err)
	case code == codes.ResourceExhausted && m == runTask:
		return fmt.Errorf("%s: the service allows some 60 forced runs a minute: %w", prefix, err) // docs/cloud-tasks.md#13.1
	case code == codes.Unimplemented:
		return fmt.Errorf("%s: this server, an emulator perhaps, does not have the method: %w", prefix, err)
	}
	return fmt.Errorf("%s: %w", prefix, err)
}

// missing returns what NOT_FOUND means for the call.
func (m method) missing() string {
	switch m.does {
	case getTask.does, deleteTask.does, runTask.does:
		return "it succeeded, was given up or deleted, or never was"
	}
	return "Ensure creates it, and a new queue may not be found for a minute"
}

// resolves reports whether a retry may help.
func resolves(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		return true
	}
	return false
}
