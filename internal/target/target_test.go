package target_test

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/target"
)

// sent returns the request target and the Host header that a request for u has on
// the wire.
func sent(t *testing.T, u *url.URL) (requestURI, host string) {
	t.Helper()
	var wire bytes.Buffer
	assert.NoError(t, (&http.Request{Method: http.MethodPost, URL: u, Host: u.Host}).Write(&wire))
	r, err := http.ReadRequest(bufio.NewReader(&wire))
	assert.NoError(t, err)
	return r.RequestURI, r.Host
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ raw, host, uri string }{
		{"http://h", "h", "/"},
		{"http://h/", "h", "/"},
		{"http://h?a=b", "h", "/?a=b"},
		{"http://h/?", "h", "/?"},
		{"http://h/a b?q=two words", "h", "/a%20b?q=two%20words"},
		{"http://h/?q=ü", "h", "/?q=%C3%BC"},
		{"http://h/files/a%2Fb/ü", "h", "/files/a%2Fb/%C3%BC"},
		{"http://h/%2f%2F%41", "h", "/%2f%2F%41"},
		{"http://h/100%/%zz/%4", "h", "/100%25/%25zz/%254"},
		{"http://h/%25/%2525", "h", "/%25/%2525"},
		{"http://h//a//b/../c/./", "h", "//a//b/../c/./"},
		{"http://h/a;b=c,d:e@f!$&'()*+~_-.[]", "h", "/a;b=c,d:e@f!$&'()*+~_-.[]"},
		{"http://h/?filter[a]=b+c&d=%2B", "h", "/?filter[a]=b+c&d=%2B"},
		{"http://h/\"<>\\^`{|}", "h", "/%22%3C%3E%5C%5E%60%7B%7C%7D"},
		{"http://h/a\r\nHost: evil\tx\x00\x7f", "h", "/a%0D%0AHost:%20evil%09x%00%7F"},
		{"http://h/a?b?c", "h", "/a?b?c"},
		{"http://h/a?b#c d?e#f", "h", "/a?b"},
		{"http://h/a#b?c", "h", "/a"},
		{"http://h/😀", "h", "/%F0%9F%98%80"},
		{"http://h/*", "h", "/*"},
		{"http://h:8080/", "h:8080", "/"},
		{"http://h:/", "h:", "/"},
		{"http://127.0.0.1:1/", "127.0.0.1:1", "/"},
		{"http://[::1]:80/ü", "[::1]:80", "/%C3%BC"},
		{"http://[2001:db8::1]/", "[2001:db8::1]", "/"},
		{"http://bücher.example/", "xn--bcher-kva.example", "/"},
		{"http://bücher.example:81/", "xn--bcher-kva.example:81", "/"},
		{"http://b%C3%BCcher.example/", "xn--bcher-kva.example", "/"},
		{"http://under_score/", "under_score", "/"},
		{"http://UPPER.example/", "UPPER.example", "/"},
		{"http://user:pa%20ss@h/a b", "h", "/a%20b"},
		{"https://h/a:b://c", "h", "/a:b://c"},
	} {
		u, err := target.Parse(tt.raw)
		if err != nil {
			t.Errorf("%q: %v", tt.raw, err)
			continue
		}
		uri, host := sent(t, u)
		// An empty port is not sent.
		if want := strings.TrimSuffix(tt.host, ":"); uri != tt.uri || strings.TrimSuffix(host, ":") != want {
			t.Errorf("%q: sent %q to %q, want %q to %q", tt.raw, uri, host, tt.uri, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"http://", "http:///a", "http://:80/", "http://a b/", "http://a%20b/", "http://a\r\nb/", "http://h:99999/", "http://h:8a/",
		"http://[::1/", "http://user name@h/", "http://\xff/", "http://h\\@evil/", "http://-ü.example/",
	} {
		u, err := target.Parse(raw)
		if err == nil {
			t.Errorf("%q: is %q", raw, u)
		}
	}
	_, err := target.Parse("http://user:secret@h:99999/?token=secret")
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error quotes the secret: %v", err)
	}
}

