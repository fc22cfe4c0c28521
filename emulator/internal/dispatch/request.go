package dispatch

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/internal/wire"
)

// cloudPlatform is the default scope of OAuth tokens (reference §10.1).
const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

func (d *Dispatcher) request(ctx context.Context, a *engine.Attempt) (*http.Request, error) {
	return d.httpRequest(ctx, a, a.Task.GetHttpRequest())
}

func (d *Dispatcher) httpRequest(ctx context.Context, a *engine.Attempt, target *cloudtaskspb.HttpRequest) (*http.Request, error) {
	u, err := parseURL(target.GetUrl())
	if err != nil {
		return nil, fmt.Errorf("emulator: task URL: %w", err)
	}
	header := make(http.Header, len(target.GetHeaders())+12)
	for name, value := range target.GetHeaders() {
		header.Set(name, value)
	}
	header.Set("User-Agent", wire.UserAgentHTTP)
	// Observed on a real dispatch (reference §9.4).
	header.Set("Accept-Encoding", "gzip,deflate,br")
	if err := d.authorize(header, target); err != nil {
		return nil, err
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
	return newRequest(ctx, Method(target.GetHttpMethod()), u, header, target.GetBody())
}

func (d *Dispatcher) authorize(header http.Header, target *cloudtaskspb.HttpRequest) error {
	if t := target.GetOidcToken(); t != nil {
		audience := t.GetAudience()
		if audience == "" {
			// As written: whether the service normalises it is unknown (reference §10.1).
			audience = target.GetUrl()
		}
		token, err := d.Tokens.OIDC(t.GetServiceAccountEmail(), audience)
		if err != nil {
			return err
		}
		header.Set("Authorization", "Bearer "+token)
	}
	if t := target.GetOauthToken(); t != nil {
		scope := t.GetScope()
		if scope == "" {
			scope = cloudPlatform
		}
		header.Set("Authorization", "Bearer "+d.Tokens.OAuth(t.GetServiceAccountEmail(), scope))
	}
	return nil
}

// previousHTTP is the previous response as HTTP targets are told: no answer
// by the deadline is a 504 (reference §9.4). No answer for another reason is
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
// for safety and compatibility"; which ones is unknown (reference §9.1), and a
// bad percent escape is accepted at create time. Here those are encoded with
// which the URL would not parse.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err == nil {
		return u, nil
	}
	return url.Parse(encodeURL(raw))
}

func encodeURL(raw string) string {
	var b strings.Builder
	for i := range len(raw) {
		c := raw[i]
		bad := c <= ' ' || c == 0x7f || c == '%' && !(i+2 < len(raw) && isHex(raw[i+1]) && isHex(raw[i+2]))
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
