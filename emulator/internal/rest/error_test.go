package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/brillconsulting/handoff/emulator/internal/rest"
	"github.com/brillconsulting/handoff/internal/assert"
)

// googleError is the error body as a client parses it.
type googleError struct {
	Error struct {
		Code    int
		Message string
		Status  string
		Details []map[string]any
	}
}

func readError(t *testing.T, rec *httptest.ResponseRecorder) googleError {
	t.Helper()
	var e googleError
	assert.NoError(t, json.Unmarshal(rec.Body.Bytes(), &e))
	assert.Equal(t, rec.Header().Get("Content-Type"), "application/json; charset=UTF-8")
	assert.Status(t, e.Error.Code, rec.Code)
	return e
}

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

func requestWithHeader(name, value string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v2/"+queueName, nil)
	r.Header.Set(name, value)
	return r
}

// TestRefusals sends requests that must not reach a service.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const q = "/v2/" + queueName
	const notFound, invalid = "NOT_FOUND", "INVALID_ARGUMENT"
	const bad = "Invalid JSON payload received. "
	for _, tc := range []struct {
		name, verb, target, body string
		status, message          string
	}{
		{"no such path", "GET", "/v2/nothing", "", notFound, "Method not found."},
		{"no path at all", "GET", "/", "", notFound, "Method not found."},
		{"wrong version", "GET", "/v3/" + queueName, "", notFound, "Method not found."},
		{"wrong verb", "PUT", q, "", notFound, "Method not found."},
		{"unknown custom verb", "POST", q + ":explode", "", notFound, "Method not found."},
		{"custom verb by GET", "GET", q + ":pause", "", notFound, "Method not found."},
		{"custom verb on nothing", "POST", "/v2/projects/p/locations/l/queues/:pause", "", notFound, "Method not found."},
		{"trailing slash", "GET", q + "/", "", notFound, "Method not found."},
		{"empty segment", "GET", "/v2/projects//locations/l/queues/q", "", notFound, "Method not found."},
		{"broken JSON", "POST", q + "/tasks", `{"task": nonsense}`, invalid, bad + "Unexpected token."},
		{"cut JSON", "POST", q + "/tasks", `{"task": {`, invalid, bad + "Unexpected end of string."},
		{"two documents", "POST", q + "/tasks", `{} {}`, invalid, bad + "Unexpected token."},
		{"no object", "POST", q + "/tasks", `[]`, invalid, "Invalid value at '' (type.googleapis.com/google.cloud.tasks.v2.CreateTaskRequest)"},
		{"unknown field", "POST", q + "/tasks", `{"tsak":{}}`, invalid, bad + `Unknown name "tsak": Cannot find field.`},
		{"unknown field below", "POST", q + "/tasks", `{"task":{"httpRequest":{"uri":"x"}}}`, invalid,
			bad + `Unknown name "uri" at 'task.http_request': Cannot find field.`},
		{"unknown field below a known one in snake case", "POST", q + "/tasks", `{"task":{"http_request":{"uri":"x"}}}`, invalid,
			bad + `Unknown name "uri" at 'task.http_request': Cannot find field.`},
		{"unknown field in a named body", "PATCH", q, `{"paused":true}`, invalid, bad + `Unknown name "paused" at 'queue': Cannot find field.`},
		{"two unknown fields", "POST", q + "/tasks", `{"a":1,"task":{"b":2}}`, invalid,
			bad + `Unknown name "a": Cannot find field.` + "\n" + bad + `Unknown name "b" at 'task': Cannot find field.`},
		{"unknown field in a list", "POST", q + "/tasks:batchCreate", `{"requests":[{},{"x":1}]}`, invalid,
			bad + `Unknown name "x" at 'requests[1]': Cannot find field.`},
		{"no list", "POST", q + "/tasks:batchCreate", `{"requests":{}}`, invalid,
			"Invalid value at 'requests' (type.googleapis.com/google.cloud.tasks.v2.CreateTaskRequest)"},
		{"wrong type", "PATCH", q, `{"retryConfig":{"maxAttempts":"many"}}`, invalid, "Invalid value at 'queue.retry_config.max_attempts' (TYPE_INT32)"},
		{"wrong duration", "PATCH", q, `{"retryConfig":{"minBackoff":5}}`, invalid,
			"Invalid value at 'queue.retry_config.min_backoff' (type.googleapis.com/google.protobuf.Duration)"},
		{"wrong enum", "POST", q + "/tasks", `{"responseView":"SOME"}`, invalid,
			"Invalid value at 'response_view' (type.googleapis.com/google.cloud.tasks.v2.Task.View)"},
		{"wrong base64", "POST", q + "/tasks", `{"task":{"httpRequest":{"body":"@"}}}`, invalid, "Invalid value at 'task.http_request.body' (TYPE_BYTES)"},
		{"both targets", "POST", q + "/tasks", `{"task":{"httpRequest":{},"appEngineHttpRequest":{}}}`, invalid, bad + "A field or a oneof is set twice."},
		{"unknown parameter", "GET", q + "?colour=red", "", invalid,
			bad + `Unknown name "colour": Cannot bind query parameter. Field 'colour' could not be found in request message.`},
		{"parameter beside a whole body", "POST", q + "/tasks?responseView=FULL", "{}", invalid,
			bad + `Unknown name "responseView": Cannot bind query parameter. Field 'responseView' could not be found in request message.`},
		{"parameter for the path's field", "GET", q + "?name=other", "", invalid,
			bad + `Unknown name "name": Cannot bind query parameter. Field 'name' could not be found in request message.`},
		{"wrong parameter", "GET", q + "/tasks?pageSize=ten", "", invalid, "Invalid value at 'pageSize' (TYPE_INT32)"},
		{"overflowing parameter", "GET", q + "/tasks?pageSize=3000000000", "", invalid, "Invalid value at 'pageSize' (TYPE_INT32)"},
		{"repeated parameter", "GET", q + "/tasks?pageSize=1&pageSize=2", "", invalid, "Invalid value at 'pageSize' (TYPE_INT32)"},
		{"a path that is not UTF-8", "GET", q + "%ff", "", invalid, "Invalid value at 'name' (TYPE_STRING)"},
		{"a parameter that is not UTF-8", "GET", q + "/tasks?pageToken=%ff", "", invalid, "Invalid value at 'pageToken' (TYPE_STRING)"},
		{"a mask that is not UTF-8", "PATCH", q + "?updateMask=%ff", "{}", invalid, "Invalid value at 'updateMask' (type.googleapis.com/google.protobuf.FieldMask)"},
		{"a body that is not UTF-8", "POST", q + "/tasks", "{\"task\":{\"name\":\"\xff\"}}", invalid, "Invalid value at 'task.name' (TYPE_STRING)"},
		{"bad escape in the query", "GET", q + "?a=%zz", "", invalid, "The query string is malformed."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := &services{}
			e := readError(t, do(serve(t, s, nil), tc.verb, tc.target, tc.body))
			assert.Equal(t, e.Error.Status, tc.status)
			assert.Equal(t, e.Error.Message, tc.message)
			assert.Equal(t, len(s.calls), 0)
		})
	}
}

