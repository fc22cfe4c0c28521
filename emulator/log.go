package emulator

import (
	"context"
	"log/slog"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc/status"
)

// logCall logs an API call: its method, its resource, and its code. The texts of errors are left out, since they may quote what
// was sent.
func (s *Server) logCall(ctx context.Context, method string, req, resp any, err error) {
	level := slog.LevelDebug
	if err != nil {
		level = slog.LevelInfo
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	if err != nil {
		resp = nil // it is a nil of its type
	}
	s.log.LogAttrs(ctx, level, "call", slog.String("method", method),
		slog.String("resource", resource(req, resp)), slog.String("code", status.Code(err).String()))
}

// resource is the name of what a call was about: of the task or queue that it
// returned, else of what was asked for. A batch is about its queue, not
// about the operation that it returns.
func resource(req, resp any) string {
	type named interface{ GetName() string }
	if _, operation := resp.(*longrunningpb.Operation); !operation {
		if r, ok := resp.(named); ok {
			return r.GetName()
		}
	}
	switch r := req.(type) {
	case named:
		return r.GetName()
	case interface{ GetParent() string }:
		return r.GetParent()
	case interface{ GetResource() string }:
		return r.GetResource()
	case *cloudtaskspb.UpdateQueueRequest:
		return r.GetQueue().GetName()
	case *betapb.UpdateQueueRequest:
		return r.GetQueue().GetName()
	}
	return ""
}
