package admin_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/internal/assert"
)

var sentinels = []error{admin.ErrNotFound, admin.ErrAlreadyExists, admin.ErrTombstoned, admin.ErrPermission, admin.ErrInvalid}

// TestErrors makes every method fail with every code. The error must wrap the one
// error for the code and no other, name the method and the resource, and keep the
// service's text, code and details.
func TestErrors(t *testing.T) {
	t.Parallel()
	const text = "The service's own words."
	a, _, rpcs := emulated(t)
	methods := calls(a, "emails", a.Tasks().Name("emails", "welcome"))
	methods["ListQueues"] = func(ctx context.Context) error {
		for _, err := range a.Queues().List(ctx, admin.ListQueues{}) {
			return err
		}
		return nil
	}
	methods["beta.ListQueues"] = func(ctx context.Context) error {
		for _, err := range a.Queues().List(ctx, admin.ListQueues{Stats: true}) {
			return err
		}
		return nil
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		for method, do := range methods {
			if method == "BatchDeleteTasks" && code == codes.Unimplemented {
				continue // falls back to single deletes: TestDeleteManySingly
			}
			t.Run(code.String()+"/"+method, func(t *testing.T) {
				rpcs.before = func(string, int, any) error {
					s, err := status.New(code, text).WithDetails(&errdetails.ErrorInfo{Reason: "SOME_REASON"})
					assert.NoError(t, err)
					return s.Err()
				}
				// Retries stop when the context ends.
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				err := do(ctx)

				want := map[codes.Code]error{
					codes.NotFound:         admin.ErrNotFound,
					codes.AlreadyExists:    admin.ErrAlreadyExists,
					codes.PermissionDenied: admin.ErrPermission,
					codes.Unauthenticated:  admin.ErrPermission,
					codes.InvalidArgument:  admin.ErrInvalid,
				}[code]
				if code == codes.FailedPrecondition && (method == "CreateQueue" || method == "beta.CreateQueue") {
					want = admin.ErrTombstoned
				}
				for _, sentinel := range sentinels {
					assert.Equal(t, errors.Is(err, sentinel), sentinel == want)
				}
				assert.ErrorContains(t, err, "admin: ")
				if retried := []codes.Code{codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded}; slices.Contains(retried, code) && errors.Is(err, context.DeadlineExceeded) {
					return // the error of our own context, which ended the retries
				}
				assert.ErrorContains(t, err, text)
				assert.Equal(t, status.Code(err), code)
				assert.Equal(t, len(status.Convert(err).Details()), 1)
			})
		}
	}
}

// TestErrorsSayWhatToDo tests the texts.
func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	a, _, rpcs := emulated(t)
	methods := calls(a, "emails", a.Tasks().Name("emails", "welcome"))
	for _, tc := range []struct {
		method string
		code   codes.Code
		says   []string
	}{
		{"PauseQueue", codes.NotFound, []string{`admin: pause queue "emails": not found`, "Ensure creates it", "may not be found for a minute"}},
		{"GetTask", codes.NotFound, []string{`admin: get task "` + parent + `/queues/emails/tasks/welcome": not found`, "it succeeded, was given up or deleted, or never was"}},
		{"CreateQueue", codes.AlreadyExists, []string{"already exists", "Ensure changes it"}},
		{"CreateQueue", codes.FailedPrecondition, []string{"use another name, or wait until up to 7 days after it was deleted"}},
		{"ResumeQueue", codes.PermissionDenied, []string{"the project is right", "API is enabled", "cloudtasks.queues.resume"}},
		{"GetTask", codes.PermissionDenied, []string{"cloudtasks.tasks.get and cloudtasks.tasks.fullView"}},
		{"PurgeQueue", codes.Unauthenticated, []string{"gcloud auth application-default login", "Config.Options"}},
		{"RunTask", codes.ResourceExhausted, []string{"60 forced runs a minute"}},
		{"beta.GetQueue", codes.Unimplemented, []string{"an emulator perhaps, does not have the method"}},
	} {
		t.Run(tc.method+"/"+tc.code.String(), func(t *testing.T) {
			rpcs.before = func(string, int, any) error { return status.Error(tc.code, "text") }
			assert.ErrorContains(t, methods[tc.method](t.Context()), tc.says...)
		})
	}
}

// TestCancelled shows that the caller's own reason for giving up is in the
// error, for every method.
func TestCancelled(t *testing.T) {
	t.Parallel()
	a, _, _ := emulated(t)
	reason := errors.New("the operator pressed Ctrl-C")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	for method, do := range calls(a, "emails", a.Tasks().Name("emails", "welcome")) {
		t.Run(method, func(t *testing.T) {
			assert.ErrorIs(t, do(ctx), reason)
		})
	}
}

// TestRetries shows which calls are retried: those that are idempotent.
func TestRetries(t *testing.T) {
	t.Parallel()
	for method, tries := range map[string]int{
		"GetQueue": 3, "PauseQueue": 3, "ResumeQueue": 3, "DeleteQueue": 3, "ListTasks": 3, "GetTask": 3, "DeleteTask": 3, "BatchDeleteTasks": 3,
		"CreateQueue": 1, "PurgeQueue": 1, "RunTask": 1,
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, _, rpcs := emulated(t)
				rpcs.before = func(_ string, nth int, _ any) error {
					if nth < 3 {
						return status.Error(codes.Unavailable, "try again")
					}
					return nil
				}
				err := calls(a, "emails", a.Tasks().Name("emails", "welcome"))[method](t.Context())
				assert.Equal(t, rpcs.made()[method], tries)
				if tries == 1 {
					assert.Equal(t, status.Code(err), codes.Unavailable)
				}
			})
		})
	}
}
