package oidc

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// MaxToken is the longest token that is parsed. Google's are under 1 kB.
const MaxToken = 8 << 10

// removed stands in place of the signature of a token that Google's platform has
// already verified (docs/cloud-tasks.md#15.3).
const removed = "SIGNATURE_REMOVED_BY_GOOGLE"

const (
	authorization = "Authorization"
	scheme        = "Bearer "
)

// Bearer returns the token of a request. RFC 9110 allows any case for the
// scheme; Cloud Tasks, the only client, sends "Bearer", so no other is accepted.
func Bearer(h http.Header) (string, *Refusal) {
	values := h[authorization]
	switch {
	case len(values) == 0:
		return "", refuse(NoToken, "no Authorization header")
	case len(values) > 1:
		return "", refuse(TwoTokens, "more than one Authorization header")
	case len(values[0]) > len(scheme)+MaxToken:
		return "", refuse(TooLong, "the token is longer than 8 KiB")
	}
	token, ok := strings.CutPrefix(values[0], scheme)
	if !ok || token == "" {
		return "", refuse(Malformed, "the Authorization header holds no bearer token")
	}
	return token, nil
}

// parsed is a parsed token that is not verified yet. Zero means absent; parse
// refuses empty claims.
type parsed struct {
	alg, typ, kid                string
	issuer, audience             string
	email, subject               string
	emailVerified                string // "true" or "false"
	expires, issuedAt, notBefore int64
	signed                       string // the part that the signature covers
	signature                    []byte
	removed                      bool // the platform removed the signature
}

// longSegment is longer than any segment of a real token, so that decoding one
// does not allocate.
const longSegment = 1 << 10

// parse parses a token, and refuses one that is not of the form of Google's.
func parse(token string) (parsed, *Refusal) {
	var p parsed
	var scratch [longSegment]byte
	header, rest, ok1 := strings.Cut(token, ".")
	claims, signature, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 {
		return p, refuse(Malformed, "the token does not have three segments")
	}
	if b, ok := decode(scratch[:0], header); !ok || !object(string(b), p.headerMember) {
		return p, refuse(Malformed, "the token's header is not of the form of Google's")
	}
	switch {
	case p.alg != "RS256":
		// ES256 belongs to Identity-Aware Proxy (docs/cloud-tasks.md#16.5); "none" and
		// HS256 are attacks.
		return p, refuse(Algorithm, "the token is not signed by RS256")
	case p.kid == "":
		return p, refuse(Malformed, "the token names no key")
	}
	if b, ok := decode(scratch[:0], claims); !ok || !object(string(b), p.claim) {
		return p, refuse(Malformed, "the token's claims are not of the form of Google's")
	}
	if p.removed = signature == removed; p.removed {
		return p, nil
	}
	var ok bool
	if p.signature, ok = decode(nil, signature); !ok {
		return p, refuse(Malformed, "the token's signature is not base64url")
	}
	p.signed = token[:len(header)+1+len(claims)]
	return p, nil
}

func (p *parsed) headerMember(name, value string) bool {
	switch name {
	case "alg":
		return setString(&p.alg, value)
	case "kid":
		return setString(&p.kid, value)
	case "typ":
		return setString(&p.typ, value) && p.typ == "JWT"
	case "crit", "jku", "jwk", "x5c", "x5u":
		// A key that comes with the token would be an attacker's. An unknown "crit"
		// must be refused (RFC 7515 §4.1.11).
		return false
	}
	return !respelt(name, "alg", "kid", "typ", "crit")
}

func (p *parsed) claim(name, value string) bool {
	switch name {
	case "iss":
		return setString(&p.issuer, value)
	case "aud":
		return setString(&p.audience, value)
	case "sub":
		return setString(&p.subject, value)
	case "email":
		return setString(&p.email, value)
	case "email_verified":
		return setBool(&p.emailVerified, value)
	case "exp":
		return setTime(&p.expires, value)
	case "iat":
		return setTime(&p.issuedAt, value)
	case "nbf":
		return setTime(&p.notBefore, value)
	}
	return !respelt(name, "iss", "aud", "sub", "email", "email_verified", "exp", "iat", "nbf")
}

// respelt reports whether name equals one of names but for case. encoding/json,
// among others, would match the two.
func respelt(name string, names ...string) bool {
	for _, n := range names {
		if strings.EqualFold(name, n) {
			return true
		}
	}
	return false
}

// strict refuses a segment whose last character has unused bits set: there would
// be several encodings of one value.
var strict = base64.RawURLEncoding.Strict()

// decode decodes base64url without padding. It refuses line ends, which the
// decoder would skip.
func decode(into []byte, segment string) ([]byte, bool) {
	if segment == "" || strings.ContainsAny(segment, "\r\n") {
		return nil, false
	}
	var copied [longSegment]byte
	b, err := strict.AppendDecode(into, append(copied[:0], segment...))
	return b, err == nil
}
