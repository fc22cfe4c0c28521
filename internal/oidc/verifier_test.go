package oidc_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

var policy = oidc.Policy{
	Audiences: []string{"https://old.example.com", oidctest.Audience},
	Callers:   []string{"old@project.iam.gserviceaccount.com", oidctest.Email},
}

func static(t testing.TB, keys ...*oidctest.Key) *oidc.Source {
	t.Helper()
	set, err := oidc.ParseKeys(oidctest.JWKS(keys...))
	assert.NoError(t, err)
	return oidc.Static(set)
}

func bearer(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}}
}

// reason verifies a token and returns why it was refused, or "".
func reason(t testing.TB, v *oidc.Verifier, token string) string {
	t.Helper()
	_, err := v.Verify(context.Background(), bearer(token))
	if err == nil {
		return ""
	}
	refusal, ok := errors.AsType[*oidc.Refusal](err)
	if !ok {
		t.Fatalf("not a Refusal: %v", err)
	}
	return refusal.Reason
}

func TestVerify(t *testing.T) {
	t.Parallel()
	v := oidc.New(policy, static(t, oidctest.Shared()))
	token := oidctest.Shared().Good()
	for range 2 { // verified, then from memory
		id, err := v.Verify(t.Context(), bearer(token))
		assert.NoError(t, err)
		assert.Equal(t, id, oidc.Identity{Email: oidctest.Email, Subject: oidctest.Subject, Audience: oidctest.Audience})
	}
}

func BenchmarkVerify(b *testing.B) {
	key := oidctest.Shared()
	source := static(b, key)
	header := bearer(key.Good())
	b.Run("known", func(b *testing.B) {
		v := oidc.New(policy, source)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(context.Background(), header); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			v := oidc.New(policy, source) // its memory is empty
			b.StartTimer()
			if _, err := v.Verify(context.Background(), header); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("rsa", func(b *testing.B) {
		signed, signature := parts(header)
		b.ReportAllocs()
		for b.Loop() {
			sum := sha256.Sum256([]byte(signed))
			if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], signature); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func parts(header http.Header) (signed string, signature []byte) {
	token := strings.TrimPrefix(header.Get("Authorization"), "Bearer ")
	end := strings.LastIndexByte(token, '.')
	return token[:end], oidctest.Decode(token[end+1:])
}
