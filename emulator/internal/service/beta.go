package service

import (
	"context"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Beta is the v2beta3 API of the same queues and tasks: v2 in other messages,
// with the TTLs, the statistics and the burst size that only it has. Its
// methods may be called concurrently and are the RPCs, documented in
// [betapb.CloudTasksServer].
type Beta struct {
	betapb.UnimplementedCloudTasksServer

	v2 *Service
}

// Beta returns the v2beta3 API of s.
func (s *Service) Beta() *Beta { return &Beta{v2: s} }

// errPull is not UNIMPLEMENTED: gcloud takes a 501 for an outage and asks again
// for half a minute.
func errPull(what string) error {
	return invalid("%s: pull queues are not supported by this emulator.", what)
}

func (b *Beta) CreateTask(ctx context.Context, req *betapb.CreateTaskRequest) (*betapb.Task, error) {
	if req.GetTask().GetPullMessage() != nil {
		return nil, errPull("Task.pullMessage")
	}
	return relay[betapb.Task](ctx, req, b.v2.CreateTask)
}

func (b *Beta) GetTask(ctx context.Context, req *betapb.GetTaskRequest) (*betapb.Task, error) {
	return relay[betapb.Task](ctx, req, b.v2.GetTask)
}

func (b *Beta) ListTasks(ctx context.Context, req *betapb.ListTasksRequest) (*betapb.ListTasksResponse, error) {
	return relay[betapb.ListTasksResponse](ctx, req, b.v2.ListTasks)
}

func (b *Beta) RunTask(ctx context.Context, req *betapb.RunTaskRequest) (*betapb.Task, error) {
	return relay[betapb.Task](ctx, req, b.v2.RunTask)
}

func (b *Beta) DeleteTask(ctx context.Context, req *betapb.DeleteTaskRequest) (*emptypb.Empty, error) {
	return relay[emptypb.Empty](ctx, req, b.v2.DeleteTask)
}

func (b *Beta) BatchCreateTasks(ctx context.Context, req *betapb.BatchCreateTasksRequest) (*longrunningpb.Operation, error) {
	for _, r := range req.GetRequests() {
		if r.GetTask().GetPullMessage() != nil {
			return nil, errPull("Task.pullMessage")
		}
	}
	return b.v2.batchCreateTasks(ctx, translate(new(cloudtaskspb.BatchCreateTasksRequest), req), v2beta3)
}

func (b *Beta) BatchDeleteTasks(ctx context.Context, req *betapb.BatchDeleteTasksRequest) (*longrunningpb.Operation, error) {
	return b.v2.batchDeleteTasks(ctx, translate(new(cloudtaskspb.BatchDeleteTasksRequest), req), v2beta3)
}

func (b *Beta) GetIamPolicy(ctx context.Context, req *iampb.GetIamPolicyRequest) (*iampb.Policy, error) {
	return b.v2.GetIamPolicy(ctx, req)
}

func (b *Beta) SetIamPolicy(ctx context.Context, req *iampb.SetIamPolicyRequest) (*iampb.Policy, error) {
	return b.v2.SetIamPolicy(ctx, req)
}

func (b *Beta) TestIamPermissions(ctx context.Context, req *iampb.TestIamPermissionsRequest) (*iampb.TestIamPermissionsResponse, error) {
	return b.v2.TestIamPermissions(ctx, req)
}

func (b *Beta) GetCmekConfig(ctx context.Context, req *betapb.GetCmekConfigRequest) (*betapb.CmekConfig, error) {
	return relay[betapb.CmekConfig](ctx, req, b.v2.GetCmekConfig)
}

func (b *Beta) UpdateCmekConfig(ctx context.Context, req *betapb.UpdateCmekConfigRequest) (*betapb.CmekConfig, error) {
	return relay[betapb.CmekConfig](ctx, req, b.v2.UpdateCmekConfig)
}
