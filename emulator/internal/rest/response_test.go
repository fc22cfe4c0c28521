package rest_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/emulator/internal/rest"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	metadata, err := anypb.New(&cloudtaskspb.BatchCreateTasksMetadata{State: cloudtaskspb.BatchCreateTasksMetadata_SUCCEEDED})
	assert.NoError(t, err)
	port := int64(8080)
	for _, tc := range []struct {
		name, query string
		answer      proto.Message
		want        string
	}{
		{"empty", "", &emptypb.Empty{}, "{}\n"},
		{"unset fields are left out, int64 is a string", "",
			&cloudtaskspb.Queue{Name: "q", HttpTarget: &cloudtaskspb.HttpTarget{UriOverride: &cloudtaskspb.UriOverride{Port: &port}}},
			"{\n  \"name\": \"q\",\n  \"httpTarget\": {\n    \"uriOverride\": {\n      \"port\": \"8080\"\n    }\n  }\n}\n"},
		{"enum by name", "", &cloudtaskspb.Queue{State: cloudtaskspb.Queue_PAUSED}, "{\n  \"state\": \"PAUSED\"\n}\n"},
		{"enum by number, Node", "?$alt=json%3Benum-encoding=int", &cloudtaskspb.Queue{State: cloudtaskspb.Queue_PAUSED}, "{\n  \"state\": 2\n}\n"},
		{"enum by number, Go", "?%24alt=json%3Benum-encoding%3Dint", &cloudtaskspb.Queue{State: cloudtaskspb.Queue_PAUSED}, "{\n  \"state\": 2\n}\n"},
		{"enum by number, a bare semicolon", "?$alt=json;enum-encoding=int", &cloudtaskspb.Queue{State: cloudtaskspb.Queue_PAUSED}, "{\n  \"state\": 2\n}\n"},
		{"enum by name when only JSON is asked for", "?alt=json", &cloudtaskspb.Queue{State: cloudtaskspb.Queue_PAUSED}, "{\n  \"state\": \"PAUSED\"\n}\n"},
		{"any", "?alt=json", &longrunningpb.Operation{Name: "o", Metadata: metadata},
			"{\n  \"name\": \"o\",\n  \"metadata\": {\n    \"@type\": \"type.googleapis.com/google.cloud.tasks.v2.BatchCreateTasksMetadata\",\n" +
				"    \"state\": \"SUCCEEDED\"\n  }\n}\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := &services{answer: func(string) (proto.Message, error) { return tc.answer, nil }}
			rec := do(serve(t, s, nil), "GET", "/v2/"+queueName+tc.query, "")
			assert.Status(t, rec.Code, http.StatusOK)
			assert.Equal(t, rec.Body.String(), tc.want)
			assert.Equal(t, rec.Header().Get("Content-Type"), "application/json; charset=UTF-8")
		})
	}
}

// lists is a response with most kinds of fields.
func lists(string) (proto.Message, error) {
	request := &cloudtaskspb.HttpRequest{Url: "http://w", Headers: map[string]string{"A": "b"}, HttpMethod: cloudtaskspb.HttpMethod_POST}
	return &cloudtaskspb.ListTasksResponse{NextPageToken: "more", Tasks: []*cloudtaskspb.Task{
		{Name: "one", DispatchCount: 1, MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: request}, ScheduleTime: &timestamppb.Timestamp{Seconds: 1}},
		{Name: "two", MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{AppEngineHttpRequest: &cloudtaskspb.AppEngineHttpRequest{
			RelativeUri: "/", AppEngineRouting: &cloudtaskspb.AppEngineRouting{Host: "h", Service: "s"}}}},
	}}, nil
}

func TestFields(t *testing.T) {
	t.Parallel()
	const (
		request = `"httpRequest":{"url":"http://w","httpMethod":"POST","headers":{"A":"b"}}`
		routing = `"appEngineRouting":{"service":"s","host":"h"}`
		second  = `{"name":"two","appEngineHttpRequest":{` + routing + `,"relativeUri":"/"}}`
		first   = `{"name":"one",` + request + `,"scheduleTime":"1970-01-01T00:00:01Z","dispatchCount":1}`
	)
	for _, tc := range []struct{ fields, want string }{
		{"", `{"tasks":[` + first + `,` + second + `],"nextPageToken":"more"}`},
		{"*", `{"tasks":[` + first + `,` + second + `],"nextPageToken":"more"}`},
		{"nextPageToken", `{"nextPageToken":"more"}`},
		{"next_page_token", `{"nextPageToken":"more"}`},
		{"tasks/name,nextPageToken", `{"tasks":[{"name":"one"},{"name":"two"}],"nextPageToken":"more"}`},
		{"tasks(name,dispatchCount)", `{"tasks":[{"name":"one","dispatchCount":1},{"name":"two"}]}`},
		{"tasks(httpRequest(url,headers),name)", `{"tasks":[{"name":"one","httpRequest":{"url":"http://w","headers":{"A":"b"}}},{"name":"two"}]}`},
		{"tasks/appEngineHttpRequest/appEngineRouting(host)", `{"tasks":[{},{"appEngineHttpRequest":{"appEngineRouting":{"host":"h"}}}]}`},
		{"tasks.httpRequest.url", `{"tasks":[{"httpRequest":{"url":"http://w"}},{}]}`},
		{"tasks/*/url", `{"tasks":[{"httpRequest":{"url":"http://w"}},{}]}`},
		{"tasks/scheduleTime", `{"tasks":[{"scheduleTime":"1970-01-01T00:00:01Z"},{}]}`},
		{"tasks/name,tasks", `{"tasks":[` + first + `,` + second + `]}`},
		{"tasks,tasks/name", `{"tasks":[` + first + `,` + second + `]}`},
		{"tasks/name&$fields=nextPageToken", `{"tasks":[{"name":"one"},{"name":"two"}],"nextPageToken":"more"}`},
	} {
		s := &services{answer: lists}
		rec := do(serve(t, s, nil), "GET", "/v2/"+queueName+"/tasks?fields="+tc.fields, "")
		assert.Status(t, rec.Code, http.StatusOK)
		var text bytes.Buffer
		assert.NoError(t, json.Compact(&text, rec.Body.Bytes()))
		if text.String() != tc.want {
			t.Errorf("fields=%s\ngot:  %s\nwant: %s", tc.fields, &text, tc.want)
		}
	}
}

