package dispatch

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/internal/target"
)

// taskURL returns where a task is delivered, under the override of its queue.
func taskURL(raw string, o *cloudtaskspb.UriOverride) (*url.URL, error) {
	u, err := target.Parse(raw)
	if err == nil && o != nil {
		override(u, o)
		u, err = target.Parse(u.String())
	}
	if err != nil {
		return nil, fmt.Errorf("emulator: task URL: %w", err)
	}
	return u, nil
}

// BufferURL is the URL of a task that is created by BufferTask, which comes from
// the override of the queue alone. It must have a host.
func BufferURL(o *cloudtaskspb.UriOverride) (*url.URL, error) {
	u := &url.URL{Scheme: "https", Host: "host"}
	override(u, &cloudtaskspb.UriOverride{
		Scheme: o.Scheme, Host: o.Host, Port: o.Port, PathOverride: o.PathOverride, QueryOverride: o.QueryOverride,
	})
	return target.Parse(u.String())
}

// override applies the URI override of a queue (docs/cloud-tasks.md#9.8). In the
// mode IF_NOT_EXISTS it sets only what the task does not have. Every task has a
// scheme and a host; a path of "/" counts as none.
func override(u *url.URL, o *cloudtaskspb.UriOverride) {
	always := o.GetUriOverrideEnforceMode() != cloudtaskspb.UriOverride_IF_NOT_EXISTS
	if o.Scheme != nil && always {
		switch o.GetScheme() {
		case cloudtaskspb.UriOverride_HTTP:
			u.Scheme = "http"
		case cloudtaskspb.UriOverride_HTTPS:
			u.Scheme = "https"
		}
	}
	host, port := u.Hostname(), u.Port()
	if o.Host != nil && always {
		host = o.GetHost()
	}
	if o.Port != nil && (always || port == "") {
		port = ""
		if o.GetPort() != 0 {
			port = strconv.FormatInt(o.GetPort(), 10)
		}
	}
	u.Host = joinHostPort(host, port)
	if o.PathOverride != nil && (always || u.Path == "" || u.Path == "/") {
		setPath(u, o.GetPathOverride().GetPath())
	}
	if o.QueryOverride != nil && (always || u.RawQuery == "") {
		u.RawQuery, u.ForceQuery = target.EncodeQuery(o.GetQueryOverride().GetQueryParams()), false
	}
}

func joinHostPort(host, port string) string {
	if strings.Contains(host, ":") && host[0] != '[' {
		host = "[" + host + "]" // IPv6
	}
	if port == "" {
		return host
	}
	return host + ":" + port
}

func setPath(u *url.URL, path string) {
	if path != "" && path[0] != '/' {
		path = "/" + path
	}
	u.RawPath = target.EncodePath(path)
	u.Path, _ = url.PathUnescape(u.RawPath) // it was just encoded
}

// allowsBody reports whether an HTTP task of this method has a body (docs/cloud-tasks.md#9.6).
func allowsBody(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}
