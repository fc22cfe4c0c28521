package create

import (
	"context"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/brillconsulting/handoff/internal/wire"
)

// Lean is an interceptor for the client of a [Creator]. The service answers a
// create with the whole task, headers and all, and decoding that takes half
// the allocations of the call; Lean decodes the name alone. Without it, as on
// a connection that was made elsewhere, everything works the same.
func Lean(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	switch reply := reply.(type) {
	case *cloudtaskspb.Task:
		// A message without fields keeps what it is sent as it came.
		var raw emptypb.Empty
		if err := invoke(ctx, method, req, &raw, cc, opts...); err != nil {
			return err
		}
		reply.Name = string(field(raw.ProtoReflect().GetUnknown(), 1))
		if reply.Name == "" {
			return status.Error(codes.Internal, "the answer holds no task")
		}
		return nil
	case *longrunningpb.Operation:
		if err := invoke(ctx, method, req, reply, cc, opts...); err != nil {
			return err
		}
		if found, ok := ctx.Value(foundKey{}).(found); ok && reply.GetResponse() != nil {
			eachTask(reply.GetResponse().Value, found)
			reply.GetResponse().Value = nil
		}
		return nil
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// Pack encodes the headers of a task and puts them where its message keeps
// fields that it does not know, to be sent like any other. What is on the wire
// is the same; but the encoder goes through maps by reflection, at four
// allocations an entry. Afterwards the headers cannot be read from the message.
func Pack(t *cloudtaskspb.Task) {
	if r := t.GetHttpRequest(); r != nil {
		r.ProtoReflect().SetUnknown(packed(headersOfHTTP, r.Headers))
		r.Headers = nil
	}
	if r := t.GetAppEngineHttpRequest(); r != nil {
		r.ProtoReflect().SetUnknown(packed(headersOfAppEngine, r.Headers))
		r.Headers = nil
	}
}

func packed(number protowire.Number, headers map[string]string) []byte {
	size := 0
	for name, value := range headers {
		size += len(name) + len(value) + framing
	}
	b := make([]byte, 0, size)
	for name, value := range headers {
		b = protowire.AppendTag(b, number, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(protowire.SizeTag(1)+protowire.SizeBytes(len(name))+protowire.SizeTag(2)+protowire.SizeBytes(len(value))))
		b = protowire.AppendTag(b, 1, protowire.BytesType)
		b = protowire.AppendString(b, name)
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = protowire.AppendString(b, value)
	}
	return b
}

// found is called by Lean for each task of a batch. It must keep neither.
type found func(id, name []byte)

type foundKey struct{}

// The numbers of the fields that are read here, in the messages of
// google.cloud.tasks.v2.
const (
	tasksOfResponse    = 1
	nameOfTask         = 1
	appEngineOfTask    = 2
	httpOfTask         = 3
	headersOfHTTP      = 3
	headersOfAppEngine = 4
)

// eachTask goes through an encoded BatchCreateTasksResponse.
func eachTask(response []byte, found found) {
	fields(response, func(number protowire.Number, task []byte) {
		if number != tasksOfResponse {
			return
		}
		var id, name []byte
		fields(task, func(number protowire.Number, value []byte) {
			switch number {
			case nameOfTask:
				name = value
			case appEngineOfTask:
				id = stampedID(value, headersOfAppEngine)
			case httpOfTask:
				id = stampedID(value, headersOfHTTP)
			}
		})
		found(id, name)
	})
}

// stampedID finds the handoff ID among the headers of an encoded request.
func stampedID(request []byte, headers protowire.Number) (id []byte) {
	fields(request, func(number protowire.Number, entry []byte) {
		if number == headers && string(field(entry, 1)) == wire.HeaderID {
			id = field(entry, 2)
		}
	})
	return id
}

// field returns the last value of a field that holds bytes, as messages,
// strings and map entries do.
func field(message []byte, want protowire.Number) (value []byte) {
	fields(message, func(number protowire.Number, v []byte) {
		if number == want {
			value = v
		}
	})
	return value
}

// fields goes through the fields of an encoded message that hold bytes, up to
// its end or to where it is broken.
func fields(message []byte, do func(protowire.Number, []byte)) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return
		}
		message = message[n:]
		if kind == protowire.BytesType {
			value, n := protowire.ConsumeBytes(message)
			if n < 0 {
				return
			}
			do(number, value)
			message = message[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return
		}
		message = message[n:]
	}
}
