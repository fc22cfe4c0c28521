package oidc_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
)

func TestFreshness(t *testing.T) {
	t.Parallel()
	const none, date = time.Duration(0), "Mon, 23 Nov 2026 09:00:00 GMT"
	for name, tc := range map[string]struct {
		header http.Header
		want   time.Duration
	}{
		"google's own":           {http.Header{"Cache-Control": {"public, max-age=22344, must-revalidate, no-transform"}, "Age": {"344"}}, 22000 * time.Second},
		"nothing said":           {http.Header{}, none},
		"max-age":                {http.Header{"Cache-Control": {"max-age=60"}}, time.Minute},
		"in capitals":            {http.Header{"Cache-Control": {"MAX-AGE=60"}}, time.Minute},
		"quoted":                 {http.Header{"Cache-Control": {`max-age="60"`}}, time.Minute},
		"white space":            {http.Header{"Cache-Control": {"public ,\tmax-age=60 "}}, time.Minute},
		"on a second line":       {http.Header{"Cache-Control": {"public", "max-age=60"}}, time.Minute},
		"empty elements":         {http.Header{"Cache-Control": {",, max-age=60,,"}}, time.Minute},
		"comma in quotes":        {http.Header{"Cache-Control": {`private="a, max-age=7", max-age=60`}}, time.Minute},
		"escaped quote":          {http.Header{"Cache-Control": {`private="\", max-age=7", max-age=60`}}, time.Minute},
		"twice: the first":       {http.Header{"Cache-Control": {"max-age=60, max-age=7"}}, time.Minute},
		"as part of a name":      {http.Header{"Cache-Control": {"x-max-age=60"}}, none},
		"s-maxage is not ours":   {http.Header{"Cache-Control": {"s-maxage=7, max-age=60"}}, time.Minute},
		"no value":               {http.Header{"Cache-Control": {"max-age"}}, none},
		"negative":               {http.Header{"Cache-Control": {"max-age=-60"}}, none},
		"fraction":               {http.Header{"Cache-Control": {"max-age=60.5"}}, none},
		"too large to count":     {http.Header{"Cache-Control": {"max-age=99999999999999999999"}}, 1 << 31 * time.Second},
		"no-store":               {http.Header{"Cache-Control": {"max-age=60, no-store"}}, none},
		"no-cache":               {http.Header{"Cache-Control": {"no-cache, max-age=60"}}, none},
		"age":                    {http.Header{"Cache-Control": {"max-age=60"}, "Age": {"20"}}, 40 * time.Second},
		"older than it may be":   {http.Header{"Cache-Control": {"max-age=60"}, "Age": {"61"}}, none},
		"list of ages":           {http.Header{"Cache-Control": {"max-age=60"}, "Age": {"20 , 50"}}, 40 * time.Second},
		"negative age":           {http.Header{"Cache-Control": {"max-age=60"}, "Age": {"-20"}}, time.Minute},
		"expires":                {http.Header{"Expires": {"Mon, 23 Nov 2026 10:00:00 GMT"}, "Date": {date}}, time.Hour},
		"max-age over expires":   {http.Header{"Cache-Control": {"max-age=60"}, "Expires": {"Mon, 23 Nov 2026 10:00:00 GMT"}, "Date": {date}}, time.Minute},
		"expires in the past":    {http.Header{"Expires": {"Mon, 23 Nov 2026 08:00:00 GMT"}, "Date": {date}}, none},
		"expires: 0":             {http.Header{"Expires": {"0"}, "Date": {date}}, none},
		"expires without a date": {http.Header{"Expires": {"Mon, 23 Nov 2026 10:00:00 GMT"}}, none},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, oidc.Freshness(tc.header), tc.want)
		})
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for url, says := range map[string]string{
		oidc.Google:                             "",
		"https://keys.example.com:8443/jwks":    "",
		"http://localhost:8123/oauth2/v3/certs": "",
		"http://127.0.0.1:8123/jwks":            "",
		"http://[::1]:8123/jwks":                "",
		"http://emulator:8123/jwks":             "",
		"http://keys.example.com/jwks":          "https",
		"http://10.0.0.1/jwks":                  "https",
		"http://127.0.0.1.example.com/jwks":     "https",
		"http://2130706433.example.com/":        "https",
		"http://134744072/jwks":                 "https", // 8.8.8.8
		"http://0x8080808/jwks":                 "https",
		"http://[fe80::1%25eth0]/jwks":          "https",
		"ftp://localhost/jwks":                  "https",
		"file:///etc/passwd":                    "https",
		"https://user:pass@keys.example.com/":   "https",
		"keys.example.com/jwks":                 "https",
		"":                                      "https",
		"https://keys.example.com/%zz":          "not a URL",
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			err := oidc.CheckURL(url)
			if says == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, says)
			}
		})
	}
}

func TestURLErrorsHoldNoSecret(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"https://user:S3CRET@keys.example.com/certs", "http://keys.example.com/certs?key=S3CRET", "http://keys.example.com/S3CRET",
		"https://user:S3CRET@keys.example.com/%zz", "S3CRET", "ftp://keys.example.com/#S3CRET",
	} {
		err := oidc.CheckURL(url)
		assert.ErrorContains(t, err, "it")
		assert.Equal(t, strings.Contains(err.Error(), "S3CRET"), false)
	}
}

func TestFetch(t *testing.T) {
	t.Parallel()
	good := oidctest.JWKS(oidctest.Shared())
	for name, tc := range map[string]struct {
		serve http.HandlerFunc
		says  string // nothing: the keys come
	}{
		"good": {serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = w.Write(good)
		}},
		"not found":    {http.NotFound, "status 404"},
		"no content":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, "status 204"},
		"elsewhere":    {http.RedirectHandler("/", http.StatusFound).ServeHTTP, "status 302"},
		"not JSON":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "not a JWKS"},
		"without keys": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }, "no RSA key"},
		"without end": {func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 10 {
				_, _ = w.Write([]byte(strings.Repeat(" ", 2<<10)))
			}
		}, "more than"},
		"cut short": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10000")
			_, _ = w.Write(good)
		}, "unexpected EOF"},
		"hung up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tc.serve)
			t.Cleanup(srv.Close)
			keys, life, err := oidc.FetchFrom(srv.URL, oidc.NewTransport())(t.Context())
			if tc.says != "" {
				assert.ErrorContains(t, err, tc.says)
				return
			}
			assert.NoError(t, err)
			assert.Equal(t, life, time.Minute)
			assert.Equal(t, reason(t, oidc.New(policy, oidc.Static(keys)), oidctest.Shared().Good()), "")
		})
	}
}
