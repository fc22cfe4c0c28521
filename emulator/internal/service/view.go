package service

import (
	"fmt"
	"maps"
	"net/http"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/emulator/internal/appengine"
	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/internal/wire"
)

// taskView is a task as the API returns it. Both views have the headers,
// only the full one has the body (docs/cloud-tasks.md#3.2, #8.7). Parts of stored are
// shared with the view; stored itself is not changed.
func taskView(queue string, t engine.Task, stored *cloudtaskspb.Task, full bool) *cloudtaskspb.Task {
	v := &cloudtaskspb.Task{
		Name:             queue + "/tasks/" + t.ID,
		ScheduleTime:     timestamppb.New(t.Schedule.Truncate(time.Microsecond)),
		CreateTime:       timestamppb.New(t.Created.Truncate(time.Second)),
		DispatchDeadline: stored.GetDispatchDeadline(),
		DispatchCount:    t.Dispatches,
		ResponseCount:    t.Responses,
		View:             cloudtaskspb.Task_BASIC,
		RetryConfig:      stored.GetRetryConfig(),
	}
	if full {
		v.View = cloudtaskspb.Task_FULL
	}
	if r := stored.GetHttpRequest(); r != nil {
		v.MessageType = &cloudtaskspb.Task_HttpRequest{HttpRequest: httpView(r, full)}
		if v.DispatchDeadline == nil {
			v.DispatchDeadline = durationpb.New(engine.DefaultDeadline)
		}
	}
	if r := stored.GetAppEngineHttpRequest(); r != nil {
		v.MessageType = &cloudtaskspb.Task_AppEngineHttpRequest{AppEngineHttpRequest: appEngineView(queue, r, full)}
	}
	if !t.First.IsZero() {
		v.FirstAttempt = &cloudtaskspb.Attempt{DispatchTime: microseconds(t.First)}
	}
	if t.Last != nil {
		v.LastAttempt = attemptView(*t.Last)
	}
	return v
}

func httpView(r *cloudtaskspb.HttpRequest, full bool) *cloudtaskspb.HttpRequest {
	headers := maps.Clone(r.GetHeaders())
	if headers == nil {
		headers = make(map[string]string, 1)
	}
	headers["User-Agent"] = wire.UserAgentHTTP
	v := &cloudtaskspb.HttpRequest{
		Url:                 r.GetUrl(),
		HttpMethod:          methodView(r.GetHttpMethod()),
		Headers:             headers,
		AuthorizationHeader: r.GetAuthorizationHeader(),
	}
	if full {
		v.Body = r.GetBody()
	}
	return v
}

func appEngineView(queue string, r *cloudtaskspb.AppEngineHttpRequest, full bool) *cloudtaskspb.AppEngineHttpRequest {
	routing := r.GetAppEngineRouting()
	v := &cloudtaskspb.AppEngineHttpRequest{
		HttpMethod: methodView(r.GetHttpMethod()),
		AppEngineRouting: &cloudtaskspb.AppEngineRouting{
			Service:  routing.GetService(),
			Version:  routing.GetVersion(),
			Instance: routing.GetInstance(),
			Host:     appengine.Host(queue, routing),
		},
		RelativeUri: r.GetRelativeUri(),
		Headers:     appengine.Headers(r),
	}
	if v.RelativeUri == "" {
		v.RelativeUri = "/"
	}
	if full {
		v.Body = r.GetBody()
	}
	return v
}

func methodView(m cloudtaskspb.HttpMethod) cloudtaskspb.HttpMethod {
	if m == cloudtaskspb.HttpMethod_HTTP_METHOD_UNSPECIFIED {
		return cloudtaskspb.HttpMethod_POST
	}
	return m
}

func attemptView(r engine.Record) *cloudtaskspb.Attempt {
	v := &cloudtaskspb.Attempt{
		ScheduleTime: microseconds(r.Schedule),
		DispatchTime: microseconds(r.Dispatch),
	}
	if !r.Response.IsZero() {
		v.ResponseTime = microseconds(r.Response)
	}
	if r.Status != 0 || r.Timeout || r.Failure != "" {
		v.ResponseStatus = responseStatus(r.Outcome)
	}
	return v
}

func microseconds(t time.Time) *timestamppb.Timestamp {
	return timestamppb.New(t.Truncate(time.Microsecond))
}

// statusCodes is what an HTTP status becomes in Attempt.response_status.
// Only 502 is recorded, the rest is what other emulators agree on (docs/cloud-tasks.md#8.8).
var statusCodes = map[int]codes.Code{
	http.StatusBadRequest:          codes.InvalidArgument,
	http.StatusUnauthorized:        codes.Unauthenticated,
	http.StatusForbidden:           codes.PermissionDenied,
	http.StatusNotFound:            codes.NotFound,
	http.StatusConflict:            codes.AlreadyExists,
	http.StatusTooManyRequests:     codes.ResourceExhausted,
	499:                            codes.Canceled,
	http.StatusInternalServerError: codes.Internal,
	http.StatusNotImplemented:      codes.Unimplemented,
	http.StatusBadGateway:          codes.Internal,
	http.StatusServiceUnavailable:  codes.Unavailable,
	http.StatusGatewayTimeout:      codes.DeadlineExceeded,
}

var codeNames = map[codes.Code]string{
	codes.InvalidArgument:   "INVALID_ARGUMENT",
	codes.Unauthenticated:   "UNAUTHENTICATED",
	codes.PermissionDenied:  "PERMISSION_DENIED",
	codes.NotFound:          "NOT_FOUND",
	codes.AlreadyExists:     "ALREADY_EXISTS",
	codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
	codes.Canceled:          "CANCELLED",
	codes.Internal:          "INTERNAL",
	codes.Unimplemented:     "UNIMPLEMENTED",
	codes.Unavailable:       "UNAVAILABLE",
	codes.DeadlineExceeded:  "DEADLINE_EXCEEDED",
	codes.Unknown:           "UNKNOWN",
}

func responseStatus(o engine.Outcome) *rpcstatus.Status {
	switch {
	case o.OK():
		return new(rpcstatus.Status)
	case o.Timeout:
		return statusOf(codes.DeadlineExceeded, o.Failure)
	case o.Status == 0:
		return statusOf(codes.Unavailable, o.Failure)
	}
	code, ok := statusCodes[o.Status]
	if !ok {
		code = codes.Unknown
	}
	return statusOf(code, fmt.Sprintf("HTTP status code %d", o.Status))
}

// statusOf writes the text in the recorded form: INTERNAL(13): HTTP status code 502.
func statusOf(code codes.Code, text string) *rpcstatus.Status {
	return &rpcstatus.Status{
		Code:    int32(code),
		Message: fmt.Sprintf("%s(%d): %s", codeNames[code], code, text),
	}
}
