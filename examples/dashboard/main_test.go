package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/api/option"

	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/dashboard/emulatorsource"
	"github.com/brillconsulting/handoff/emulator"
)

// board is a dashboard with this Authorize.
func board(t *testing.T, authorize func(*http.Request) error) *dashboard.Dashboard {
	t.Helper()
	tasks := emulator.RunT(t)
	if err := addTask(t.Context(), tasks); err != nil {
		t.Fatal(err)
	}
	source, err := emulatorsource.New(tasks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Close() })
	b, err := dashboard.New(dashboard.Config{Source: source, Authorize: authorize, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func get(t *testing.T, b *dashboard.Dashboard, change func(*http.Request)) (code int, challenge string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://ops.example.com/", nil)
	change(r)
	rec := httptest.NewRecorder()
	b.ServeHTTP(rec, r)
	return rec.Code, rec.Header().Get("WWW-Authenticate")
}

func TestBasicAuth(t *testing.T) {
	b := board(t, basicAuth("ops", "open-sesame"))
	for _, tc := range []struct {
		name   string
		change func(*http.Request)
		want   int
	}{
		{"right", func(r *http.Request) { r.SetBasicAuth("ops", "open-sesame") }, 200},
		{"nothing", func(*http.Request) {}, 401},
		{"another password", func(r *http.Request) { r.SetBasicAuth("ops", "open") }, 401},
		{"another user", func(r *http.Request) { r.SetBasicAuth("opsopen", "-sesame") }, 401},
		{"another scheme", func(r *http.Request) { r.Header.Set("Authorization", "Bearer open-sesame") }, 401},
	} {
		code, challenge := get(t, b, tc.change)
		if code != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, code, tc.want)
		}
		// Browsers ask for a password where there is a challenge.
		if asked := strings.HasPrefix(challenge, "Basic "); asked != (tc.want == 401) {
			t.Errorf("%s: WWW-Authenticate is %q", tc.name, challenge)
		}
	}
}

// google is where idtoken finds IAP's keys and those of Google's accounts.
type google struct {
	iap      *ecdsa.PrivateKey
	accounts *emulator.Server
}

func (g google) RoundTrip(r *http.Request) (*http.Response, error) {
	keys := g.accounts.JWKS()
	if strings.HasPrefix(r.URL.Path, "/iap/") {
		public, err := g.iap.PublicKey.Bytes()
		if err != nil {
			return nil, err
		}
		if keys, err = json.Marshal(map[string]any{"keys": []any{map[string]string{
			"kty": "EC", "alg": "ES256", "use": "sig", "crv": "P-256", "kid": "key-1", "x": encode(public[1:33]), "y": encode(public[33:]),
		}}}); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(keys)), Request: r}, nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// assertion is one that IAP signs, with these claims changed.
func (g google) assertion(t *testing.T, changes map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": "https://cloud.google.com/iap", "aud": audience, "email": "ada@example.com", "sub": "accounts.google.com:1",
		"iat": time.Now().Unix(), "exp": time.Now().Add(10 * time.Minute).Unix(),
	}
	maps.Copy(claims, changes)
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed := encode([]byte(`{"alg":"ES256","typ":"JWT","kid":"key-1"}`)) + "." + encode(body)
	hash := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, g.iap, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + encode(signature)
}

const audience = "/projects/123/global/backendServices/456"

func TestIAP(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	g := google{key, emulator.RunT(t)}
	authorize, err := iapAuth(t.Context(), audience, option.WithHTTPClient(&http.Client{Transport: g}))
	if err != nil {
		t.Fatal(err)
	}
	b := board(t, authorize)
	// A token of an account of somebody's own, for the audience of this service.
	account, err := g.accounts.Token("eve@elsewhere.iam.gserviceaccount.com", audience)
	if err != nil {
		t.Fatal(err)
	}
	whole := g.assertion(t, nil)
	for _, tc := range []struct {
		name, assertion string
		want            int
	}{
		{"IAP's", whole, 200},
		{"none", "", 403},
		{"for another service", g.assertion(t, map[string]any{"aud": "/projects/123/global/backendServices/789"}), 403},
		{"expired", g.assertion(t, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), 403},
		{"of another issuer", g.assertion(t, map[string]any{"iss": "https://accounts.google.com"}), 403},
		{"an account's", account, 403},
		{"with another signature", whole[:len(whole)-8] + "AAAAAAAA", 403},
		{"with half a signature", whole[:len(whole)-43], 403}, // idtoken panics on it
	} {
		code, _ := get(t, b, func(r *http.Request) { r.Header.Set("X-Goog-IAP-JWT-Assertion", tc.assertion) })
		if code != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, code, tc.want)
		}
	}
	if _, err := iapAuth(t.Context(), ""); err == nil {
		t.Error("an empty audience is accepted")
	}
}
