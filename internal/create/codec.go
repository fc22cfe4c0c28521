package create

import (
	"errors"
	"iter"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	gax "github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/brillconsulting/handoff/internal/rpc"
	"github.com/brillconsulting/handoff/internal/wire"
)

// codec decodes no tasks. The service answers a create with the whole task,
// headers and all; of one task it takes the name, and those of a batch it
// passes to found, which must keep neither.
type codec struct {
	rpc.Codec
	found func(id, name []byte)
}

// lean has a call use the codec.
func (c codec) lean() gax.CallOption { return gax.WithGRPCOptions(grpc.ForceCodecV2(c)) }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	task, isTask := v.(*cloudtaskspb.Task)
	op, isOperation := v.(*longrunningpb.Operation)
	if !isTask && !isOperation {
		return c.Codec.Unmarshal(data, v)
	}
	buffer := data.MaterializeToBuffer(rpc.Buffers)
	defer buffer.Free()
	if isOperation {
		return c.operation(buffer.ReadOnlyData(), op)
	}
	task.Name = string(field(buffer.ReadOnlyData(), nameOfTask))
	if task.Name == "" {
		return errors.New("the answer holds no task")
	}
	return nil
}

// operation decodes all but the tasks of its response.
func (c codec) operation(message []byte, op *longrunningpb.Operation) error {
	var response, rest []byte
	for left := message; len(left) > 0; {
		number, kind, n := protowire.ConsumeField(left)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if number == responseOfOperation && kind == protowire.BytesType {
			response = left[:n]
		} else {
			rest = append(rest, left[:n]...)
		}
		left = left[n:]
	}
	if err := proto.Unmarshal(rest, op); err != nil || response == nil {
		return err
	}
	response = field(response, responseOfOperation)
	op.Result = &longrunningpb.Operation_Response{Response: &anypb.Any{TypeUrl: string(field(response, urlOfAny))}}
	eachTask(field(response, valueOfAny), c.found)
	return nil
}

// The numbers of the fields that are written and read here, in the messages of
// google.cloud.tasks.v2 and those around them.
const (
	responseOfOperation protowire.Number = 5
	urlOfAny            protowire.Number = 1
	valueOfAny          protowire.Number = 2
	tasksOfResponse     protowire.Number = 1
	nameOfTask          protowire.Number = 1
	appEngineOfTask     protowire.Number = 2
	httpOfTask          protowire.Number = 3
	headersOfHTTP       protowire.Number = 3
	bodyOfHTTP          protowire.Number = 4
	headersOfAppEngine  protowire.Number = 4
	bodyOfAppEngine     protowire.Number = 5
)

// eachTask goes through an encoded BatchCreateTasksResponse.
func eachTask(response []byte, found func(id, name []byte)) {
	for number, task := range fields(response) {
		if number != tasksOfResponse {
			continue
		}
		var id, name []byte
		for number, value := range fields(task) {
			switch number {
			case nameOfTask:
				name = value
			case appEngineOfTask:
				id = stampedID(value, headersOfAppEngine)
			case httpOfTask:
				id = stampedID(value, headersOfHTTP)
			}
		}
		found(id, name)
	}
}

// stampedID finds the handoff ID among the headers of an encoded request.
func stampedID(request []byte, headers protowire.Number) []byte {
	for number, entry := range fields(request) {
		if number == headers && string(field(entry, 1)) == wire.HeaderID {
			return field(entry, 2)
		}
	}
	return nil
}

// field returns the last value of a field that holds bytes, as messages,
// strings and map entries do.
func field(message []byte, want protowire.Number) (value []byte) {
	for number, v := range fields(message) {
		if number == want {
			value = v
		}
	}
	return value
}

// fields goes through the fields of an encoded message that hold bytes, up to
// its end or to where it is broken.
func fields(message []byte) iter.Seq2[protowire.Number, []byte] {
	return func(yield func(protowire.Number, []byte) bool) {
		for len(message) > 0 {
			number, kind, n := protowire.ConsumeTag(message)
			if n < 0 {
				return
			}
			message = message[n:]
			if kind != protowire.BytesType {
				if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
					return
				}
				message = message[n:]
				continue
			}
			value, n := protowire.ConsumeBytes(message)
			if n < 0 || !yield(number, value) {
				return
			}
			message = message[n:]
		}
	}
}
