package oidc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	neturl "net/url"
	"strconv"
	"strings"
	"time"

	"github.com/brillconsulting/handoff/internal/target"
)

// Google is where Google publishes the keys that sign service accounts' ID
// tokens (docs/cloud-tasks.md#10.2).
const Google = "https://www.googleapis.com/oauth2/v3/certs"

// maxJWKS is far above any real set (Google's has about 1 kB).
const maxJWKS = 1 << 20

// CheckURL returns an error for a URL that keys must not be fetched from. Anyone
// who can change the keys in transit can sign tokens, so plain HTTP is allowed
// only for loopback addresses and for single-label host names, as in a local
// container network.
func CheckURL(raw string) error {
	u, err := neturl.Parse(raw)
	if err != nil {
		return errors.New("it is not a URL")
	}
	if err := checkParts(u); err != nil {
		return fmt.Errorf("%s://%s: %w", u.Scheme, u.Host, err) // path, query and password may be secrets
	}
	return nil
}

func checkParts(u *neturl.URL) error {
	switch host := u.Hostname(); {
	case host == "" || u.User != nil:
		return errors.New("it must be https://host/path")
	case u.Scheme == "https":
	case u.Scheme != "http":
		return errors.New("its scheme must be https")
	case mayBePlain(host):
	default:
		return errors.New("its scheme must be https: http is for localhost and names without a dot")
	}
	return nil
}

// mayBePlain reports whether a host is this machine, or a name that only a
// container network has. A number is neither: resolvers read it as an IPv4
// address.
func mayBePlain(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	return !strings.Contains(host, ".") && target.IsDevelopment(host)
}

// NewTransport returns the transport that fetches keys. It keeps no connection:
// hours pass between fetches, and an idle connection would hold a goroutine.
func NewTransport() http.RoundTripper {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// FetchFrom returns a function that gets the JWKS at url, for [Remote].
func FetchFrom(url string, transport http.RoundTripper) func(context.Context) (*Keys, time.Duration, error) {
	client := &http.Client{
		Transport: transport,
		// Do not follow redirects: CheckURL has seen only this URL.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) (*Keys, time.Duration, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, 0, err
		}
		from := req.URL.Scheme + "://" + req.URL.Host // its query may be a secret
		res, err := client.Do(req)
		if failed, ok := errors.AsType[*neturl.Error](err); ok {
			return nil, 0, fmt.Errorf("GET %s: %w", from, failed.Err) // it quotes the whole URL
		}
		if err != nil {
			return nil, 0, fmt.Errorf("GET %s: %w", from, err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return nil, 0, fmt.Errorf("GET %s: status %d", from, res.StatusCode)
		}
		body, err := io.ReadAll(io.LimitReader(res.Body, maxJWKS+1))
		if err != nil {
			return nil, 0, fmt.Errorf("GET %s: %w", from, err)
		}
		if len(body) > maxJWKS {
			return nil, 0, fmt.Errorf("GET %s: more than %d bytes", from, maxJWKS)
		}
		keys, err := ParseKeys(body)
		if err != nil {
			return nil, 0, fmt.Errorf("GET %s: %w", from, err)
		}
		return keys, freshness(res.Header), nil
	}
}

// freshness returns how long a private cache may use a response that was just
// received (RFC 9111 §4.2): max-age, or else Expires, less Age. It is zero if
// the response does not say, is malformed, or forbids caching.
func freshness(h http.Header) time.Duration {
	var life time.Duration
	cc := directives(h.Values("Cache-Control"))
	maxAge, ok := cc["max-age"]
	_, noStore := cc["no-store"]
	_, noCache := cc["no-cache"]
	switch {
	case noStore || noCache:
		return 0
	case ok:
		life = seconds(maxAge)
	default:
		// An invalid Expires, such as "0", means already expired (RFC 9111 §5.3).
		expires, err1 := http.ParseTime(h.Get("Expires"))
		date, err2 := http.ParseTime(h.Get("Date"))
		if err1 != nil || err2 != nil {
			return 0
		}
		life = expires.Sub(date)
	}
	// The first of several ages is used, and an invalid one is ignored (RFC 9111
	// §5.1).
	age, _, _ := strings.Cut(h.Get("Age"), ",")
	return max(0, life-seconds(strings.Trim(age, " \t")))
}

// seconds parses delta-seconds (RFC 9111 §1.2.2): digits only. A number that is
// too large becomes the longest Duration; anything else is zero.
func seconds(s string) time.Duration {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		n = 1 << 31
	}
	return time.Duration(min(n, 1<<31)) * time.Second
}

// directives parses Cache-Control field lines (RFC 9111 §5.2). Names are
// case-insensitive, and a value may be a quoted string that contains commas. The
// first of a repeated directive is used (§4.2.1).
func directives(lines []string) map[string]string {
	found := make(map[string]string)
	for _, line := range lines {
		for line != "" {
			var directive string
			directive, line = cutUnquoted(line)
			name, value, _ := strings.Cut(directive, "=")
			name = strings.ToLower(strings.Trim(name, " \t"))
			if _, ok := found[name]; !ok && name != "" {
				found[name] = unquote(strings.Trim(value, " \t"))
			}
		}
	}
	return found
}

// cutUnquoted splits s at its first comma outside a quoted string.
func cutUnquoted(s string) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '\\' && quoted:
			i++
		case s[i] == ',' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// unquote removes the quotes of a quoted string. It does not process
// backslashes: the values used here are digits, so one makes them invalid.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
