package wire

import (
	"net/http"
	"slices"
	"strings"
)

// TargetURL returns the URL that the task was delivered to. Its scheme is https if
// the request came over TLS, or if the header of a proxy or the audience of the
// caller's token shows that a proxy terminated TLS.
func TargetURL(req *http.Request, audience string) string {
	scheme := "http"
	if req.TLS != nil || req.Header.Get("X-Forwarded-Proto") == "https" || strings.HasPrefix(audience+"/", "https://"+req.Host+"/") {
		scheme = "https"
	}
	path := req.URL.RequestURI()
	if strings.HasPrefix(req.RequestURI, "/") {
		path = req.RequestURI // as it was sent; a mux may have cut URL.Path
	}
	return scheme + "://" + req.Host + path
}

// credentials are the headers that no letter, log or page may hold.
var credentials = map[string]bool{
	"Authorization": true, "Proxy-Authorization": true, "X-Serverless-Authorization": true, "Cookie": true,
}

// added are headers that clients, gateways and platforms add to requests. In a task
// without a stamp they do not count as the producer's, although the producer may
// have set one.
var added = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Connection": true, "Keep-Alive": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true, "Forwarded": true, "Via": true,
	"X-Forwarded-For": true, "X-Forwarded-Proto": true, "X-Forwarded-Host": true, "X-Forwarded-Port": true,
	"X-Forwarded-Access-Token": true, "X-Forwarded-User": true, "X-Forwarded-Email": true, "X-Forwarded-Client-Cert": true,
	"X-Real-Ip": true, "X-Request-Id": true, "X-Cloud-Trace-Context": true,
	"X-Goog-Iap-Jwt-Assertion": true, "X-Goog-Authenticated-User-Email": true, "X-Goog-Authenticated-User-Id": true,
	"X-Amzn-Trace-Id": true, "X-Amzn-Oidc-Data": true, "X-Amzn-Oidc-Accesstoken": true, "X-Envoy-External-Address": true,
}

// credentialParts are what names of credentials have in common, in lower case.
// Of a task without a stamp a header of such a name is withheld.
var credentialParts = []string{
	"authorization", "assertion", "jwt", "token", "principal", "client-cert", "credential", "api-key", "apikey", "secret", "session", "cookie",
}

func maybeCredential(name string) bool {
	lower := strings.ToLower(name)
	return slices.ContainsFunc(credentialParts, func(part string) bool { return strings.Contains(lower, part) })
}

// ProducerHeader returns the headers that the producer set on a task. The stamp
// names them, and they may include credentials. Without a stamp it returns all
// headers except credentials and those that others are known to add. It never
// returns Content-Encoding, which describes the body as it was sent.
func ProducerHeader(h http.Header, stamp Stamp) http.Header {
	own := make(http.Header)
	keep := func(name string, values []string) {
		if len(values) > 0 && !IsReserved(name) && name != "Content-Encoding" {
			own[name] = slices.Clone(values)
		}
	}
	if stamp.ID != "" {
		for _, name := range append([]string{"Content-Type"}, stamp.Headers...) {
			keep(name, h[name])
		}
		return own
	}
	for name, values := range h {
		if !added[name] && !maybeCredential(name) {
			keep(name, values)
		}
	}
	return own
}

// OwnHeader returns the headers of [ProducerHeader] without credentials.
func OwnHeader(h http.Header, stamp Stamp) http.Header {
	own := ProducerHeader(h, stamp)
	for name := range credentials {
		delete(own, name)
	}
	return own
}

// LetterHeader returns the headers of a task that its letter keeps: the producer's
// without credentials, and the stamp.
func LetterHeader(h http.Header, stamp Stamp) http.Header {
	kept := OwnHeader(h, stamp)
	for name, values := range h {
		if IsStamp(name) {
			kept[name] = slices.Clone(values)
		}
	}
	return kept
}

// Withheld returns the names of the credentials that the stamp names and that
// header does not hold.
func Withheld(header http.Header, stamp Stamp) []string {
	var names []string
	for _, name := range stamp.Headers {
		if credentials[name] && len(header[name]) == 0 {
			names = append(names, name)
		}
	}
	return names
}

// IsReserved reports whether handoff or the service sets the task header of this
// name, in any casing (docs/cloud-tasks.md#9.2).
func IsReserved(name string) bool {
	for _, p := range []string{prefix, "X-CloudTasks-", "X-AppEngine-", "X-Google-"} {
		if len(name) >= len(p) && strings.EqualFold(name[:len(p)], p) {
			return true
		}
	}
	return strings.EqualFold(name, "Host") || strings.EqualFold(name, "Content-Length") ||
		strings.EqualFold(name, "User-Agent")
}
