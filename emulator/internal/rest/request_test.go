package rest_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/genproto/googleapis/cloud/location"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/emulator/internal/rest"
	"github.com/brillconsulting/handoff/internal/assert"
)

// TestRequests sends recorded requests of gcloud, Node and Go.
func TestRequests(t *testing.T) {
	t.Parallel()
	const loc = "/v2/projects/p/locations/l"
	const q = loc + "/queues/q"
	const intEnums = "?$alt=json%3Benum-encoding=int"
	whole := &cloudtaskspb.Queue{
		Name:        queueName,
		RateLimits:  &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 100, MaxConcurrentDispatches: 10},
		RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: -1, MinBackoff: durationpb.New(100 * time.Millisecond), MaxDoublings: 4},
	}
	port := int64(8080)
	host, scheme := "h", cloudtaskspb.UriOverride_HTTP

	for _, tc := range []struct {
		name   string
		verb   string
		target string
		body   string
		method string
		want   proto.Message
	}{
		{"list queues, gcloud", "GET", loc + "/queues?alt=json&pageSize=10&pageToken=abc", "", "ListQueues",
			&cloudtaskspb.ListQueuesRequest{Parent: "projects/p/locations/l", PageSize: 10, PageToken: "abc"}},
		{"list queues, snake case and filter", "GET", loc + "/queues?page_size=3&filter=state%3A%20PAUSED", "", "ListQueues",
			&cloudtaskspb.ListQueuesRequest{Parent: "projects/p/locations/l", PageSize: 3, Filter: "state: PAUSED"}},
		{"get queue", "GET", q + intEnums, "", "GetQueue", &cloudtaskspb.GetQueueRequest{Name: queueName}},
		{"get queue, project with a colon", "GET", "/v2/projects/example.com:p/locations/l/queues/q", "", "GetQueue",
			&cloudtaskspb.GetQueueRequest{Name: "projects/example.com:p/locations/l/queues/q"}},
		{"get queue, escaped", "GET", loc + "/queues/a%20b", "", "GetQueue",
			&cloudtaskspb.GetQueueRequest{Name: "projects/p/locations/l/queues/a b"}},
		{"get queue, an escaped slash is no separator", "GET", loc + "/queues/a%2Fb", "", "GetQueue",
			&cloudtaskspb.GetQueueRequest{Name: "projects/p/locations/l/queues/a%2Fb"}},
		{"create queue, gcloud", "POST", loc + "/queues?alt=json",
			`{"name":"projects/p/locations/l/queues/q","rateLimits":{"maxDispatchesPerSecond":100,"maxConcurrentDispatches":10},
			  "retryConfig":{"maxAttempts":-1,"minBackoff":"0.1s","maxDoublings":4}}`,
			"CreateQueue", &cloudtaskspb.CreateQueueRequest{Parent: "projects/p/locations/l", Queue: whole}},
		{"create queue, snake case", "POST", loc + "/queues",
			`{"name":"projects/p/locations/l/queues/q","rate_limits":{"max_dispatches_per_second":100,"max_concurrent_dispatches":10},
			  "retry_config":{"max_attempts":-1,"min_backoff":"0.100s","max_doublings":4}}`,
			"CreateQueue", &cloudtaskspb.CreateQueueRequest{Parent: "projects/p/locations/l", Queue: whole}},
		{"create queue, http target of gcloud", "POST", loc + "/queues",
			`{"name":"projects/p/locations/l/queues/q","httpTarget":{"uriOverride":{"scheme":"HTTP","host":"h","port":"8080","pathOverride":{},
			  "uriOverrideEnforceMode":"ALWAYS"},"httpMethod":"PUT","headerOverrides":[{"header":{"key":"A","value":"b"}}]}}`,
			"CreateQueue", &cloudtaskspb.CreateQueueRequest{Parent: "projects/p/locations/l", Queue: &cloudtaskspb.Queue{
				Name: queueName,
				HttpTarget: &cloudtaskspb.HttpTarget{
					UriOverride: &cloudtaskspb.UriOverride{
						Scheme: &scheme, Host: &host, Port: &port, PathOverride: &cloudtaskspb.PathOverride{},
						UriOverrideEnforceMode: cloudtaskspb.UriOverride_ALWAYS,
					},
					HttpMethod: cloudtaskspb.HttpMethod_PUT,
					HeaderOverrides: []*cloudtaskspb.HttpTarget_HeaderOverride{{
						Header: &cloudtaskspb.HttpTarget_Header{Key: "A", Value: "b"},
					}},
				},
			}}},
		{"update queue, camel mask", "PATCH", q + "?alt=json&updateMask=rateLimits.maxDispatchesPerSecond%2CretryConfig.maxAttempts",
			`{"name":"projects/p/locations/l/queues/q","retryConfig":{"maxAttempts":7}}`,
			"UpdateQueue", &cloudtaskspb.UpdateQueueRequest{
				Queue:      &cloudtaskspb.Queue{Name: queueName, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 7}},
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"rate_limits.max_dispatches_per_second", "retry_config.max_attempts"}},
			}},
		{"update queue, snake mask, name in the path only", "PATCH", q + intEnums + "&updateMask=retry_config.max_attempts",
			`{"retryConfig":{"maxAttempts":7}}`,
			"UpdateQueue", &cloudtaskspb.UpdateQueueRequest{
				Queue:      &cloudtaskspb.Queue{Name: queueName, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 7}},
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"retry_config.max_attempts"}},
			}},
		{"update queue, empty payload", "PATCH", q + "?updateMask=httpTarget", "",
			"UpdateQueue", &cloudtaskspb.UpdateQueueRequest{
				Queue: &cloudtaskspb.Queue{Name: queueName}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"http_target"}},
			}},
		{"update queue, the path decides the name", "PATCH", q, `{"name":"projects/p/locations/l/queues/other"}`,
			"UpdateQueue", &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: queueName}}},
		{"delete queue", "DELETE", q, "", "DeleteQueue", &cloudtaskspb.DeleteQueueRequest{Name: queueName}},
		{"purge, empty body", "POST", q + ":purge", "", "PurgeQueue", &cloudtaskspb.PurgeQueueRequest{Name: queueName}},
		{"pause, white space", "POST", q + ":pause", " \n", "PauseQueue", &cloudtaskspb.PauseQueueRequest{Name: queueName}},
		{"resume, name repeated by Go", "POST", q + ":resume", `{"name":"projects/p/locations/l/queues/q"}`,
			"ResumeQueue", &cloudtaskspb.ResumeQueueRequest{Name: queueName}},
		{"get policy", "POST", q + ":getIamPolicy", `{"options":{"requestedPolicyVersion":3}}`, "GetIamPolicy",
			&iampb.GetIamPolicyRequest{Resource: queueName, Options: &iampb.GetPolicyOptions{RequestedPolicyVersion: 3}}},
		{"nested query field, camel case", "GET", "/v3/" + queueName + ":getIamPolicy?options.requestedPolicyVersion=3", "", "GetIamPolicy",
			&iampb.GetIamPolicyRequest{Resource: queueName, Options: &iampb.GetPolicyOptions{RequestedPolicyVersion: 3}}},
		{"nested query field, snake case", "GET", "/v3/" + queueName + ":getIamPolicy?options.requested_policy_version=3", "", "GetIamPolicy",
			&iampb.GetIamPolicyRequest{Resource: queueName, Options: &iampb.GetPolicyOptions{RequestedPolicyVersion: 3}}},
		{"repeated query field", "GET", "/v3/" + queueName + ":testIamPermissions?permissions=a&permissions=b", "", "TestIamPermissions",
			&iampb.TestIamPermissionsRequest{Resource: queueName, Permissions: []string{"a", "b"}}},
		{"list tasks", "GET", q + "/tasks?pageSize=25&responseView=FULL", "", "ListTasks",
			&cloudtaskspb.ListTasksRequest{Parent: queueName, PageSize: 25, ResponseView: cloudtaskspb.Task_FULL}},
		{"get task, numeric enum of Node", "GET", q + "/tasks/t" + intEnums + "&responseView=2", "", "GetTask",
			&cloudtaskspb.GetTaskRequest{Name: queueName + "/tasks/t", ResponseView: cloudtaskspb.Task_FULL}},
		{"create task, gcloud", "POST", q + "/tasks",
			`{"task":{"name":"projects/p/locations/l/queues/q/tasks/t","scheduleTime":"2030-01-01T00:00:00.123456789Z",
			  "httpRequest":{"url":"http://w/","httpMethod":"PUT","headers":{"A":"b"},"body":"aGk="}}}`,
			"CreateTask", &cloudtaskspb.CreateTaskRequest{Parent: queueName, Task: &cloudtaskspb.Task{
				Name:         queueName + "/tasks/t",
				ScheduleTime: &timestamppb.Timestamp{Seconds: 1893456000, Nanos: 123456789},
				MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
					Url: "http://w/", HttpMethod: cloudtaskspb.HttpMethod_PUT, Headers: map[string]string{"A": "b"}, Body: []byte("hi"),
				}},
			}}},
		{"create task, numbers for enums", "POST", q + "/tasks",
			`{"task":{"appEngineHttpRequest":{"httpMethod":4,"body":"-_8"},"dispatchDeadline":"5.500s"},"responseView":2}`,
			"CreateTask", &cloudtaskspb.CreateTaskRequest{
				Parent: queueName, ResponseView: cloudtaskspb.Task_FULL,
				Task: &cloudtaskspb.Task{
					DispatchDeadline: durationpb.New(5500 * time.Millisecond),
					MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{AppEngineHttpRequest: &cloudtaskspb.AppEngineHttpRequest{
						HttpMethod: cloudtaskspb.HttpMethod_PUT, Body: []byte{0xfb, 0xff},
					}},
				},
			}},
		{"run", "POST", q + "/tasks/t:run", "{}", "RunTask", &cloudtaskspb.RunTaskRequest{Name: queueName + "/tasks/t"}},
		{"delete task", "DELETE", q + "/tasks/t", "", "DeleteTask", &cloudtaskspb.DeleteTaskRequest{Name: queueName + "/tasks/t"}},
		{"batch create", "POST", q + "/tasks:batchCreate", `{"requests":[{"parent":"projects/p/locations/l/queues/q"}],"requestId":"r"}`,
			"BatchCreateTasks", &cloudtaskspb.BatchCreateTasksRequest{
				Parent: queueName, RequestId: "r", Requests: []*cloudtaskspb.CreateTaskRequest{{Parent: queueName}},
			}},
		{"CMEK", "GET", loc + "/cmekConfig", "", "GetCmekConfig", &cloudtaskspb.GetCmekConfigRequest{Name: "projects/p/locations/l/cmekConfig"}},
		{"update CMEK", "PATCH", loc + "/cmekConfig", `{"kmsKey":""}`, "UpdateCmekConfig",
			&cloudtaskspb.UpdateCmekConfigRequest{CmekConfig: &cloudtaskspb.CmekConfig{Name: "projects/p/locations/l/cmekConfig"}}},
		{"locations, by rule", "GET", "/v2/projects/p/locations?pageSize=100", "", "ListLocations",
			&location.ListLocationsRequest{Name: "projects/p", PageSize: 100}},
		{"locations, Node's v1, an additional binding", "GET", "/v1/projects/p/locations", "", "ListLocations",
			&location.ListLocationsRequest{Name: "projects/p"}},
		{"location", "GET", loc, "", "GetLocation", &location.GetLocationRequest{Name: "projects/p/locations/l"}},
		{"operation", "GET", loc + "/operations/o", "", "GetOperation",
			&longrunningpb.GetOperationRequest{Name: "projects/p/locations/l/operations/o"}},
		{"operation, the annotation's own **", "GET", "/v1/operations/a/b", "", "GetOperation",
			&longrunningpb.GetOperationRequest{Name: "operations/a/b"}},
		{"every system parameter", "GET", q + "?alt=json&$alt=json&prettyPrint=0&$prettyPrint=0&fields=name&key=k&access_token=t" +
			"&quotaUser=u&uploadType=x&upload_protocol=y&$.xgafv=2&callback=c&oauth_token=o", "", "GetQueue",
			&cloudtaskspb.GetQueueRequest{Name: queueName}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := &services{answer: func(string) (proto.Message, error) { return &emptypb.Empty{}, nil }}
			rec := do(serve(t, s, nil), tc.verb, tc.target, tc.body)
			if rec.Code != http.StatusOK {
				t.Fatalf("status %d: %s", rec.Code, rec.Body)
			}
			got := s.last(t)
			assert.Equal(t, got.method, tc.method)
			equal(t, got.request, tc.want)
		})
	}
}

