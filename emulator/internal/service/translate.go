package service

import (
	"context"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The messages of v2beta3 have the names of v2's, and so have their fields and
// the numbers of their enums; only the numbers of fields differ, and what one
// version lacks (docs/cloud-tasks.md#5.1).

// translate copies src into dst, a message of the other version, field by name.
// Fields that dst does not have are left out. What has the same type in both is
// shared, not copied.
func translate[M proto.Message](dst M, src proto.Message) M {
	translateFields(dst.ProtoReflect(), src.ProtoReflect())
	return dst
}

func translateFields(dst, src protoreflect.Message) {
	for from, value := range src.Range {
		to := dst.Descriptor().Fields().ByName(from.Name())
		switch {
		case to == nil:
		case from.IsMap() || from.Message() == to.Message(): // no map holds messages of a version
			dst.Set(to, value)
		case from.IsList():
			list := dst.Mutable(to).List()
			for i := range value.List().Len() {
				translateFields(list.AppendMutable().Message(), value.List().Get(i).Message())
			}
		default:
			translateFields(dst.Mutable(to).Message(), value.Message())
		}
	}
}

// relay serves a request of v2beta3 with the method of v2.
func relay[R, Q any, PR message[R], PQ message[Q], A proto.Message](
	ctx context.Context, req proto.Message, method func(context.Context, PQ) (A, error),
) (PR, error) {
	resp, err := method(ctx, translate(PQ(new(Q)), req))
	if err != nil {
		return nil, err
	}
	return translate(PR(new(R)), resp), nil
}

// message is a pointer to M, which is a message.
type message[M any] interface {
	*M
	proto.Message
}

// v2beta3 converts the messages of operations to that version.
var v2beta3 = version{"v2beta3", func(m proto.Message) proto.Message {
	switch m := m.(type) {
	case *cloudtaskspb.BatchCreateTasksMetadata:
		return translate(new(betapb.BatchCreateTasksMetadata), m)
	case *cloudtaskspb.BatchCreateTasksResponse:
		return translate(new(betapb.BatchCreateTasksResponse), m)
	case *cloudtaskspb.BatchDeleteTasksMetadata:
		return translate(new(betapb.BatchDeleteTasksMetadata), m)
	}
	return m
}}
