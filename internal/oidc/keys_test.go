package oidc_test

import (
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
)

func TestParseKeys(t *testing.T) {
	t.Parallel()
	good := string(oidctest.JWKS(oidctest.Shared()))
	with := func(old, replacement string) string {
		changed := strings.Replace(good, old, replacement, 1)
		if changed == good {
			t.Fatalf("%s is not in %s", old, good)
		}
		return changed
	}
	for name, tc := range map[string]struct {
		jwks string
		says string // nothing: it is accepted
	}{
		"good":                   {jwks: good},
		"no alg":                 {jwks: with(`"alg":"RS256",`, "")},
		"no use":                 {jwks: with(`,"use":"sig"`, "")},
		"unknown members":        {jwks: with(`"kty"`, `"x5t":"x","kty"`)},
		"beside keys of others":  {jwks: with(`{"keys":[`, `{"keys":[{"kty":"EC","kid":"ec","crv":"P-256","x":"AA","y":"AA"},{"kty":"oct","kid":"shared-key","k":"AA"},`)},
		"not JSON":               {"<html>", "not a JWKS"},
		"empty":                  {"", "not a JWKS"},
		"null":                   {"null", "no RSA key"},
		"no keys":                {`{"keys":[]}`, "no RSA key"},
		"only symmetric":         {`{"keys":[{"kty":"oct","kid":"a","k":"AA"}]}`, "no RSA key"},
		"other type":             {with(`"RSA"`, `"EC"`), "no RSA key"},
		"other algorithm":        {with(`"RS256"`, `"PS256"`), "no RSA key"},
		"to encrypt with":        {with(`"sig"`, `"enc"`), "no RSA key"},
		"no kid":                 {with(`"kid":"shared-key",`, ""), "no RSA key"},
		"no modulus":             {with(`"n":"`, `"m":"`), "no RSA key"},
		"no exponent":            {with(`"e":"`, `"x":"`), "no RSA key"},
		"padded":                 {with(`"e":"AQAB"`, `"e":"AQAB="`), "no RSA key"},
		"short modulus":          {with(`"n":"`, `"n":"AQAB","m":"`), "no RSA key"},
		"exponent one":           {with(`"AQAB"`, `"AQ"`), "no RSA key"},
		"even exponent":          {with(`"AQAB"`, `"BA"`), "no RSA key"},
		"huge exponent":          {with(`"AQAB"`, `"AQABAQABAQAB"`), "no RSA key"},
		"beside numbers of none": {jwks: with(`{"keys":[`, `{"keys":[{"kty":"RSA","kid":"weak","n":"AQAB","e":"AQAB"},`)},
		"one kid, two keys":      {with(`{"keys":[`, `{"keys":[{"kty":"RSA","kid":"shared-key","n":"AQ","e":"AQAB"},`), "same kid"},
		"an array and no object": {"[" + good + "]", "not a JWKS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys, err := oidc.ParseKeys([]byte(tc.jwks))
			if tc.says != "" {
				assert.ErrorContains(t, err, tc.says)
				return
			}
			assert.NoError(t, err)
			assert.Equal(t, reason(t, oidc.New(policy, oidc.Static(keys)), oidctest.Shared().Good()), "")
		})
	}
}
