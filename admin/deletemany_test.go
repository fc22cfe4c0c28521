package admin_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/internal/assert"
)

// deleted reads DeleteMany to its end, and returns the names in order with their
// errors.
func deleted(seq iter.Seq2[string, error]) (names []string, errs []error) {
	for name, err := range seq {
		names, errs = append(names, name), append(errs, err)
	}
	return names, errs
}

// unbatched fails calls as a server without batch calls does.
func unbatched(method string, _ int, _ any) error {
	if method == "BatchDeleteTasks" {
		return status.Error(codes.Unimplemented, "unknown method BatchDeleteTasks")
	}
	return nil
}

// TestDeleteMany deletes tasks of two queues, tasks that are gone and malformed
// names, with and without batch calls. Every name is yielded in order with its
// error.
func TestDeleteMany(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before func(string, int, any) error
		calls  map[string]int
	}{
		"in batches": {nil, map[string]int{"BatchDeleteTasks": 5}},
		"singly":     {unbatched, map[string]int{"BatchDeleteTasks": 1, "DeleteTask": 2004}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, srv, rpcs := emulated(t)
			emails := createTasks(t, srv, "emails", 2100, time.Hour)
			billing := createTasks(t, srv, "billing", 3, time.Hour)
			gone := a.Tasks().Name("emails", "gone")
			names := slices.Concat(emails[:1500], []string{gone, "nonsense"}, emails[1500:2000], billing[:2], []string{gone})
			rpcs.made()
			rpcs.before = tc.before

			got, errs := deleted(a.Tasks().DeleteMany(t.Context(), slices.Values(names)))
			assert.Equal(t, got, names)
			for i, err := range errs {
				switch names[i] {
				case gone:
					assert.ErrorIs(t, err, admin.ErrNotFound)
					assert.ErrorContains(t, err, `admin: delete task "`+gone+`"`, "Requested entity was not found.")
				case "nonsense":
					assert.ErrorIs(t, err, admin.ErrInvalid)
				default:
					assert.NoError(t, err)
				}
			}
			assert.Equal(t, len(srv.Tasks("emails")), 100)
			assert.Equal(t, len(srv.Tasks("billing")), 1)
			assert.Equal(t, rpcs.made(), tc.calls)
		})
	}
}

// TestDeleteManySingly shows that the batch call is tried only once on a server
// that does not have it.
func TestDeleteManySingly(t *testing.T) {
	t.Parallel()
	a, srv, rpcs := emulated(t)
	names := createTasks(t, srv, "emails", 20, time.Hour)
	rpcs.before = unbatched
	for _, half := range [][]string{names[:10], names[10:]} {
		_, errs := deleted(a.Tasks().DeleteMany(t.Context(), slices.Values(half)))
		assert.NoError(t, errors.Join(errs...))
	}
	assert.Equal(t, rpcs.made(), map[string]int{"BatchDeleteTasks": 1, "DeleteTask": 20})
	assert.Equal(t, len(srv.Tasks("emails")), 0)
}

// TestDeleteManyTwice deletes a batch whose tasks are all gone. The operation
// then has an error, and its metadata the error of each task.
func TestDeleteManyTwice(t *testing.T) {
	t.Parallel()
	a, srv, _ := emulated(t)
	names := createTasks(t, srv, "emails", 5, time.Hour)
	_, errs := deleted(a.Tasks().DeleteMany(t.Context(), slices.Values(names)))
	assert.NoError(t, errors.Join(errs...))
	_, errs = deleted(a.Tasks().DeleteMany(t.Context(), slices.Values(names)))
	for _, err := range errs {
		assert.ErrorIs(t, err, admin.ErrNotFound)
		assert.Equal(t, status.Code(err), codes.NotFound) // the task's own error, not the operation's ABORTED
	}
}

// slow is a server whose operations take time, and which may lose its first
// response.
type slow struct {
	cloudtaskspb.UnimplementedCloudTasksServer
	longrunningpb.UnimplementedOperationsServer
	takes    time.Duration
	end      *longrunningpb.Operation
	lose     bool
	started  time.Time
	requests []string // request IDs
	polls    int
}

func (s *slow) BatchDeleteTasks(_ context.Context, req *cloudtaskspb.BatchDeleteTasksRequest) (*longrunningpb.Operation, error) {
	s.requests = append(s.requests, req.GetRequestId())
	if len(s.requests) == 1 {
		s.started = time.Now()
		if s.lose {
			return nil, status.Error(codes.Unavailable, "connection reset")
		}
	}
	return &longrunningpb.Operation{Name: "operations/1"}, nil
}

