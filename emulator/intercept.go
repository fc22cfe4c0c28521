package emulator

import (
	"context"
	"net/url"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/brillconsulting/handoff/emulator/internal/service"
)

// maxDeadline is the longest deadline that the service lets a call have
// (docs/cloud-tasks.md#1.2).
const maxDeadline = 30 * time.Second

// intercept is around every call, over gRPC and over REST.
func (s *Server) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := s.call(ctx, info.FullMethod, func() (any, error) {
		if err := checkCall(ctx, req); err != nil {
			return nil, err
		}
		return handler(ctx, req)
	})
	s.logCall(ctx, info.FullMethod, req, resp, err)
	return resp, shorten(err)
}

// maxErrorText is more than any error has that quotes no oversized name.
const maxErrorText = 4 << 10

// shorten cuts the text of an error. Over gRPC it is a header, and clients end
// the stream over one that is too large, so that the error would not arrive.
func shorten(err error) error {
	text := status.Convert(err).Message()
	if len(text) <= maxErrorText {
		return err
	}
	return status.Error(status.Code(err), strings.ToValidUTF8(text[:maxErrorText], "")+"…") // the details quote the same
}

// checkCall refuses what is wrong with calls of any method.
func checkCall(ctx context.Context, req any) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) > maxDeadline {
		return status.Errorf(codes.InvalidArgument,
			"The request deadline is %s. The deadline cannot be more than 30s in the future.", service.Pacific(deadline))
	}
	if m, ok := req.(proto.Message); ok { // not those of BufferTask
		return checkEnums(m.ProtoReflect())
	}
	return nil
}

// checkEnums refuses numbers that are not in their enum. Protocol buffers let them
// through. The service's text is unknown.
func checkEnums(m protoreflect.Message) (err error) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap(): // headers: no map holds messages or enums
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				if err = checkEnums(value.List().Get(i).Message()); err != nil {
					break
				}
			}
		case field.Message() != nil:
			err = checkEnums(value.Message())
		case field.Enum() != nil && !field.IsList() && field.Enum().Values().ByNumber(value.Enum()) == nil:
			err = status.Errorf(codes.InvalidArgument, "Invalid value for %s.%s: %d.", m.Descriptor().Name(), field.JSONName(), value.Enum())
		}
		return err == nil
	})
	return err
}

// routingHeader names the resource of a gRPC call, for Google's load balancers
// (https://google.aip.dev/client-libraries/4222). Google's clients send it.
const routingHeader = "x-goog-request-params"

// checkRouting returns an interceptor that refuses calls whose routing header
// names another resource than the request and, if strict, those without one
// (docs/cloud-tasks.md#1.2). The service's texts are unknown.
func (s *Server) checkRouting(strict bool) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		key, want := routing(req)
		if key == "" {
			return handler(ctx, req)
		}
		sent := false
		for _, header := range metadata.ValueFromIncomingContext(ctx, routingHeader) {
			params, err := url.ParseQuery(header)
			if err != nil {
				return nil, status.Errorf(codes.InvalidArgument, "The header %s is not URL-encoded: %q.", routingHeader, header)
			}
			if !params.Has(key) {
				continue
			}
			sent = true
			if got := params.Get(key); got != want {
				return nil, status.Errorf(codes.InvalidArgument, "The header %s has %s=%q, but the request has %q.", routingHeader, key, got, want)
			}
		}
		if strict && !sent {
			return nil, status.Errorf(codes.InvalidArgument, "The header %s is missing: it must be %s=%s.", routingHeader, key, url.QueryEscape(want))
		}
		return handler(ctx, req)
	}
}

// routing returns what the routing header of a request must have. There is no key
// for requests that need none.
func routing(req any) (key, value string) {
	switch r := req.(type) {
	case *cloudtaskspb.UpdateQueueRequest:
		return "queue.name", r.GetQueue().GetName()
	case *betapb.UpdateQueueRequest:
		return "queue.name", r.GetQueue().GetName()
	case *cloudtaskspb.UpdateCmekConfigRequest:
		return "cmek_config.name", r.GetCmekConfig().GetName()
	case *betapb.UpdateCmekConfigRequest:
		return "cmek_config.name", r.GetCmekConfig().GetName()
	case interface{ GetParent() string }:
		return "parent", r.GetParent()
	case interface{ GetResource() string }:
		return "resource", r.GetResource()
	case interface{ GetName() string }:
		return "name", r.GetName()
	}
	return "", ""
}
