package emulator

import (
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/mem"

	"github.com/brillconsulting/handoff/emulator/internal/encode"
	"github.com/brillconsulting/handoff/internal/rpc"
)

// codec encodes tasks, which most calls are answered with, as package encode
// does: what a method answers with must be its alone.
type codec struct{ rpc.Codec }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	task, ok := v.(*cloudtaskspb.Task)
	if !ok {
		return c.Codec.Marshal(v)
	}
	t := encode.Measure(task)
	return rpc.Encode(t.Size, t.Append)
}
