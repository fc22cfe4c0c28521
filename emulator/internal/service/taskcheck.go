package service

import (
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"golang.org/x/net/http/httpguts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/emulator/internal/dispatch"
	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/emulator/internal/names"
	"github.com/brillconsulting/handoff/internal/target"
)

// Limits of a task (docs/cloud-tasks.md#8.4 to #8.6, #9).
const (
	maxAhead       = 720 * time.Hour
	maxURL         = 2083
	maxHeaderBytes = 80 << 10
	maxTaskBytes   = 1<<20 - 7

	minDeadline          = 15 * time.Second
	maxHTTPDeadline      = 30 * time.Minute
	maxAppEngineDeadline = 24*time.Hour + 15*time.Second
)

// completeTask checks a task and returns what is stored: what the caller set,
// without output-only fields and headers that the service computes. The parts
// are shared with asked, which is not changed.
func (s *Service) completeTask(asked *cloudtaskspb.Task, now time.Time) (*cloudtaskspb.Task, error) {
	stored := &cloudtaskspb.Task{RetryConfig: asked.GetRetryConfig()}
	if err := checkSchedule(asked.GetScheduleTime(), now); err != nil {
		return nil, err
	}
	if err := checkRetryConfig(asked.GetRetryConfig()); err != nil {
		return nil, err
	}
	limit, limitText := maxHTTPDeadline, "[15s, 30m]"
	switch m := asked.GetMessageType().(type) {
	case *cloudtaskspb.Task_HttpRequest:
		r, err := s.completeHTTPRequest(m.HttpRequest)
		if err != nil {
			return nil, err
		}
		stored.MessageType = &cloudtaskspb.Task_HttpRequest{HttpRequest: r}
	case *cloudtaskspb.Task_AppEngineHttpRequest:
		limit, limitText = maxAppEngineDeadline, "[15s, 24h15s]"
		r, err := completeAppEngineRequest(m.AppEngineHttpRequest)
		if err != nil {
			return nil, err
		}
		stored.MessageType = &cloudtaskspb.Task_AppEngineHttpRequest{AppEngineHttpRequest: r}
	default:
		return nil, errNoPayload
	}
	if d := asked.GetDispatchDeadline(); d != nil {
		v := d.AsDuration().Truncate(time.Millisecond)
		// 0 is App Engine's "by the way the service scales" (docs/cloud-tasks.md#8.5).
		unset := v == 0 && stored.GetAppEngineHttpRequest() != nil
		if !unset && (d.CheckValid() != nil || v < minDeadline || v > limit) {
			return nil, invalid("Task.dispatchDeadline must be between %s.", limitText)
		}
		if !unset {
			stored.DispatchDeadline = durationpb.New(v)
		}
	}
	return stored, nil
}

func checkSchedule(at *timestamppb.Timestamp, now time.Time) error {
	if at == nil {
		return nil
	}
	if at.CheckValid() != nil {
		return invalid("Task.scheduleTime is not a valid timestamp.")
	}
	if t := at.AsTime(); t.Sub(now) > maxAhead {
		return invalid("The Task.scheduleTime, %s, is too far in the future. Schedule time must be no more than 720h in the future.",
			Pacific(t))
	}
	return nil
}

func (s *Service) completeHTTPRequest(r *cloudtaskspb.HttpRequest) (*cloudtaskspb.HttpRequest, error) {
	address, err := s.checkURL(r)
	if err != nil {
		return nil, err
	}
	if err := checkMethod("HttpRequest", r.GetHttpMethod(), r.GetBody(),
		cloudtaskspb.HttpMethod_POST, cloudtaskspb.HttpMethod_PUT, cloudtaskspb.HttpMethod_PATCH); err != nil {
		return nil, err
	}
	if t := r.GetOidcToken(); t != nil && t.GetServiceAccountEmail() == "" {
		return nil, errAccountMissing
	}
	if t := r.GetOauthToken(); t != nil && t.GetServiceAccountEmail() == "" {
		return nil, errAccountMissing
	}
	headers, err := keptHeaders("HttpRequest", r.GetHeaders(), dispatch.IsComputed)
	if err != nil {
		return nil, err
	}
	return &cloudtaskspb.HttpRequest{
		Url:                 address,
		HttpMethod:          r.HttpMethod,
		Headers:             headers,
		Body:                r.Body,
		AuthorizationHeader: r.AuthorizationHeader,
	}, nil
}

// checkURL returns the URL of a task as it is stored: encoded. Some characters
// the service encodes when the task is created; which ones is unknown
// (docs/cloud-tasks.md#9.1).
func (s *Service) checkURL(r *cloudtaskspb.HttpRequest) (string, error) {
	switch {
	case r.GetUrl() == "":
		return "", errURLRequired
	case !strings.HasPrefix(r.Url, "http://") && !strings.HasPrefix(r.Url, "https://"):
		return "", errURLScheme
	}
	encoded := target.EncodeURL(r.Url)
	if len(encoded) > maxURL {
		return "", invalid("HttpRequest.url must be at most %d characters long.", maxURL)
	}
	u, err := target.Parse(r.Url)
	if err != nil {
		return "", invalid("HttpRequest.url is not a valid URL: %v.", err)
	}
	if r.AuthorizationHeader != nil && !dispatch.MayCarryToken(u, s.options.Strict) {
		return "", errTokenOverHTTP
	}
	return encoded, nil
}

