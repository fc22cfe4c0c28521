package oidc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// MaxToken is the longest token looked at. Real ones are under 1 kB; the token
// library splits without bound, so the bound is ours to set.
const MaxToken = 8 << 10

// removed replaces the signature of a token that Google's platform has already
// checked (reference §15.3).
const removed = "SIGNATURE_REMOVED_BY_GOOGLE"

const (
	authorization = "Authorization"
	scheme        = "Bearer "
)

// Bearer returns the one token of a request. The scheme's case is fixed,
// although RFC 9110 would allow any: one client talks to us, and it writes it
// so.
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

// parsed is a token taken apart, with nothing of it believed yet.
type parsed struct {
	header  header
	claims  claims
	removed bool // the signature was removed by the platform
}

type header struct {
	Alg once[string] `json:"alg"`
	Kid once[string] `json:"kid"`
	Typ once[string] `json:"typ"`

	// Keys that a token brings along are the attacker's, and demands ("crit")
	// that nobody here understands must be refused (RFC 7515 §4.1.11). Google
	// sends neither.
	Crit json.RawMessage `json:"crit"`
	JKU  json.RawMessage `json:"jku"`
	JWK  json.RawMessage `json:"jwk"`
	X5C  json.RawMessage `json:"x5c"`
	X5U  json.RawMessage `json:"x5u"`
}

type claims struct {
	Issuer        once[string] `json:"iss"`
	Audience      once[string] `json:"aud"`
	Subject       once[string] `json:"sub"`
	Email         once[string] `json:"email"`
	EmailVerified once[bool]   `json:"email_verified"`
	Expires       once[int64]  `json:"exp"`
	IssuedAt      once[int64]  `json:"iat"`
	NotBefore     once[int64]  `json:"nbf"`
}

// once is a member that may appear once in its object, in one spelling.
// encoding/json takes the last of several and matches names in any case, so
// two readers of one token could see different claims.
type once[T string | bool | int64] struct {
	value T
	set   bool
}

var errTwice, errNull = errors.New("a member appears twice"), errors.New("a member is null")

func (o *once[T]) UnmarshalJSON(b []byte) error {
	if o.set {
		return errTwice
	}
	if bytes.Equal(b, []byte("null")) {
		return errNull
	}
	o.set = true
	return json.Unmarshal(b, &o.value)
}

// strict refuses the 15 other spellings of a signature whose last character
// carries bits that count for nothing.
var strict = base64.RawURLEncoding.Strict()

// parse takes token apart and refuses whatever Google's tokens never are.
func parse(token string) (*parsed, *Refusal) {
	head, rest, ok := strings.Cut(token, ".")
	body, signature, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || head == "" || body == "" || !base64URL(head) || !base64URL(body) || !base64URL(signature) {
		return nil, refuse(Malformed, "the token is not three segments of unpadded base64url")
	}
	p := new(parsed)
	var scratch [MaxToken]byte
	if err := object(scratch[:0], head, &p.header); err != nil {
		return nil, refuse(Malformed, "the token's header cannot be read")
	}
	if p.header.Alg.value != "RS256" {
		// ES256 tokens are another product's, and short ones crash the token
		// library (reference §16.5); none and HS256 are attacks.
		return nil, refuse(Algorithm, "the token is not signed by RS256")
	}
	switch h := &p.header; {
	case h.Crit != nil, h.JKU != nil, h.JWK != nil, h.X5C != nil, h.X5U != nil:
		return nil, refuse(Malformed, "the token's header brings keys or demands along")
	case h.Typ.set && h.Typ.value != "JWT":
		return nil, refuse(Malformed, "the token is not of type JWT")
	case h.Kid.value == "":
		return nil, refuse(Malformed, "the token names no key")
	}
	if err := object(scratch[:0], body, &p.claims); err != nil {
		return nil, refuse(Malformed, "the token's claims cannot be read")
	}
	if signature == removed {
		p.removed = true
		return p, nil
	}
	if _, err := strict.AppendDecode(scratch[:0], []byte(signature)); err != nil || signature == "" {
		return nil, refuse(Malformed, "the token's signature is not base64url")
	}
	return p, nil
}

var errNotObject = errors.New("not a JSON object")

// object decodes one segment. JSON null, which decodes into anything, is
// refused.
func object(scratch []byte, segment string, into any) error {
	b, err := strict.AppendDecode(scratch, []byte(segment))
	if err != nil {
		return err
	}
	if len(b) == 0 || b[0] != '{' {
		return errNotObject
	}
	return json.Unmarshal(b, into)
}

// base64URL says whether s is of the alphabet alone. The decoder is laxer: it
// skips line ends.
func base64URL(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
