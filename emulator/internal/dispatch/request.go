package dispatch

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/internal/target"
	"github.com/brillconsulting/handoff/internal/wire"
)

// cloudPlatform is the default scope of OAuth tokens (docs/cloud-tasks.md#10.1).
const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

// Observed on a real dispatch (docs/cloud-tasks.md#9.4).
const acceptEncoding = "gzip,deflate,br"

func (d *Dispatcher) request(ctx context.Context, a *engine.Dispatch) (*http.Request, error) {
	if r := a.Task.GetAppEngineHttpRequest(); r != nil {
		return d.appEngineRequest(ctx, a, r)
	}
	return d.httpRequest(ctx, a, a.Task.GetHttpRequest())
}

// httpRequest is the dispatch of an HTTP task, under the queue's overrides.
func (d *Dispatcher) httpRequest(ctx context.Context, a *engine.Dispatch, task *cloudtaskspb.HttpRequest) (*http.Request, error) {
	own := a.Queue.GetHttpTarget()
	u, err := taskURL(task.GetUrl(), own.GetUriOverride())
	if err != nil {
		return nil, err
	}
	method, body := Method(task.GetHttpMethod()), task.GetBody()
	if m := own.GetHttpMethod(); m != cloudtaskspb.HttpMethod_HTTP_METHOD_UNSPECIFIED {
		if method = m.String(); !allowsBody(method) {
			body = nil
		}
	}
	header := headersOf(task.GetHeaders())
	for _, o := range own.GetHeaderOverrides() {
		if name := o.GetHeader().GetKey(); !IsComputed(name) {
			header.Set(name, o.GetHeader().GetValue())
		}
	}
	header.Set("User-Agent", wire.UserAgentHTTP)
	header.Set("Accept-Encoding", acceptEncoding)
	authorization, err := d.authorization(own, task, u)
	if err != nil {
		return nil, err
	}
	if authorization != "" {
		header.Set("Authorization", authorization)
	}
	wire.HTTP.Write(header, wire.Dispatch{
		Queue:            a.QueueID,
		Task:             a.TaskID,
		RetryCount:       a.Retries,
		ExecutionCount:   a.Executions,
		ETA:              a.Schedule,
		Retried:          a.Retries > 0,
		PreviousResponse: previousHTTP(a.Previous),
	})
	return newRequest(ctx, method, u, header, body)
}

// IsComputed reports whether the service ignores this header of an HTTP task or
// queue, because it sets it itself (docs/cloud-tasks.md#9.2). X-CloudTasks-* is not in
// the list for tasks of v2, but in those of the betas.
func IsComputed(name string) bool {
	return strings.EqualFold(name, "Host") || strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "User-Agent") ||
		hasPrefixFold(name, "X-Google-") || hasPrefixFold(name, "X-AppEngine-") || hasPrefixFold(name, "X-CloudTasks-")
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// headersOf returns the headers of a task. Of two spellings of one name, the
// last in the order of bytes is sent: which one the service sends is unknown.
func headersOf(headers map[string]string) http.Header {
	h := make(http.Header, len(headers)+12)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		h.Set(name, headers[name])
	}
	return h
}

// authorization makes the token of a dispatch. The queue's beats the task's
// (docs/cloud-tasks.md#9.7); "" without either.
func (d *Dispatcher) authorization(own *cloudtaskspb.HttpTarget, task *cloudtaskspb.HttpRequest, u *url.URL) (string, error) {
	oidc, oauth := task.GetOidcToken(), task.GetOauthToken()
	if own.GetAuthorizationHeader() != nil {
		oidc, oauth = own.GetOidcToken(), own.GetOauthToken()
	}
	if (oidc != nil || oauth != nil) && !MayCarryToken(u, d.Strict) {
		return "", fmt.Errorf("emulator: no token is sent to %s over http: the URL must begin with https://", u.Host)
	}
	switch {
	case oidc != nil:
		audience := oidc.GetAudience()
		if audience == "" {
			audience = defaultAudience(own, task, u)
		}
		token, err := d.Tokens.OIDC(oidc.GetServiceAccountEmail(), audience)
		return "Bearer " + token, err
	case oauth != nil:
		scope := oauth.GetScope()
		if scope == "" {
			scope = cloudPlatform
		}
		return "Bearer " + d.Tokens.OAuth(oauth.GetServiceAccountEmail(), scope), nil
	}
	return "", nil
}

// MayCarryToken reports whether requests to u may have a token. The service
// wants https (docs/cloud-tasks.md#9.7). Unless strict, http does for development.
func MayCarryToken(u *url.URL, strict bool) bool {
	return u.Scheme == "https" || !strict && target.IsDevelopment(u.Hostname())
}

// defaultAudience is the URL of the task as it is stored, or what the queue made
// of it. Whether the service normalises it is unknown (docs/cloud-tasks.md#10.1).
func defaultAudience(own *cloudtaskspb.HttpTarget, task *cloudtaskspb.HttpRequest, u *url.URL) string {
	if own.GetUriOverride() != nil {
		return u.String()
	}
	return task.GetUrl()
}

// previousHTTP is the previous response as HTTP targets are told: no response
// by the deadline is a 504 (docs/cloud-tasks.md#9.4). No response for another reason is
// unknown; in the same spirit it is a 503 here.
func previousHTTP(o engine.Outcome) int {
	switch {
	case o.Status != 0:
		return o.Status
	case o.Timeout:
		return http.StatusGatewayTimeout
	default:
		return http.StatusServiceUnavailable
	}
}

func newRequest(ctx context.Context, method string, u *url.URL, header http.Header, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, "", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.URL, req.Host, req.Header = u, u.Host, header
	return req, nil
}

// Method is the HTTP method of a task; POST is the default.
func Method(m cloudtaskspb.HttpMethod) string {
	if m == cloudtaskspb.HttpMethod_HTTP_METHOD_UNSPECIFIED {
		return http.MethodPost
	}
	return m.String()
}