func TestViolationsAreDetailed(t *testing.T) {
	t.Parallel()
	e := readError(t, do(serve(t, &services{}, nil), "POST", "/v2/"+queueName+"/tasks", `{"task":{"x":1}}`))
	assert.Equal(t, e.Error.Details, []map[string]any{{
		"@type": "type.googleapis.com/google.rpc.BadRequest",
		"fieldViolations": []any{map[string]any{
			"field":       "task",
			"description": `Invalid JSON payload received. Unknown name "x" at 'task': Cannot find field.`,
		}},
	}})
}

// TestStatusMapping is the table of docs/cloud-tasks.md#1.3, whole.
// TestErrorsAreSmall: an error is not many times larger than its request, however much
// is wrong with it.
func TestErrorsAreSmall(t *testing.T) {
	t.Parallel()
	const q = "/v2/" + queueName
	for name, tc := range map[string]struct{ verb, target, body string }{
		"unknown members":       {"POST", q + "/tasks", `{` + strings.Repeat(`"a":1,`, 1e5) + `"a":1}`},
		"unknown members below": {"POST", q + "/tasks", `{"task":{` + strings.Repeat(`"a":1,`, 1e5) + `"a":1}}`},
		"wrong elements":        {"POST", q + "/tasks:batchCreate", `{"requests":[` + strings.Repeat(`1,`, 1e5) + `1]}`},
		"wrong elements below":  {"POST", q + "/tasks:batchCreate", `{"requests":[` + strings.Repeat(`{"task":{"a":1,"b":2}},`, 1e5) + `{}]}`},
		"a long name":           {"POST", q + "/tasks", `{"` + strings.Repeat(`\u0001`, 1e5) + `":1}`},
		"a long parameter":      {"GET", q + "?" + strings.Repeat("a.", 1e5) + "=1", ""},
		"long fields":           {"GET", q + "?fields=" + strings.Repeat("a.", 1e5) + "b", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := do(serve(t, &services{}, nil), tc.verb, tc.target, tc.body)
			assert.Equal(t, readError(t, rec).Error.Status, "INVALID_ARGUMENT")
			if size := rec.Body.Len(); size > 100_000 {
				t.Errorf("%d bytes for a request of %d", size, len(tc.target)+len(tc.body))
			}
		})
	}
}

