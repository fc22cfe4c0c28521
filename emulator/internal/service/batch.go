package service

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/emulator/internal/names"
)

// Most items of a batch (docs/cloud-tasks.md#3.5).
const (
	maxBatchCreate = 100
	maxBatchDelete = 1000
)

// version is the API version of the messages of an operation.
type version struct {
	name string
	say  func(proto.Message) proto.Message // from v2
}

var v2 = version{"v2", func(m proto.Message) proto.Message { return m }}

// BatchCreateTasks creates the tasks before it returns: its operation is done
// from the start. The tasks are in the order of their requests, without gaps
// for those that failed (unknown, docs/cloud-tasks.md#3.5).
func (s *Service) BatchCreateTasks(ctx context.Context, req *cloudtaskspb.BatchCreateTasksRequest) (*longrunningpb.Operation, error) {
	return s.batchCreateTasks(ctx, req, v2)
}

func (s *Service) batchCreateTasks(ctx context.Context, req *cloudtaskspb.BatchCreateTasksRequest, v version) (*longrunningpb.Operation, error) {
	q, err := s.queueOfTasks(req.GetParent())
	if err != nil {
		return nil, err
	}
	if err := batchSize(len(req.GetRequests()), maxBatchCreate, "requests"); err != nil {
		return nil, err
	}
	for i, r := range req.GetRequests() {
		if r.GetParent() != req.GetParent() {
			return nil, invalid("requests[%d].parent must be the same as parent.", i)
		}
	}
	name, err := operationName(q.Name(), req.GetRequestId())
	if err != nil {
		return nil, err
	}
	return s.operations.once(ctx, name, v.name+" create "+q.Name(), func() (*longrunningpb.Operation, error) {
		return s.batchCreate(name, q, req.GetRequests(), v)
	})
}

func (s *Service) batchCreate(name string, q *engine.Queue, requests []*cloudtaskspb.CreateTaskRequest, v version) (*longrunningpb.Operation, error) {
	start := time.Now()
	var created []*cloudtaskspb.Task
	failed := make(map[int32]*rpcstatus.Status)
	for i, r := range requests {
		full, err := isFull(r.GetResponseView())
		var t *cloudtaskspb.Task
		if err == nil {
			t, err = s.createTask(q, r.GetTask(), full)
		}
		if err != nil {
			failed[int32(i)] = status.Convert(err).Proto()
			continue
		}
		created = append(created, t)
	}
	state := cloudtaskspb.BatchCreateTasksMetadata_SUCCEEDED
	switch {
	case len(created) == 0:
		state = cloudtaskspb.BatchCreateTasksMetadata_FAILED
	case len(failed) > 0:
		state = cloudtaskspb.BatchCreateTasksMetadata_PARTIALLY_SUCCEEDED
	}
	meta := &cloudtaskspb.BatchCreateTasksMetadata{
		StartTime: timestamppb.New(start), EndTime: timestamppb.Now(), State: state, FailedRequests: failed,
	}
	if len(created) == 0 {
		return finished(name, v.say(meta), nil)
	}
	return finished(name, v.say(meta), v.say(&cloudtaskspb.BatchCreateTasksResponse{Tasks: created}))
}

// BatchDeleteTasks deletes the tasks before it returns.
func (s *Service) BatchDeleteTasks(ctx context.Context, req *cloudtaskspb.BatchDeleteTasksRequest) (*longrunningpb.Operation, error) {
	return s.batchDeleteTasks(ctx, req, v2)
}

func (s *Service) batchDeleteTasks(ctx context.Context, req *cloudtaskspb.BatchDeleteTasksRequest, v version) (*longrunningpb.Operation, error) {
	q, err := s.queue(req.GetParent())
	if err != nil {
		return nil, err
	}
	if err := batchSize(len(req.GetNames()), maxBatchDelete, "names"); err != nil {
		return nil, err
	}
	for i, task := range req.GetNames() {
		if queue, _, ok := names.SplitTask(task); !ok || queue != req.GetParent() {
			return nil, invalid("names[%d] must be a task in %s.", i, req.GetParent())
		}
	}
	name, err := operationName(q.Name(), req.GetRequestId())
	if err != nil {
		return nil, err
	}
	return s.operations.once(ctx, name, v.name+" delete "+q.Name(), func() (*longrunningpb.Operation, error) {
		return batchDelete(name, q, req.GetNames(), v)
	})
}

func batchDelete(name string, q *engine.Queue, tasks []string, v version) (*longrunningpb.Operation, error) {
	start := time.Now()
	failed := make(map[int32]*rpcstatus.Status)
	for i, task := range tasks {
		_, id, _ := names.SplitTask(task)
		if err := q.Remove(id); err != nil {
			failed[int32(i)] = status.Convert(engineError(err)).Proto()
		}
	}
	state := cloudtaskspb.BatchDeleteTasksMetadata_SUCCEEDED
	switch {
	case len(failed) == len(tasks):
		state = cloudtaskspb.BatchDeleteTasksMetadata_FAILED
	case len(failed) > 0:
		state = cloudtaskspb.BatchDeleteTasksMetadata_PARTIALLY_SUCCEEDED
	}
	meta := &cloudtaskspb.BatchDeleteTasksMetadata{
		StartTime: timestamppb.New(start), EndTime: timestamppb.Now(), State: state, FailedRequests: failed,
	}
	if len(failed) == len(tasks) {
		return finished(name, v.say(meta), nil)
	}
	return finished(name, v.say(meta), new(emptypb.Empty))
}

func batchSize(n, limit int, field string) error {
	if n == 0 || n > limit {
		return invalid("%s must have between 1 and %d items, not %d.", field, limit, n)
	}
	return nil
}

// uuid4 matches a UUID of version 4 (RFC 9562, section 5.4).
var uuid4 = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$`)

// operationName is the name of the operation of a batch. A request ID is its
// ID, so that the same request makes the same operation.
func operationName(queue, requestID string) (string, error) {
	location, _, _ := names.SplitQueue(queue)
	if requestID == "" {
		requestID = strings.ToLower(rand.Text())
	} else if !uuid4.MatchString(requestID) {
		return "", invalid("request_id must be a UUID of version 4.")
	}
	return location + "/operations/" + requestID, nil
}

// finished returns an operation that is done, with a response, or with the
// documented error if nothing of it succeeded.
func finished(name string, meta, response proto.Message) (*longrunningpb.Operation, error) {
	op := &longrunningpb.Operation{Name: name, Done: true}
	var err error
	if op.Metadata, err = anypb.New(meta); err != nil {
		return nil, err
	}
	if response == nil {
		op.Result = &longrunningpb.Operation_Error{Error: &rpcstatus.Status{
			Code: int32(codes.Aborted),
			Message: fmt.Sprintf("None of the requests succeeded, refer to %s.failed_requests for individual error details",
				meta.ProtoReflect().Descriptor().Name()),
		}}
		return op, nil
	}
	resp, err := anypb.New(response)
	op.Result = &longrunningpb.Operation_Response{Response: resp}
	return op, err
}
