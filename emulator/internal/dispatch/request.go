package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/internal/wire"
)

// cloudPlatform is the default scope of OAuth tokens (docs/cloud-tasks.md#10.1).
const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

// Observed on a real dispatch (docs/cloud-tasks.md#9.4).
const acceptEncoding = "gzip,deflate,br"

func (d *Dispatcher) request(ctx context.Context, a *engine.Dispatch) (*http.Request, error) {
	if target := a.Task.GetAppEngineHttpRequest(); target != nil {
		return d.appEngineRequest(ctx, a, target)
	}
	return d.httpRequest(ctx, a, a.Task.GetHttpRequest())
}

// httpRequest is the dispatch of an HTTP task, under the queue's overrides.
func (d *Dispatcher) httpRequest(ctx context.Context, a *engine.Dispatch, target *cloudtaskspb.HttpRequest) (*http.Request, error) {
	u, err := parseURL(target.GetUrl())
	if err != nil {
		return nil, fmt.Errorf("emulator: task URL: %w", err)
	}
	own := a.Queue.GetHttpTarget()
	override(u, own.GetUriOverride())
	method, body := Method(target.GetHttpMethod()), target.GetBody()
	if m := own.GetHttpMethod(); m != cloudtaskspb.HttpMethod_HTTP_METHOD_UNSPECIFIED {
		if method = m.String(); !allowsBody(method) {
			body = nil
		}
	}
	header := make(http.Header, len(target.GetHeaders())+12)
	for name, value := range target.GetHeaders() {
		header.Set(name, value)
	}
	for _, o := range own.GetHeaderOverrides() {
		if name := o.GetHeader().GetKey(); !IsComputed(name) {
			header.Set(name, o.GetHeader().GetValue())
		}
	}
	header.Set("User-Agent", wire.UserAgentHTTP)
	header.Set("Accept-Encoding", acceptEncoding)
	authorization, err := d.authorization(own, target, u)
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

// authorization makes the token of a dispatch. The queue's beats the task's
// (docs/cloud-tasks.md#9.7); "" without either.
func (d *Dispatcher) authorization(own *cloudtaskspb.HttpTarget, target *cloudtaskspb.HttpRequest, u *url.URL) (string, error) {
	oidc, oauth := target.GetOidcToken(), target.GetOauthToken()
	if own.GetAuthorizationHeader() != nil {
		oidc, oauth = own.GetOidcToken(), own.GetOauthToken()
	}
	switch {
	case oidc != nil:
		audience := oidc.GetAudience()
		if audience == "" {
			audience = defaultAudience(own, target, u)
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

// defaultAudience is the target's URI as it was written, or what the queue
// made of it. Whether the service normalises it is unknown (docs/cloud-tasks.md#10.1).
func defaultAudience(own *cloudtaskspb.HttpTarget, target *cloudtaskspb.HttpRequest, u *url.URL) string {
	if own.GetUriOverride() != nil {
		return u.String()
	}
	return target.GetUrl()
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

// parseURL reads the URL of a task. "Cloud Tasks will encode some characters
// for safety and compatibility"; which ones is unknown (docs/cloud-tasks.md#9.1), and a
// bad percent escape is accepted at create time. Here those are encoded with
// which the URL would not parse.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err == nil {
		return u, nil
	}
	if u, err = url.Parse(EncodeURL(raw)); err != nil {
		// Without the URL, which may hold a secret in its query.
		if bad, ok := errors.AsType[*url.Error](err); ok {
			err = bad.Err
		}
		return nil, err
	}
	return u, nil
}

// EncodeURL encodes what may not stand in a URL as it is.
func EncodeURL(raw string) string {
	var b strings.Builder
	for i := range len(raw) {
		c := raw[i]
		bad := c <= ' ' || c >= 0x7f || c == '%' && !(i+2 < len(raw) && isHex(raw[i+1]) && isHex(raw[i+2]))
		if bad {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
