package webguard_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/webguard"
)

func TestHosts(t *testing.T) {
	t.Parallel()
	guard := webguard.Guard{Hosts: []string{"Tasks.Example.com"}}
	for host, accepted := range map[string]bool{
		"127.0.0.1:8124":              true,
		"127.0.0.1":                   true,
		"192.168.1.7:8124":            true,
		"[::1]:8124":                  true,
		"[::1]":                       true,
		"[fe80::1%eth0]:8124":         true,
		"localhost:8124":              true,
		"LOCALHOST":                   true,
		"localhost.:8124":             true,
		"app.localhost:8124":          true,
		"tasks:8124":                  true, // a container's name
		"my_tasks-1":                  true,
		"laptop.local":                true,
		"host.docker.internal:8124":   true,
		"tasks.example.com":           true, // listed
		"tasks.example.com.:8124":     true,
		"":                            false,
		":8124":                       false,
		".":                           false,
		"evil.example":                false,
		"evil.example.":               false,
		"sub.tasks.example.com":       false,
		"example.com":                 false,
		"localhost.evil.example":      false,
		"127.0.0.1.evil.example:8124": false,
		"internal.evil.example":       false,
		"evil.example.local.com":      false,
		"2130706433":                  false,
		"0x7f000001:80":               false,
		"0x":                          false,
		"127.1":                       false,
		"256.256.256.256":             false,
		"evil..local":                 false,
		"-x.local":                    false,
		"a b":                         false,
		"tasks@evil":                  false,
		strings.Repeat("a", 64):       false,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Host = host
		if err := guard.Check(r); (err == nil) != accepted {
			t.Errorf("Host %q: %v", host, err)
		}
		if err := (webguard.Guard{AnyHost: true}).Check(r); err != nil {
			t.Errorf("Host %q of a server that takes any: %v", host, err)
		}
	}
}

func TestSites(t *testing.T) {
	t.Parallel()
	const own = "http://127.0.0.1:8124"
	link := http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}}
	frame := http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"iframe"}}
	for name, tc := range map[string]struct {
		method    string
		header    http.Header
		want      bool
		withLinks bool
	}{
		"no browser":                 {http.MethodPost, nil, true, true},
		"no browser reads":           {http.MethodGet, nil, true, true},
		"typed address":              {http.MethodGet, http.Header{"Sec-Fetch-Site": {"none"}}, true, true},
		"own page":                   {http.MethodPost, http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {own}}, true, true},
		"own page, old browser":      {http.MethodPost, http.Header{"Origin": {own}}, true, true},
		"another site":               {http.MethodPost, http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}}, false, false},
		"another site reads":         {http.MethodGet, http.Header{"Sec-Fetch-Site": {"cross-site"}}, false, false},
		"another port":               {http.MethodGet, http.Header{"Sec-Fetch-Site": {"same-site"}}, false, false},
		"another site, old browser":  {http.MethodPost, http.Header{"Origin": {"https://evil.example"}}, false, false},
		"reads with CORS":            {http.MethodGet, http.Header{"Origin": {"https://evil.example"}}, false, false},
		"asks for CORS":              {http.MethodOptions, http.Header{"Origin": {"https://evil.example"}}, false, false},
		"another scheme's port":      {http.MethodPost, http.Header{"Origin": {"http://127.0.0.1:80"}}, false, false},
		"sandbox":                    {http.MethodPost, http.Header{"Origin": {"null"}}, false, false},
		"not an origin":              {http.MethodPost, http.Header{"Origin": {"evil"}}, false, false},
		"new value of the header":    {http.MethodPost, http.Header{"Sec-Fetch-Site": {"future"}}, false, false},
		"link":                       {http.MethodGet, link, false, true},
		"link that posts":            {http.MethodPost, link, false, false},
		"frame":                      {http.MethodGet, frame, false, false},
		"image":                      {http.MethodGet, http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"no-cors"}, "Sec-Fetch-Dest": {"image"}}, false, false},
		"two origins, one their own": {http.MethodPost, http.Header{"Origin": {"https://evil.example", own}}, false, false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tc.method, own+"/", nil)
		maps.Copy(r.Header, tc.header)
		if err := (webguard.Guard{}).Check(r); (err == nil) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
		if err := (webguard.Guard{Links: true}).Check(r); (err == nil) != tc.withLinks {
			t.Errorf("%s, with links: %v", name, err)
		}
		assert.Equal(t, r.Method, tc.method)
	}
}

func TestCheckHostName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"tasks.example.com", "Tasks.example.com.", "a"} {
		assert.NoError(t, webguard.CheckHostName(name))
	}
	for _, name := range []string{"", ".", "*", "*.example.com", "http://tasks", "tasks:80", "a b", "a..b", strings.Repeat("a.", 127) + "aa"} {
		if webguard.CheckHostName(name) == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}
