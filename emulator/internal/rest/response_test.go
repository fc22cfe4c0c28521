package rest_test

import (
	"net/http"
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

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

// TestRoutes: a method without an RPC, under the three paths that clients
// use for BufferTask (reference §3.4) and by any HTTP verb.
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
