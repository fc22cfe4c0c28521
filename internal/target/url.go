// Package target encodes and parses the URLs that tasks are delivered to, and knows
// which hosts are for development. Producers and receivers share it.
package target

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Parse encodes and parses the absolute URL of a task. The host of the result is in
// ASCII, as it is sent, and its RequestURI is exactly the encoded path and query.
// Errors do not quote the URL, whose query may hold a secret.
func Parse(raw string) (*url.URL, error) {
	u, err := url.Parse(EncodeURL(raw))
	if err != nil {
		if parse, ok := errors.AsType[*url.Error](err); ok {
			err = parse.Err
		}
		return nil, err
	}
	if u.Hostname() == "" {
		return nil, errors.New("it names no host")
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, fmt.Errorf("port %s is not between 0 and 65535", port)
		}
	}
	u.Host, err = asciiHost(u)
	return u, err
}

// asciiHost returns the host of u as it is sent. International names are encoded by
// IDNA. ASCII names are unchanged, because IDNA would refuse some that are in use,
// such as those with underscores.
func asciiHost(u *url.URL) (string, error) {
	if isASCII(u.Host) {
		return u.Host, nil
	}
	if !utf8.ValidString(u.Host) {
		return "", fmt.Errorf("host %q is not UTF-8", u.Hostname())
	}
	host, err := idna.Lookup.ToASCII(u.Hostname())
	if err != nil {
		return "", fmt.Errorf("host %q cannot be encoded: %w", u.Hostname(), err)
	}
	if u.Port() != "" {
		host += ":" + u.Port()
	}
	return host, nil
}

// IsHost reports whether s is a host name or an IP address and nothing more: no
// scheme, port or path. An IPv6 address may have its brackets. A name has at most
// 253 characters, the longest that DNS can hold (RFC 1035, section 2.3.4).
func IsHost(s string) bool {
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return addr.Zone() == "" && (addr.Is6() || s[0] != '[')
	}
	u, err := Parse("http://" + s + "/")
	return err == nil && u.User == nil && len(u.Host) <= 253 && u.Port() == "" && u.RequestURI() == "/" && !strings.ContainsAny(s, ":/?#@")
}

// EncodeURL percent-encodes what a URL must not contain (RFC 3986): spaces, control
// characters, quotes, non-ASCII bytes, and percent signs that do not begin an escape.
// It keeps escapes and the characters that separate the parts of a URL. It does not
// change scheme and host, which allow no escapes.
func EncodeURL(raw string) string {
	scheme, rest, found := strings.Cut(raw, "://")
	if !found || strings.ContainsAny(scheme, "/?#") {
		return EncodeRelative(raw)
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	return scheme + "://" + rest[:end] + EncodeRelative(rest[end:])
}

// EncodeRelative encodes a path and what follows it, as [EncodeURL] does.
func EncodeRelative(uri string) string { return encode(uri, "?#") }

// EncodePath encodes a path as [EncodeURL] does, including ? and #.
func EncodePath(path string) string { return encode(path, "") }

// EncodeQuery encodes a query as [EncodeURL] does, including #.
func EncodeQuery(query string) string { return encode(query, "?") }

// allowed lists the characters that are kept in paths and queries, besides letters
// and digits. RFC 3986 allows all but the brackets, which are common in queries and
// accepted by every parser.
const allowed = "-._~!$&'()*+,;=:@/[]"

func encode(s, separators string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case isAlnum(c), strings.IndexByte(allowed, c) >= 0, strings.IndexByte(separators, c) >= 0,
			c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
