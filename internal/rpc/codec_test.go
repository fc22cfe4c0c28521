package rpc_test

import (
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/rpc"
)

// What the codec writes is what gRPC's own writes, in however many pieces it
// comes back.
func TestCodec(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 40 << 10, 5 << 20} {
		sent := &cloudtaskspb.HttpRequest{Url: "https://worker.example.com", Body: make([]byte, size)}
		data, err := rpc.Codec{}.Marshal(sent)
		assert.NoError(t, err)
		plain, err := proto.Marshal(sent)
		assert.NoError(t, err)
		assert.Equal(t, string(data.Materialize()), string(plain))
		data.Free()

		half := len(plain) / 2
		pieces := mem.BufferSlice{mem.SliceBuffer(plain[:half]), mem.SliceBuffer(plain[half:])}
		got := new(cloudtaskspb.HttpRequest)
		assert.NoError(t, rpc.Codec{}.Unmarshal(pieces, got))
		assert.Equal(t, proto.Equal(got, sent), true)
	}
}

func TestCodecRefuses(t *testing.T) {
	t.Parallel()
	_, err := rpc.Codec{}.Marshal("text")
	assert.ErrorContains(t, err, "string is not a message")
	assert.ErrorContains(t, rpc.Codec{}.Unmarshal(nil, "text"), "string is not a message")
	_, err = rpc.Codec{}.Marshal(&cloudtaskspb.Queue{Name: "\xff"})
	assert.ErrorContains(t, err, "UTF-8")
	assert.ErrorContains(t, rpc.Codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer("\xff")}, new(cloudtaskspb.Queue)), "")
}