func completeAppEngineRequest(r *cloudtaskspb.AppEngineHttpRequest) (*cloudtaskspb.AppEngineHttpRequest, error) {
	uri := target.EncodeRelative(r.GetRelativeUri())
	switch {
	case uri != "" && uri[0] != '/':
		return nil, invalid("AppEngineHttpRequest.relativeUri must begin with '/'.")
	case strings.Contains(r.GetRelativeUri(), " "):
		return nil, invalid("AppEngineHttpRequest.relativeUri must not contain spaces.")
	case len(uri) > maxURL:
		return nil, invalid("AppEngineHttpRequest.relativeUri must be at most %d characters long.", maxURL)
	}
	if err := checkMethod("AppEngineHttpRequest", r.GetHttpMethod(), r.GetBody(),
		cloudtaskspb.HttpMethod_POST, cloudtaskspb.HttpMethod_PUT); err != nil {
		return nil, err
	}
	headers, err := keptHeaders("AppEngineHttpRequest", r.GetHeaders(), isComputedAppEngine)
	if err != nil {
		return nil, err
	}
	stored := &cloudtaskspb.AppEngineHttpRequest{
		HttpMethod:  r.GetHttpMethod(),
		RelativeUri: uri,
		Headers:     headers,
		Body:        r.GetBody(),
	}
	if err := checkAppEngineRouting(r.GetAppEngineRouting()); err != nil {
		return nil, err
	}
	if routing := r.GetAppEngineRouting(); routing != nil {
		// The host is the service's to say.
		stored.AppEngineRouting = &cloudtaskspb.AppEngineRouting{
			Service: routing.GetService(), Version: routing.GetVersion(), Instance: routing.GetInstance(),
		}
	}
	return stored, nil
}

// checkAppEngineRouting refuses what cannot be part of a host name. The service's
// texts are unknown.
func checkAppEngineRouting(r *cloudtaskspb.AppEngineRouting) error {
	for _, part := range []struct{ field, id string }{{"service", r.GetService()}, {"version", r.GetVersion()}, {"instance", r.GetInstance()}} {
		if part.id != "" && !names.IsQueueID(part.id) {
			return invalid("AppEngineRouting.%s is %q. It can contain only letters, digits and hyphens, 100 at most.", part.field, part.id)
		}
	}
	return nil
}

func isComputedAppEngine(name string) bool {
	return dispatch.IsComputed(name) && !strings.EqualFold(name, "User-Agent")
}

// checkMethod refuses a body with a method that has none. The service's text is
// unknown.
func checkMethod(message string, method cloudtaskspb.HttpMethod, body []byte, withBody ...cloudtaskspb.HttpMethod) error {
	if len(body) == 0 || method == cloudtaskspb.HttpMethod_HTTP_METHOD_UNSPECIFIED || slices.Contains(withBody, method) {
		return nil
	}
	return invalid("%s.body is not allowed with the method %v.", message, method)
}

// keptHeaders returns the headers without those that the service computes,
// which it ignores (docs/cloud-tasks.md#9.2; that they are dropped at create rather
// than at dispatch is a choice).
func keptHeaders(message string, headers map[string]string, computed func(string) bool) (map[string]string, error) {
	size, drop := 0, false
	for name, value := range headers {
		if err := checkHeader(message+".headers", name, value); err != nil {
			return nil, err
		}
		size += len(name) + len(value)
		drop = drop || computed(name)
	}
	if size >= maxHeaderBytes {
		return nil, errHeadersTooLarge
	}
	if !drop {
		return headers, nil
	}
	kept := make(map[string]string, len(headers))
	for name, value := range headers {
		if !computed(name) {
			kept[name] = value
		}
	}
	return kept, nil
}

// checkHeader refuses what is no HTTP header (RFC 9110, section 5). The texts of
// the service are unknown. The value may be a secret and is not repeated.
func checkHeader(field, name, value string) error {
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return invalid("%s has the name %q. A name can contain only letters, digits and !#$%%&'*+-.^_`|~.", field, name)
	case !httpguts.ValidHeaderFieldValue(value):
		return invalid("%s has a control character in the value of %q.", field, name)
	}
	return nil
}

// checkSize counts a task as the service does: the whole stored message,
// with its name, its times and the headers that the service adds
// (docs/cloud-tasks.md#8.6). The exact count is made only near the limit.
func checkSize(queue, id string, size int, stored *cloudtaskspb.Task, due, now time.Time) error {
	const near = 8 << 10 // more than all the service adds
	if size < maxTaskBytes-near {
		return nil
	}
	if proto.Size(countedTask(queue, id, stored, due, now)) > maxTaskBytes {
		return errTaskTooLarge
	}
	return nil
}

// countedTask is the message whose size the service counts.
func countedTask(queue, id string, stored *cloudtaskspb.Task, due, now time.Time) *cloudtaskspb.Task {
	if id == "" {
		id = "00000000000000000000" // a generated one is as long
	}
	t := taskView(queue, engine.Task{ID: id, Created: now, Schedule: due}, stored, true)
	t.View = 0
	if r := t.GetAppEngineHttpRequest(); r != nil {
		r.AppEngineRouting = &cloudtaskspb.AppEngineRouting{Host: r.GetAppEngineRouting().GetHost()}
	}
	return t
}
