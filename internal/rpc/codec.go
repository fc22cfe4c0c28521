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
	size := proto.Size(message)
	if mem.IsBelowBufferPoolingThreshold(size) {
		data, err := (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(make([]byte, 0, size), message)
		return mem.BufferSlice{mem.SliceBuffer(data)}, err
	}
	buffer := Buffers.Get(size)
	if _, err := (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend((*buffer)[:0], message); err != nil {
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
