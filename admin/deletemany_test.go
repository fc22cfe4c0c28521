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

// deleted runs DeleteMany to its end and returns the names as they came, and
// how each ended.
func deleted(seq iter.Seq2[string, error]) (names []string, errs []error) {
	for name, err := range seq {
		names, errs = append(names, name), append(errs, err)
	}
	return names, errs
}

// unbatched is what a server answers that has no batches.
func unbatched(method string, _ int, _ any) error {
	if method == "BatchDeleteTasks" {
		return status.Error(codes.Unimplemented, "unknown method BatchDeleteTasks")
	}
	return nil
}

// TestDeleteMany deletes the tasks of two queues, names that are gone already
// and names that are none, with and without batches: every name comes back in
// order, with what became of it.
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
			a, srv, line := emulated(t)
			emails := createTasks(t, srv, "emails", 2100, time.Hour)
			billing := createTasks(t, srv, "billing", 3, time.Hour)
			gone := a.Tasks().Name("emails", "gone")
			names := slices.Concat(emails[:1500], []string{gone, "nonsense"}, emails[1500:2000], billing[:2], []string{gone})
			line.made()
			line.before = tc.before

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
			assert.Equal(t, line.made(), tc.calls)
		})
	}
}

// TestDeleteManySingly shows that a server without batches is asked for one
// once, not once a chunk.
func TestDeleteManySingly(t *testing.T) {
	t.Parallel()
	a, srv, line := emulated(t)
	names := createTasks(t, srv, "emails", 20, time.Hour)
	line.before = unbatched
	for _, half := range [][]string{names[:10], names[10:]} {
		_, errs := deleted(a.Tasks().DeleteMany(t.Context(), slices.Values(half)))
		assert.NoError(t, errors.Join(errs...))
	}
	assert.Equal(t, line.made(), map[string]int{"BatchDeleteTasks": 1, "DeleteTask": 20})
	assert.Equal(t, len(srv.Tasks("emails")), 0)
}

// TestDeleteManyTwice: all of a batch is gone, which the service reports as an
// error of the operation and says task by task in its metadata.
func TestDeleteManyTwice(t *testing.T) {
	t.Parallel()
	a, srv, _ := emulated(t)
	names := createTasks(t, srv, "emails", 5, time.Hour)
	_, errs := deleted(a.Tasks().DeleteMany(t.Context(), slices.Values(names)))
	assert.NoError(t, errors.Join(errs...))
	_, errs = deleted(a.Tasks().DeleteMany(t.Context(), slices.Values(names)))
	for _, err := range errs {
		assert.ErrorIs(t, err, admin.ErrNotFound)
		assert.Equal(t, status.Code(err), codes.NotFound) // its own, not the ABORTED of all
	}
}

// slow runs its operations for a while, and may lose the answer to the first
// request.
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
	answer, err := anypb.New(new(emptypb.Empty))
	assert.NoError(t, err)
	return &longrunningpb.Operation{Name: "operations/1", Done: true, Metadata: meta, Result: &longrunningpb.Operation_Response{Response: answer}}
}

func slowly(t *testing.T, srv *slow) *admin.Admin {
	t.Helper()
	a, _ := scripted(t, func(s *grpc.Server) {
		cloudtaskspb.RegisterCloudTasksServer(s, srv)
		longrunningpb.RegisterOperationsServer(s, srv)
	})
	return a
}

// TestDeleteManyFollowsTheOperation through ten minutes, an answer that was
// lost and a poll that failed. The request keeps its ID, so that it is one.
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

// TestDeleteManyFails: the operation failed as a whole, and says no more.
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

// TestDeleteManyEndsWithItsContext: names that were taken are told of, and no
// more are taken.
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

// TestDeleteManyLeft: whoever leaves the loop stops the deletion.
func TestDeleteManyLeft(t *testing.T) {
	t.Parallel()
	a, srv, line := emulated(t)
	names := createTasks(t, srv, "emails", 1500, time.Hour)
	line.made()
	for _, err := range a.Tasks().DeleteMany(t.Context(), slices.Values(names)) {
		assert.NoError(t, err)
		break
	}
	assert.Equal(t, line.made(), map[string]int{"BatchDeleteTasks": 1})
	assert.Equal(t, len(srv.Tasks("emails")), 500)
}