func TestStatusMapping(t *testing.T) {
	t.Parallel()
	want := map[codes.Code]struct {
		http int
		name string
	}{
		codes.Canceled:           {499, "CANCELLED"},
		codes.Unknown:            {500, "UNKNOWN"},
		codes.InvalidArgument:    {400, "INVALID_ARGUMENT"},
		codes.DeadlineExceeded:   {504, "DEADLINE_EXCEEDED"},
		codes.NotFound:           {404, "NOT_FOUND"},
		codes.AlreadyExists:      {409, "ALREADY_EXISTS"},
		codes.PermissionDenied:   {403, "PERMISSION_DENIED"},
		codes.ResourceExhausted:  {429, "RESOURCE_EXHAUSTED"},
		codes.FailedPrecondition: {400, "FAILED_PRECONDITION"},
		codes.Aborted:            {409, "ABORTED"},
		codes.OutOfRange:         {400, "OUT_OF_RANGE"},
		codes.Unimplemented:      {501, "UNIMPLEMENTED"},
		codes.Internal:           {500, "INTERNAL"},
		codes.Unavailable:        {503, "UNAVAILABLE"},
		codes.DataLoss:           {500, "DATA_LOSS"},
		codes.Unauthenticated:    {401, "UNAUTHENTICATED"},
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		s := &services{answer: func(string) (proto.Message, error) { return nil, status.Error(code, "text <of it>") }}
		rec := do(serve(t, s, nil), "GET", "/v2/"+queueName, "")
		assert.Equal(t, strings.Contains(rec.Body.String(), "text <of it>"), true) // as people read it, not as \u003c
		e := readError(t, rec)
		assert.Status(t, e.Error.Code, want[code].http)
		assert.Equal(t, e.Error.Status, want[code].name)
		assert.Equal(t, e.Error.Message, "text <of it>")
		assert.Equal(t, e.Error.Details, nil)
	}
}

func TestOtherErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want string
	}{
		{errors.New("plain"), "UNKNOWN"},
		{fmt.Errorf("wrapped: %w", context.Canceled), "CANCELLED"},
		{fmt.Errorf("wrapped: %w", context.DeadlineExceeded), "DEADLINE_EXCEEDED"},
		{fmt.Errorf("wrapped: %w", status.Error(codes.Aborted, "x")), "ABORTED"},
	} {
		s := &services{answer: func(string) (proto.Message, error) { return nil, tc.err }}
		assert.Equal(t, readError(t, do(serve(t, s, nil), "GET", "/v2/"+queueName, "")).Error.Status, tc.want)
	}
}

func TestUnimplementedIs501(t *testing.T) {
	t.Parallel()
	rec := do(serve(t, &services{}, nil), "GET", "/v2/"+queueName, "")
	assert.Status(t, rec.Code, http.StatusNotImplemented)
}

// TestTypedDetails shows that details of known types are written with their
// @type, and those of unknown types are left out.
func TestTypedDetails(t *testing.T) {
	t.Parallel()
	help, err := anypb.New(&errdetails.Help{Links: []*errdetails.Help_Link{{Description: "d", Url: "u"}}})
	assert.NoError(t, err)
	unknown := &anypb.Any{TypeUrl: "type.googleapis.com/nobody.knows.This"}
	s := &services{answer: func(string) (proto.Message, error) {
		return nil, status.FromProto(&spb.Status{Code: int32(codes.InvalidArgument), Details: []*anypb.Any{unknown, help}}).Err()
	}}
	e := readError(t, do(serve(t, s, nil), "GET", "/v2/"+queueName, ""))
	assert.Equal(t, e.Error.Details, []map[string]any{{
		"@type": "type.googleapis.com/google.rpc.Help",
		"links": []any{map[string]any{"description": "d", "url": "u"}},
	}})
}

func TestPanicIsAnInternalError(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := &services{answer: func(string) (proto.Message, error) { panic("secret") }}
	h := serve(t, s, func(c *rest.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	rec := do(h, "GET", "/v2/"+queueName, "")
	assert.Equal(t, readError(t, rec).Error.Status, "INTERNAL")
	assert.Equal(t, strings.Contains(rec.Body.String(), "secret"), false)
	assert.Equal(t, strings.Contains(log.String(), "secret"), true)
}

func TestAbortHandlerPassesThrough(t *testing.T) {
	t.Parallel()
	s := &services{answer: func(string) (proto.Message, error) { panic(http.ErrAbortHandler) }}
	defer func() { assert.Equal(t, recover(), any(http.ErrAbortHandler)) }()
	do(serve(t, s, nil), "GET", "/v2/"+queueName, "")
	t.Fatal("the panic was swallowed")
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	s := &services{answer: refuse}
	h := serve(t, s, func(c *rest.Config) { c.MaxBody = 10 })
	e := readError(t, do(h, "POST", "/v2/"+queueName+":pause", "          {}"))
	assert.Equal(t, e.Error.Message, "Request payload size exceeds the limit: 10 bytes.")
	assert.Equal(t, e.Error.Status, "INVALID_ARGUMENT")
	assert.Equal(t, len(s.calls), 0)
	do(h, "POST", "/v2/"+queueName+":pause", "        {}")
	assert.Equal(t, len(s.calls), 1)
}
