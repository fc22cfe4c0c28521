package create_test

import (
	"context"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/create"
	"github.com/brillconsulting/handoff/internal/wire"
)

func overHTTP(name string, headers map[string]string) *cloudtaskspb.Task {
	return &cloudtaskspb.Task{Name: name, MessageType: &cloudtaskspb.Task_HttpRequest{
		HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://h/", Headers: headers, Body: []byte("b")},
	}}
}

func toAppEngine(name string, headers map[string]string) *cloudtaskspb.Task {
	return &cloudtaskspb.Task{Name: name, MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{
		AppEngineHttpRequest: &cloudtaskspb.AppEngineHttpRequest{RelativeUri: "/", Headers: headers, Body: []byte("b")},
	}}
}

// What Pack sends is what the encoder would have sent.
func FuzzPack(f *testing.F) {
	f.Add("Content-Type", "application/json", "Handoff-Id", "x")
	f.Add("", "", "a", "é")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		headers := map[string]string{name1: value1, name2: value2}
		for _, task := range []*cloudtaskspb.Task{overHTTP("n", headers), toAppEngine("n", headers)} {
			want := proto.CloneOf(task)
			plain, err := proto.Marshal(want)
			if err != nil {
				t.Skip("not UTF-8")
			}
			create.Pack(task)
			encoded, err := proto.Marshal(task)
			assert.NoError(t, err)
			assert.Equal(t, len(encoded), len(plain))
			got := new(cloudtaskspb.Task)
			assert.NoError(t, proto.Unmarshal(encoded, got))
			if !proto.Equal(got, want) {
				t.Fatalf("got  %v\nwant %v", got, want)
			}
		}
	})
}

// What is read off a batch's answer is what the decoder would have read, and
// an answer that is broken breaks nothing here.
func FuzzEachTask(f *testing.F) {
	answer, err := proto.Marshal(&cloudtaskspb.BatchCreateTasksResponse{Tasks: []*cloudtaskspb.Task{
		overHTTP("a", map[string]string{wire.HeaderID: "1", "X-Other": "2"}),
		toAppEngine("b", map[string]string{wire.HeaderID: "2"}),
		overHTTP("c", nil),
	}})
	assert.NoError(f, err)
	f.Add(answer)
	f.Add(answer[:len(answer)-3])
	f.Add([]byte{0x0a, 0xff})
	f.Fuzz(func(t *testing.T, answer []byte) {
		var got [][2]string
		create.EachTask(answer, func(id, name []byte) { got = append(got, [2]string{string(id), string(name)}) })
		decoded := new(cloudtaskspb.BatchCreateTasksResponse)
		if proto.Unmarshal(answer, decoded) != nil {
			return
		}
		assert.Equal(t, len(got), len(decoded.Tasks))
		for i, task := range decoded.Tasks {
			assert.Equal(t, got[i][1], task.Name)
		}
	})
}

func TestEachTask(t *testing.T) {
	t.Parallel()
	answer, err := proto.Marshal(&cloudtaskspb.BatchCreateTasksResponse{Tasks: []*cloudtaskspb.Task{
		overHTTP("a", map[string]string{wire.HeaderID: "1", "X-Other": "2"}),
		toAppEngine("b", map[string]string{wire.HeaderID: "2"}),
		overHTTP("c", nil),
	}})
	assert.NoError(t, err)
	var got []string
	create.EachTask(answer, func(id, name []byte) { got = append(got, string(id)+"="+string(name)) })
	assert.Equal(t, got, []string{"1=a", "2=b", "=c"})
}

// A success that holds no task is not one.
func TestLeanEmptyAnswer(t *testing.T) {
	t.Parallel()
	empty := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	err := create.Lean(t.Context(), "", nil, new(cloudtaskspb.Task), nil, empty)
	assert.Equal(t, status.Code(err), codes.Internal)
}
