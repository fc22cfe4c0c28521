package rpc

import (
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// Buffers are those of a [Codec]. gRPC's own pool has nothing between 32 KiB and
// 1 MiB, and clears the whole of a buffer for each batch of tasks.
var Buffers = mem.NewTieredBufferPool(4<<10, 16<<10, 32<<10, 64<<10, 128<<10, 256<<10, 512<<10, 1<<20, 4<<20)

// Codec is gRPC's own with [Buffers].
type Codec struct{}

// Name is empty because the content type is still the one without a name.
func (Codec) Name() string { return "" }

// Marshal implements encoding.CodecV2.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	message, ok := v.(proto.Message)
	if !ok {
		return nil, notAMessage(v)
	}
	return Encode(proto.Size(message), func(b []byte) ([]byte, error) {
		return proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, message)
	})
}

// Encode has a message of so many bytes appended to a buffer.
func Encode(size int, appendTo func([]byte) ([]byte, error)) (mem.BufferSlice, error) {
	if mem.IsBelowBufferPoolingThreshold(size) {
		data, err := appendTo(make([]byte, 0, size))
		return mem.BufferSlice{mem.SliceBuffer(data)}, err
	}
	buffer := Buffers.Get(size)
	if _, err := appendTo((*buffer)[:0]); err != nil {
		Buffers.Put(buffer)
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(buffer, Buffers)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	message, ok := v.(proto.Message)
	if !ok {
		return notAMessage(v)
	}
	buffer := data.MaterializeToBuffer(Buffers)
	defer buffer.Free()
	return proto.Unmarshal(buffer.ReadOnlyData(), message)
}

func notAMessage(v any) error { return fmt.Errorf("%T is not a message", v) }
