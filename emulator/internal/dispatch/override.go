package dispatch

import (
	"net/http"
	"net/netip"
	"net/url"
	"strconv"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// override applies the URI override of a queue (docs/cloud-tasks.md#9.8). Whether it
// replaces what the task has or only gives what the task lacks is its mode;
// scheme and host a task never lacks, a path of "/" is none.
func override(u *url.URL, o *cloudtaskspb.UriOverride) {
	if o == nil {
		return
	}
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
		u.RawQuery = o.GetQueryOverride().GetQueryParams()
	}
}

func joinHostPort(host, port string) string {
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is6() {
		host = "[" + host + "]"
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
	u.Path, u.RawPath = path, ""
	if plain, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = plain, path
	}
}

// allowsBody reports whether an HTTP task of this method has a body (docs/cloud-tasks.md#9.6).
func allowsBody(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}