func (s *slow) GetOperation(ctx context.Context, _ *longrunningpb.GetOperationRequest) (*longrunningpb.Operation, error) {
	s.polls++
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > 30*time.Second {
		return nil, status.Error(codes.InvalidArgument, "The deadline cannot be more than 30s in the future.")
	}
	if s.polls == 2 {
		return nil, status.Error(codes.Unavailable, "try again")
	}
	if time.Since(s.started) < s.takes {
		return &longrunningpb.Operation{Name: "operations/1"}, nil
	}
	return s.end, nil
}

func succeeded(t *testing.T) *longrunningpb.Operation {
	t.Helper()
	meta, err := anypb.New(&cloudtaskspb.BatchDeleteTasksMetadata{State: cloudtaskspb.BatchDeleteTasksMetadata_SUCCEEDED})
	assert.NoError(t, err)
	response, err := anypb.New(new(emptypb.Empty))
	assert.NoError(t, err)
	return &longrunningpb.Operation{Name: "operations/1", Done: true, Metadata: meta, Result: &longrunningpb.Operation_Response{Response: response}}
}

func slowly(t *testing.T, srv *slow) *admin.Admin {
	t.Helper()
	a, _ := scripted(t, func(s *grpc.Server) {
		cloudtaskspb.RegisterCloudTasksServer(s, srv)
		longrunningpb.RegisterOperationsServer(s, srv)
	})
	return a
}

// TestDeleteManyFollowsTheOperation waits for an operation of ten minutes,
// through a lost response and a failed poll. The repeated request has the same
// ID.
func TestDeleteManyFollowsTheOperation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &slow{takes: 10 * time.Minute, end: succeeded(t), lose: true}
		a := slowly(t, srv)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, errs := deleted(a.Tasks().DeleteMany(ctx, slices.Values([]string{a.Tasks().Name("emails", "welcome")})))
		assert.NoError(t, errors.Join(errs...))
		assert.Equal(t, len(srv.requests), 2)
		assert.Equal(t, srv.requests[0], srv.requests[1])
		assert.Equal(t, len(srv.requests[0]), 36)
		if took := time.Since(srv.started); took > 10*time.Minute+5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestDeleteManyFails shows the error of an operation without metadata.
func TestDeleteManyFails(t *testing.T) {
	t.Parallel()
	meta, err := anypb.New(&cloudtaskspb.BatchDeleteTasksMetadata{State: cloudtaskspb.BatchDeleteTasksMetadata_FAILED})
	assert.NoError(t, err)
	failed := &longrunningpb.Operation_Error{Error: status.New(codes.PermissionDenied, "not yours").Proto()}
	for name, end := range map[string]*longrunningpb.Operation{
		"with metadata":    {Name: "operations/1", Done: true, Metadata: meta, Result: failed},
		"without metadata": {Name: "operations/1", Done: true, Result: failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := slowly(t, &slow{end: end})
				names := []string{a.Tasks().Name("emails", "a"), a.Tasks().Name("emails", "b")}
				_, errs := deleted(a.Tasks().DeleteMany(t.Context(), slices.Values(names)))
				assert.Equal(t, len(errs), 2)
				for _, err := range errs {
					assert.ErrorIs(t, err, admin.ErrPermission)
					assert.ErrorContains(t, err, "not yours", "cloudtasks.tasks.delete")
				}
			})
		})
	}
}

// TestDeleteManyEndsWithItsContext shows that when the context ends, the names
// already read are yielded and no more are read.
func TestDeleteManyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := slowly(t, &slow{takes: time.Hour, end: succeeded(t)})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		taken := 0
		names := func(yield func(string) bool) {
			for more := true; more; {
				taken++
				more = yield(a.Tasks().Name("emails", fmt.Sprint(taken)))
			}
		}
		_, errs := deleted(a.Tasks().DeleteMany(ctx, names))
		assert.Equal(t, len(errs), 1000)
		assert.Equal(t, taken, 1001) // the first of the next chunk
		for _, err := range errs {
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		}
	})
}

// TestDeleteManyLeft shows that breaking the loop stops the deletion.
func TestDeleteManyLeft(t *testing.T) {
	t.Parallel()
	a, srv, rpcs := emulated(t)
	names := createTasks(t, srv, "emails", 1500, time.Hour)
	rpcs.made()
	for _, err := range a.Tasks().DeleteMany(t.Context(), slices.Values(names)) {
		assert.NoError(t, err)
		break
	}
	assert.Equal(t, rpcs.made(), map[string]int{"BatchDeleteTasks": 1})
	assert.Equal(t, len(srv.Tasks("emails")), 500)
}
