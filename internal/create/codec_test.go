package create_test

import (
	"strings"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/create"
	"github.com/brillconsulting/handoff/internal/wire"
)

func overHTTP(name string, headers map[string]string, body []byte) *cloudtaskspb.Task {
	return &cloudtaskspb.Task{Name: name, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: -1}, MessageType: &cloudtaskspb.Task_HttpRequest{
		HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://h/", Headers: headers, Body: body},
	}}
}

func toAppEngine(name string, headers map[string]string, body []byte) *cloudtaskspb.Task {
	return &cloudtaskspb.Task{Name: name, MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{
		AppEngineHttpRequest: &cloudtaskspb.AppEngineHttpRequest{RelativeUri: "/", Headers: headers, Body: body},
	}}
}

// What a form is filled with is what the encoder would have sent.
func FuzzFill(f *testing.F) {
	f.Add("Content-Type", "application/json", "Handoff-Id", "x", []byte("{}"))
	f.Add("", "", "a", "é", []byte{})
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string, body []byte) {
		for _, text := range []*string{&name1, &value1, &name2, &value2} {
			*text = strings.ToValidUTF8(*text, "?") // anything else is refused before
		}
		headers := map[string]string{name1: value1, name2: value2}
		for _, want := range []*cloudtaskspb.Task{overHTTP("n", headers, body), toAppEngine("n", headers, body)} {
			plain, err := proto.Marshal(want)
			assert.NoError(t, err)
			bare := overHTTP("", nil, nil)
			if want.GetAppEngineHttpRequest() != nil {
				bare = toAppEngine("", nil, nil)
			}
			form, err := create.NewForm(bare)
			assert.NoError(t, err)
			list := create.HeadersOf(headers)
			list.Set(name1, headers[name1])
			req := &cloudtaskspb.CreateTaskRequest{Parent: "p", Task: &cloudtaskspb.Task{Name: "n"}}
			bound, err := form.Fill(req, list, body)
			assert.NoError(t, err)
			encoded, err := proto.Marshal(req.Task)
			assert.NoError(t, err)
			assert.Equal(t, len(encoded), len(plain))
			assert.Equal(t, bound >= proto.Size(req), true)
			got := new(cloudtaskspb.Task)
			assert.NoError(t, proto.Unmarshal(encoded, got))
			if !proto.Equal(got, want) {
				t.Fatalf("got  %v\nwant %v", got, want)
			}
		}
	})
}

// What cannot be encoded is refused before any call.
func TestFormNotUTF8(t *testing.T) {
	t.Parallel()
	_, err := create.NewForm(overHTTP("", nil, nil))
	assert.NoError(t, err)
	task := overHTTP("", nil, nil)
	task.GetHttpRequest().AuthorizationHeader = &cloudtaskspb.HttpRequest_OidcToken{
		OidcToken: &cloudtaskspb.OidcToken{ServiceAccountEmail: "caller@\xff"},
	}
	_, err = create.NewForm(task)
	assert.ErrorContains(t, err, "UTF-8")

	form, err := create.NewForm(overHTTP("", nil, nil))
	assert.NoError(t, err)
	req := &cloudtaskspb.CreateTaskRequest{Parent: "p", Task: new(cloudtaskspb.Task)}
	_, err = form.Fill(req, create.Headers{{Name: "X-Other", Value: "secret\xff"}}, nil)
	assert.ErrorContains(t, err, "X-Other", "UTF-8")
	assert.Equal(t, strings.Contains(err.Error(), "secret"), false)
}

// answered is a batch call's operation as the service sends it.
func answered(tasks ...*cloudtaskspb.Task) *longrunningpb.Operation {
	response, err := anypb.New(&cloudtaskspb.BatchCreateTasksResponse{Tasks: tasks})
	if err != nil {
		panic(err)
	}
	metadata, err := anypb.New(&cloudtaskspb.BatchCreateTasksMetadata{State: cloudtaskspb.BatchCreateTasksMetadata_SUCCEEDED})
	if err != nil {
		panic(err)
	}
	return &longrunningpb.Operation{
		Name: "operations/1", Metadata: metadata, Done: true,
		Result: &longrunningpb.Operation_Response{Response: response},
	}
}

var threeTasks = []*cloudtaskspb.Task{
	overHTTP("a", map[string]string{wire.HeaderID: "1", "X-Other": "2"}, []byte("b")),
	toAppEngine("b", map[string]string{wire.HeaderID: "2"}, []byte("b")),
	overHTTP("c", nil, []byte("b")),
}

// What is read off a batch's answer is what the decoder would have read, but
// for the tasks, and an answer that is broken breaks nothing here.
func FuzzOperation(f *testing.F) {
	answer, err := proto.Marshal(answered(threeTasks...))
	assert.NoError(f, err)
	f.Add(answer)
	f.Add(answer[:len(answer)-3])
	f.Add([]byte{0x0a, 0xff})
	inside := answered(threeTasks...)
	inside.GetResponse().Value = inside.GetResponse().Value[:len(inside.GetResponse().Value)-3]
	broken, err := proto.Marshal(inside)
	assert.NoError(f, err)
	f.Add(broken)
	f.Add([]byte("\x2a\x00\x28\x30\x30\x30")) // field 5 once more, as a number
	f.Fuzz(func(t *testing.T, answer []byte) {
		var found []string
		got, want := new(longrunningpb.Operation), new(longrunningpb.Operation)
		err := create.Unmarshal(answer, got, func(_, name []byte) { found = append(found, string(name)) })
		if proto.Unmarshal(answer, want) != nil {
			return
		}
		assert.NoError(t, err)
		if want.GetResponse() == nil {
			return
		}
		decoded := new(cloudtaskspb.BatchCreateTasksResponse)
		if proto.Unmarshal(want.GetResponse().Value, decoded) == nil {
			assert.Equal(t, len(found), len(decoded.Tasks))
			for i, task := range decoded.Tasks {
				assert.Equal(t, found[i], task.Name)
			}
		}
		if again, err := proto.Marshal(want); err != nil || len(again) != len(answer) {
			return // written in an odd way, as by repeating fields
		}
		want.GetResponse().Value = nil
		want.GetResponse().ProtoReflect().SetUnknown(nil)
		if !proto.Equal(got, want) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
	})
}

func TestOperation(t *testing.T) {
	t.Parallel()
	answer, err := proto.Marshal(answered(threeTasks...))
	assert.NoError(t, err)
	var found []string
	got := new(longrunningpb.Operation)
	assert.NoError(t, create.Unmarshal(answer, got, func(id, name []byte) { found = append(found, string(id)+"="+string(name)) }))
	assert.Equal(t, found, []string{"1=a", "2=b", "=c"})
	if want := answered(); !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// A success that holds no task is not one.
func TestEmptyAnswer(t *testing.T) {
	t.Parallel()
	assert.ErrorContains(t, create.Unmarshal(nil, new(cloudtaskspb.Task), nil), "no task")
}