// TestCompressedBody: Google's REST clients for Java compress request bodies by
// default.
func TestCompressedBody(t *testing.T) {
	t.Parallel()
	post := func(path, encoding string, body []byte) (*services, *httptest.ResponseRecorder) {
		s := &services{answer: func(string) (proto.Message, error) { return &cloudtaskspb.Task{}, nil }}
		h := serve(t, s, func(c *rest.Config) {
			c.MaxBody = 1000
			c.Routes = []rest.Route{{Path: "/raw", Handle: func(_ *http.Request, _ map[string]string, body []byte) (proto.Message, error) {
				return &cloudtaskspb.Task{Name: string(body)}, nil
			}}}
		})
		r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
		r.Header.Set("Content-Encoding", encoding)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return s, rec
	}
	pack := func(text string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(text))
		assert.NoError(t, z.Close())
		return b.Bytes()
	}
	const tasks = "/v2/" + queueName + "/tasks"
	body := pack(`{"task":{"name":"n"}}`)
	s, rec := post(tasks, "gzip", body)
	assert.Status(t, rec.Code, http.StatusOK)
	equal(t, s.last(t).request, &cloudtaskspb.CreateTaskRequest{Parent: queueName, Task: &cloudtaskspb.Task{Name: "n"}})
	_, rec = post(tasks, "GZIP", pack("")) // an empty body, compressed
	assert.Status(t, rec.Code, http.StatusOK)
	_, rec = post("/raw", "gzip", pack("raw"))
	assert.Equal(t, rec.Body.String(), "{\n  \"name\": \"raw\"\n}\n")

	for _, tc := range []struct {
		name, encoding string
		body           []byte
		says           string
	}{
		{"another encoding", "br", body, "may be gzip"},
		{"not packed", "gzip", []byte(`{}`), "may be gzip"},
		{"cut short", "gzip", body[:len(body)-9], "may be gzip"},
		{"too much once it is unpacked", "gzip", pack(strings.Repeat(" ", 1001)), "exceeds the limit: 1000 bytes"},
	} {
		s, rec := post(tasks, tc.encoding, tc.body)
		if rec.Code != http.StatusBadRequest || !strings.Contains(rec.Body.String(), tc.says) || len(s.calls) > 0 {
			t.Errorf("%s: %d, %d calls: %s", tc.name, rec.Code, len(s.calls), rec.Body)
		}
	}
}

func TestHeadersReachTheInterceptorAsMetadata(t *testing.T) {
	t.Parallel()
	s := &services{}
	h := serve(t, s, nil)
	do(h, "GET", "/v2/"+queueName, "")
	r := requestWithHeader("X-Goog-Request-Params", "name=q")
	h.ServeHTTP(newRecorder(), r)
	assert.Equal(t, s.header.Get("x-goog-request-params"), []string{"name=q"})
}