func TestEncodeEveryByte(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		s := string([]byte{byte(c)})
		for part, got := range map[string]string{"path": target.EncodePath(s), "query": target.EncodeQuery(s)} {
			if target.EncodePath(got) != got && got != "?" {
				t.Errorf("%s %q: encoding it twice gives another result", part, s)
			}
			unescaped, err := url.PathUnescape(got)
			assert.NoError(t, err)
			assert.Equal(t, unescaped, s)
		}
	}
	assert.Equal(t, target.EncodePath("a?b#c%"), "a%3Fb%23c%25")
	assert.Equal(t, target.EncodeQuery("a?b#c&d= "), "a?b%23c&d=%20")
}

// FuzzParse compares Parse with net/http's parser of requests: a server must receive
// what was encoded, and decode it to what was meant.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "/a b", "/a%2Fb/ü?q=%zz#x", "?q=two words", "/%", "/%4", "//[]\\", "/\r\n", "/a?b?c#d#e", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		if rest != "" && !strings.ContainsAny(rest[:1], "/?#") {
			rest = "/" + rest // otherwise it would be part of the host
		}
		u, err := target.Parse("http://h" + rest)
		if err != nil {
			t.Fatalf("%q: %v", rest, err)
		}
		uri, _ := sent(t, u)
		rest, _, _ = strings.Cut(rest, "#")
		path, query, _ := strings.Cut(rest, "?")
		if path == "" {
			path = "/"
		}
		wantPath, err := url.PathUnescape(target.EncodePath(path))
		if err != nil {
			t.Fatalf("%q: %v", path, err)
		}
		got, err := url.ParseRequestURI(uri)
		if err != nil {
			t.Fatalf("%q: %v", uri, err)
		}
		if got.Path != wantPath || got.RawQuery != target.EncodeQuery(query) {
			t.Errorf("%q: a server reads path %q and query %q", rest, got.Path, got.RawQuery)
		}
		for i := range len(uri) {
			if uri[i] <= ' ' || uri[i] >= 0x7f {
				t.Errorf("%q: sent as %q", rest, uri)
			}
		}
		if again := target.EncodeURL("http://h" + uri); again != "http://h"+uri {
			t.Errorf("%q: encoded twice, it changes to %q", uri, again)
		}
	})
}

func TestIsHost(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"worker.example.com": true, "h": true, "under_score": true, "127.0.0.1": true, "::1": true, "[::1]": true, "bücher.example": true,
		"": false, "h:80": false, "http://h": false, "h/": false, "h/a": false, "h?a": false, "h#a": false, "u@h": false, "a b": false,
		"[127.0.0.1]": false, "fe80::1%eth0": false, "a\nb": false, "[": false, "a%20b": false,
		strings.Repeat("a.", 126) + "a": true, strings.Repeat("a.", 126) + "aa": false, strings.Repeat("ü.", 63) + "a": false,
	} {
		if got := target.IsHost(s); got != want {
			t.Errorf("%q: got %v", s, got)
		}
	}
}

func TestIsDevelopment(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST.": true, "app.localhost": true, "worker": true, "my_worker-1": true, "mac.local": true,
		"host.docker.internal": true, "127.0.0.1": true, "127.8.9.1": true, "::1": true, "[::1]": true, "::ffff:127.0.0.1": true,
		"10.1.2.3": true, "172.17.0.2": true, "192.168.0.1": true, "fd00::1": true, "0.0.0.0": true, "::": true, "0xworker": true,
		"": false, ".": false, "worker.example.com": false, "localhost.example.com": false, "notlocalhost.com": false, "local.com": false,
		"8.8.8.8": false, "2001:db8::1": false, "2130706433": false, "0x7f000001": false, "0x": false, "017700000001": false, "172.32.0.1": false,
		"::ffff:8.8.8.8": false, "worker.run.app": false,
	} {
		if got := target.IsDevelopment(host); got != want {
			t.Errorf("%q: got %v", host, got)
		}
	}
}