// TestFieldsRefused shows that no call is made if the fields parameter is
// invalid.
func TestFieldsRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ fields, says string }{
		{"state", "'state'"},
		{"tasks/nam", "'tasks.nam'"},
		{"tasks(name", "Parentheses"},
		{"tasks)", "Parentheses"},
		{"tasks(name)name", "Parentheses"},
		{"nextPageToken/x", "'nextPageToken.x'"},
		{"tasks/scheduleTime/seconds", "'tasks.scheduleTime.seconds'"},
		{"tasks/httpRequest/headers/A", "'tasks.httpRequest.headers.A'"},
		{"tasks,", "''"},
		{"tasks//name", "'tasks..name'"},
		{"tasks()", "'tasks.'"},
		{strings.Repeat("a(", 100) + "a" + strings.Repeat(")", 100), "nest too deep"},
	} {
		s := &services{answer: lists}
		rec := do(serve(t, s, nil), "GET", "/v2/"+queueName+"/tasks?fields="+tc.fields, "")
		assert.Status(t, rec.Code, http.StatusBadRequest)
		if !strings.Contains(rec.Body.String(), tc.says) || len(s.calls) > 0 {
			t.Errorf("fields=%s: %d calls were made; got: %s", tc.fields, len(s.calls), rec.Body)
		}
	}
}

func TestFieldsOfAny(t *testing.T) {
	t.Parallel()
	metadata, err := anypb.New(&cloudtaskspb.BatchCreateTasksMetadata{State: cloudtaskspb.BatchCreateTasksMetadata_SUCCEEDED})
	assert.NoError(t, err)
	s := &services{answer: func(string) (proto.Message, error) {
		return &longrunningpb.Operation{Name: "o", Done: true, Metadata: metadata}, nil
	}}
	rec := do(serve(t, s, nil), "GET", "/v2/projects/p/locations/l/operations/o?fields=done,metadata/state", "")
	assert.Status(t, rec.Code, http.StatusOK)
	var got map[string]any
	assert.NoError(t, json.Unmarshal(rec.Body.Bytes(), &got))
	assert.Equal(t, got, map[string]any{"done": true, "metadata": map[string]any{ // whole
		"@type": "type.googleapis.com/google.cloud.tasks.v2.BatchCreateTasksMetadata", "state": "SUCCEEDED"}})
}

// TestRoutes calls a method without an RPC: under the three paths that clients
// use for BufferTask (docs/cloud-tasks.md#3.4), by any HTTP method.
func TestRoutes(t *testing.T) {
	t.Parallel()
	buffer := func(_ *http.Request, vars map[string]string, body []byte) (proto.Message, error) {
		return &cloudtaskspb.Task{Name: vars["queue"] + "|" + vars["task_id"] + "|" + string(body), View: cloudtaskspb.Task_BASIC}, nil
	}
	h := serve(t, &services{}, func(c *rest.Config) {
		for _, path := range []string{"/tasks/{task_id}:buffer", "/tasks:buffer", "/tasks/:buffer"} {
			c.Routes = append(c.Routes, rest.Route{
				Path: "/v2/{queue=projects/*/locations/*/queues/*}" + path, Envelope: "task", Handle: buffer,
			})
		}
	})
	for _, tc := range []struct{ verb, path, body, name, view string }{
		{"POST", "/tasks/t1:buffer", "raw", "|t1|raw", `"BASIC"`},
		{"GET", "/tasks:buffer", "", "||", `"BASIC"`},
		{"PUT", "/tasks/:buffer?$alt=json;enum-encoding=int", "{bad", "||{bad", `1`},
		{"DELETE", "/tasks/a%2Fb:buffer", "", "|a/b|", `"BASIC"`},
	} {
		rec := do(h, tc.verb, "/v2/"+queueName+tc.path, tc.body)
		assert.Status(t, rec.Code, http.StatusOK)
		assert.Equal(t, rec.Body.String(),
			"{\n  \"task\": {\n    \"name\": \""+queueName+tc.name+"\",\n    \"view\": "+tc.view+"\n  }\n}\n")
	}
}
