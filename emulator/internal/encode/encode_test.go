package encode

import (
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/internal/assert"
)

// overHTTP is a task with some of everything that a task can have.
func overHTTP(headers map[string]string, body []byte) *cloudtaskspb.Task {
	return &cloudtaskspb.Task{
		Name: "projects/p/locations/l/queues/q/tasks/t",
		MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
			Url:        "https://worker.example.com/tasks/welcome-email",
			HttpMethod: cloudtaskspb.HttpMethod_PUT,
			Headers:    headers,
			Body:       body,
			AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
				ServiceAccountEmail: "caller@p.iam.gserviceaccount.com", Audience: "https://worker.example.com",
			}},
		}},
		ScheduleTime:     timestamppb.New(time.Unix(1_800_000_000, 5000)),
		CreateTime:       timestamppb.New(time.Unix(1_700_000_000, 0)),
		DispatchDeadline: durationpb.New(time.Minute),
		DispatchCount:    300,
		ResponseCount:    200,
		FirstAttempt:     &cloudtaskspb.Attempt{DispatchTime: timestamppb.New(time.Unix(1_800_000_001, 0))},
		View:             cloudtaskspb.Task_FULL,
		RetryConfig:      &cloudtaskspb.RetryConfig{MaxAttempts: 7},
	}
}

func toAppEngine(headers map[string]string, body []byte) *cloudtaskspb.Task {
	t := overHTTP(nil, nil)
	t.MessageType = &cloudtaskspb.Task_AppEngineHttpRequest{
		AppEngineHttpRequest: &cloudtaskspb.AppEngineHttpRequest{RelativeUri: "/", Headers: headers, Body: body},
	}
	return t
}

// encoded is what Append makes of a task, behind what was there before.
func encoded(t *testing.T, task *cloudtaskspb.Task) []byte {
	t.Helper()
	m := Measure(task)
	b, err := m.Append([]byte("before"))
	assert.NoError(t, err)
	assert.Equal(t, string(b[:6]), "before")
	assert.Equal(t, len(b[6:]), m.Size)
	return b[6:]
}

// same fails unless the encodings of a task by this package and by proto are as
// long and say the same, and the task is as it was.
func same(t *testing.T, task *cloudtaskspb.Task) {
	t.Helper()
	before := proto.CloneOf(task)
	b := encoded(t, task)
	assert.Equal(t, proto.Equal(task, before), true)
	assert.Equal(t, len(b), proto.Size(task))
	got := new(cloudtaskspb.Task)
	assert.NoError(t, proto.Unmarshal(b, got))
	if !proto.Equal(got, task) {
		t.Errorf("got  %v\nwant %v", got, task)
	}
}

func FuzzAppend(f *testing.F) {
	f.Add("Content-Type", "application/json", "X-Other", "x", []byte("{}"))
	f.Add("", "", "a", "é", []byte{})
	f.Add(strings.Repeat("n", 128), strings.Repeat("v", 20_000), "a", "", make([]byte, 70_000))
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string, body []byte) {
		for _, text := range []*string{&name1, &value1, &name2, &value2} {
			*text = strings.ToValidUTF8(*text, "?") // for anything else see TestNotUTF8
		}
		headers := map[string]string{name1: value1, name2: value2}
		http, appEngine := overHTTP(headers, body), toAppEngine(headers, body)
		same(t, http)
		same(t, appEngine)

		want := &cloudtaskspb.BatchCreateTasksResponse{Tasks: []*cloudtaskspb.Task{http, appEngine, overHTTP(nil, body)}}
		b, err := Created(want.GetTasks())
		assert.NoError(t, err)
		assert.Equal(t, len(b), proto.Size(want))
		got := new(cloudtaskspb.BatchCreateTasksResponse)
		assert.NoError(t, proto.Unmarshal(b, got))
		assert.Equal(t, proto.Equal(got, want), true)
	})
}

// What there is little of: nothing.
func TestAppendLittle(t *testing.T) {
	t.Parallel()
	same(t, new(cloudtaskspb.Task))
	same(t, &cloudtaskspb.Task{MessageType: new(cloudtaskspb.Task_HttpRequest)})
	same(t, &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: new(cloudtaskspb.HttpRequest)}})
	b, err := Created(nil)
	assert.NoError(t, err)
	assert.Equal(t, len(b), 0)
}

// What proto cannot encode, this does not either, and leaves as it was.
func TestNotUTF8(t *testing.T) {
	t.Parallel()
	account := overHTTP(nil, nil)
	account.GetHttpRequest().GetOidcToken().Audience = "\xff"
	name := overHTTP(map[string]string{"X-Other": "x"}, nil)
	name.Name = "\xff"
	for what, task := range map[string]*cloudtaskspb.Task{
		"name of a header":  overHTTP(map[string]string{"\xff": ""}, nil),
		"value of a header": overHTTP(map[string]string{"X-Other": "secret\xff"}, nil),
		"account":           account,
		"name":              name,
		"App Engine":        toAppEngine(map[string]string{"X-Other": "\xff"}, nil),
	} {
		_, err := proto.Marshal(task)
		assert.ErrorContains(t, err, "UTF-8")
		before := proto.CloneOf(task)
		_, err = Measure(task).Append(nil)
		assert.ErrorContains(t, err, "UTF-8")
		assert.Equal(t, strings.Contains(err.Error(), "secret"), false)
		_, err = Created([]*cloudtaskspb.Task{overHTTP(nil, nil), task})
		assert.ErrorContains(t, err, "UTF-8")
		if !proto.Equal(task, before) {
			t.Errorf("%s: the task was changed to %v", what, task)
		}
	}
}

// BenchmarkAppend beside what it stands in for.
func BenchmarkAppend(b *testing.B) {
	task := overHTTP(map[string]string{"Content-Type": "application/json", "X-Request-Id": "7b0f2f6c", "User-Agent": "Google-Cloud-Tasks"}, make([]byte, 300))
	var buffer []byte
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m := Measure(task)
			buffer, _ = m.Append(buffer[:0])
		}
	})
	b.Run("proto", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buffer, _ = proto.MarshalOptions{}.MarshalAppend(buffer[:0], task)
		}
	})
}
