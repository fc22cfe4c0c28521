package oidc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"google.golang.org/api/idtoken"
	"google.golang.org/api/option"
)

// Keys is one set of public keys, ready to check signatures with. The token
// library keeps its keys inside its validator and asks for them over HTTP, so
// each set has a validator of its own whose HTTP client answers from memory.
type Keys struct {
	ids       map[string]bool
	canonical []byte // JWKS of the usable keys, in the order of their IDs
	validator *idtoken.Validator
}

// jwk has the members that an RS256 check reads (RFC 7517).
type jwk struct {
	Kid string `json:"kid"`
	Kty string `json:"kty"`
	Alg string `json:"alg,omitempty"`
	Use string `json:"use,omitempty"`
	N   string `json:"n"`
	E   string `json:"e"`
}

type jwks struct {
	Keys []jwk `json:"keys"`
}

// ParseKeys reads a JWKS. Keys that cannot check an RS256 signature (other
// types, other algorithms, keys to encrypt with, keys without an ID) are left
// out: the token library would look at none of that. A set without a usable
// key is an error.
func ParseKeys(raw []byte) (*Keys, error) {
	var set jwks
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("not a JWKS: %w", err)
	}
	set.Keys = slices.DeleteFunc(set.Keys, func(k jwk) bool {
		return k.Kid == "" || k.Kty != "RSA" || k.N == "" || k.E == "" ||
			(k.Alg != "" && k.Alg != "RS256") || (k.Use != "" && k.Use != "sig")
	})
	if len(set.Keys) == 0 {
		return nil, errors.New("the JWKS has no RSA key with a kid to check signatures with")
	}
	slices.SortFunc(set.Keys, func(a, b jwk) int { return cmp.Compare(a.Kid, b.Kid) })
	k := &Keys{ids: make(map[string]bool)}
	for _, key := range set.Keys {
		if k.ids[key.Kid] {
			return nil, errors.New("the JWKS has two keys with the same kid")
		}
		k.ids[key.Kid] = true
	}
	var err error
	if k.canonical, err = json.Marshal(set); err != nil {
		return nil, err
	}
	client := &http.Client{Transport: fromMemory(k.canonical)}
	k.validator, err = idtoken.NewValidator(context.Background(), option.WithHTTPClient(client))
	return k, err
}

// same says whether the two sets hold the same keys.
func (k *Keys) same(other *Keys) bool { return bytes.Equal(k.canonical, other.canonical) }

// check verifies the signature of a token that passed parse and names a key
// of this set. Neither the library's error, which may quote the token, nor a
// panic comes out.
func (k *Keys) check(token, audience string) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	// Not the request's context: nothing here waits, and a cancelled request
	// must not look like a bad signature.
	_, err := k.validator.Validate(context.Background(), token, audience)
	return err == nil
}

// fromMemory answers every request with the same JWKS, to be kept for ever.
type fromMemory []byte

func (m fromMemory) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Cache-Control": {"max-age=1000000000"}},
		Body:       io.NopCloser(bytes.NewReader(m)),
	}, nil
}
