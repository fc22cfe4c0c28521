package oidc_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
)

// Whatever the header holds, only the token that was signed is accepted.
func FuzzBearer(f *testing.F) {
	key := oidctest.Shared()
	good := key.Good()
	segments := strings.Split(good, ".")
	f.Add("Bearer " + good)
	f.Add("bearer " + good)
	f.Add("Bearer\t" + good)
	f.Add("Bearer  " + good)
	f.Add("Bearer " + good + " ")
	f.Add("Bearer " + good + "=")
	f.Add("Bearer " + good + ", Bearer " + good)
	f.Add("Bearer " + good[:len(good)-1])
	f.Add("Bearer " + segments[0] + "." + segments[1] + ".")
	f.Add("Bearer " + segments[0] + "." + segments[1] + ".SIGNATURE_REMOVED_BY_GOOGLE")
	f.Add("Bearer " + oidctest.Segment([]byte(`{"alg":"none"}`)) + "." + segments[1] + ".")
	f.Add("Bearer " + oidctest.Segment([]byte("null")) + "." + oidctest.Segment([]byte("null")) + ".AA")
	f.Add("Bearer ..")
	f.Add("")
	f.Fuzz(func(t *testing.T, value string) {
		v := oidc.New(policy, static(t, key))
		_, err := v.Verify(context.Background(), map[string][]string{"Authorization": {value}})
		if err == nil && value != "Bearer "+good {
			t.Fatal("accepted what was never signed")
		}
		if err != nil && len(value) > 20 && strings.Contains(err.Error(), value[len(value)-10:]) {
			t.Fatalf("the error quotes the token: %v", err)
		}
	})
}

// A signed token is accepted only if encoding/json finds in it, once and in this
// spelling, every claim that the policy asks for, and if Google's own library
// accepts it.
func FuzzSigned(f *testing.F) {
	key := oidctest.Shared()
	google := newLibrary(f, key)
	source := static(f, key)
	good := oidctest.Claims(nil)
	for _, claims := range []string{
		good,
		oidctest.Claims(map[string]any{"nbf": time.Now().Unix(), "google": map[string]any{"a": []int{1}}}),
		strings.Replace(good, `"aud":`, `"AUD":"x","aud":`, 1),
		strings.Replace(good, `"email":`, `"email":"x@y","email":`, 1),
		strings.Replace(good, `"exp":`, `"exp":1e9,"x":`, 1),
		strings.Replace(good, `example`, `\u0065xample`, 1),
		`{}`, `null`, `[]`, `{"aud":["a"]}`, `{"exp":99999999999999999999}`,
	} {
		f.Add(key.Header(), claims)
	}
	for _, header := range []string{`{}`, `null`, `{"alg":"RS256"}`, `{"alg":"none","Alg":"RS256","kid":"shared-key"}`, `{"alg":"RS256","kid":"shared-key","crit":[]}`} {
		f.Add(header, good)
	}
	f.Fuzz(func(t *testing.T, header, claims string) {
		token := key.Sign(header, claims)
		_, err := oidc.New(policy, source).Verify(context.Background(), bearer(token))
		if err != nil {
			return
		}
		if members(t, claims)["aud"] == oidctest.Audience && !google.accepts(t, token) {
			t.Fatalf("the library refuses %s.%s", header, claims)
		}
		now := time.Now().Unix()
		head, c := members(t, header), members(t, claims)
		assert.Equal(t, head["alg"], any("RS256"))
		assert.Equal(t, head["kid"], any(key.ID))
		exp, iat := whole(t, c["exp"]), whole(t, c["iat"])
		if !slices.Contains(policy.Audiences, c["aud"].(string)) || !slices.Contains(policy.Callers, c["email"].(string)) ||
			c["email_verified"] != true || !strings.HasSuffix(c["iss"].(string), "accounts.google.com") ||
			exp < now || iat > now+60 || exp-iat > 4000 {
			t.Fatalf("accepted %s", claims)
		}
	})
}

// members parses a JSON object, and fails if two of its names differ only in
// case.
func members(t *testing.T, object string) map[string]any {
	t.Helper()
	var m map[string]any
	d := json.NewDecoder(strings.NewReader(object))
	d.UseNumber()
	assert.NoError(t, d.Decode(&m))
	seen := make(map[string]bool)
	for name := range m {
		if folded := strings.ToLower(name); seen[folded] && decides(folded) {
			t.Fatalf("accepted %s, which has %q in two spellings", object, name)
		}
		seen[strings.ToLower(name)] = true
	}
	return m
}

func decides(name string) bool {
	return slices.Contains([]string{"alg", "kid", "iss", "aud", "email", "email_verified", "exp", "iat"}, name)
}

func whole(t *testing.T, v any) int64 {
	t.Helper()
	n, err := v.(json.Number).Int64()
	assert.NoError(t, err)
	return n
}
