package dashboard_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	w := setup(t)
	source, err := dashboard.NewAdminSource(dashboard.AdminSourceConfig{Admin: w.admin})
	assert.NoError(t, err)
	allow := func(*http.Request) error { return nil }
	for name, tc := range map[string]struct {
		config dashboard.Config
		wants  []string
	}{
		"nothing":      {dashboard.Config{}, []string{"Config.Source is nil", "Config.Authorize is nil"}},
		"nobody asks":  {dashboard.Config{Source: source}, []string{"Config.Authorize is nil", "Loopback"}},
		"both":         {dashboard.Config{Source: source, Authorize: allow, Loopback: true}, []string{"both set"}},
		"prefix":       {dashboard.Config{Source: source, Loopback: true, Prefix: "ops"}, []string{`Config.Prefix is "ops"`}},
		"slash":        {dashboard.Config{Source: source, Loopback: true, Prefix: "/ops/"}, []string{`Config.Prefix is "/ops/"`}},
		"lone client":  {dashboard.Config{Source: source, Loopback: true, Client: w.client}, []string{"DeadLetters is not"}},
		"all is amiss": {dashboard.Config{Prefix: "x", Client: w.client}, []string{"Source", "Authorize", "Prefix", "Client"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := dashboard.New(tc.config)
			assert.ErrorContains(t, err, append(tc.wants, "dashboard: ")...)
		})
	}
}

func TestNewAdminSourceRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		config dashboard.AdminSourceConfig
		want   string
	}{
		{dashboard.AdminSourceConfig{}, "Admin is nil"},
		{dashboard.AdminSourceConfig{Admin: new(admin.Admin), ListsPerMinute: 601}, "ListsPerMinute is 601"},
		{dashboard.AdminSourceConfig{Admin: new(admin.Admin), ListsPerMinute: -1}, "ListsPerMinute is -1"},
		{dashboard.AdminSourceConfig{Admin: new(admin.Admin), ListsPerMinute: 1, Unmetered: true}, "both set"},
	} {
		_, err := dashboard.NewAdminSource(tc.config)
		assert.ErrorContains(t, err, tc.want, "dashboard: ")
	}
}

// Loopback allows requests from this machine only, whatever their headers.
func TestLoopback(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for name, tc := range map[string]struct {
		local, remote, host string
		header              [2]string
		want                int
	}{
		"this machine":         {"127.0.0.1:8080", "127.0.0.1:50000", "127.0.0.1:8080", [2]string{}, 200},
		"by name":              {"127.0.0.1:8080", "127.0.0.1:50000", "localhost:8080", [2]string{}, 200},
		"without a port":       {"127.0.0.1:80", "127.0.0.1:50000", "localhost", [2]string{}, 200},
		"over IPv6":            {"[::1]:8080", "[::1]:50000", "[::1]:8080", [2]string{}, 200},
		"IPv6 without a port":  {"[::1]:80", "[::1]:50000", "[::1]", [2]string{}, 200},
		"mapped":               {"[::ffff:127.0.0.1]:8080", "[::ffff:127.0.0.1]:50000", "127.0.0.1:8080", [2]string{}, 200},
		"to a public address":  {"192.0.2.1:8080", "127.0.0.1:50000", "127.0.0.1:8080", [2]string{}, 403},
		"from another machine": {"127.0.0.1:8080", "192.0.2.9:50000", "127.0.0.1:8080", [2]string{}, 403},
		"rebound name":         {"127.0.0.1:8080", "127.0.0.1:50000", "evil.example:8080", [2]string{}, 403},
		"looks like localhost": {"127.0.0.1:8080", "127.0.0.1:50000", "localhost.evil.example", [2]string{}, 403},
		"looks like 127":       {"127.0.0.1:8080", "127.0.0.1:50000", "127.0.0.1.evil.example:8080", [2]string{}, 403},
		"no host":              {"127.0.0.1:8080", "127.0.0.1:50000", "", [2]string{}, 403},
		"through a proxy":      {"127.0.0.1:8080", "127.0.0.1:50000", "127.0.0.1:8080", [2]string{"X-Forwarded-For", "192.0.2.9"}, 403},
		"forwarded":            {"127.0.0.1:8080", "127.0.0.1:50000", "127.0.0.1:8080", [2]string{"Forwarded", "for=192.0.2.9"}, 403},
		"no server":            {"", "127.0.0.1:50000", "127.0.0.1:8080", [2]string{}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, path := range []string{"/", "/dead", "/assets/style.css"} {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, board+path, nil)
				r.Host, r.RemoteAddr = tc.host, tc.remote
				if tc.header[0] != "" {
					r.Header.Set(tc.header[0], tc.header[1])
				}
				if tc.local != "" {
					local, err := net.ResolveTCPAddr("tcp", tc.local)
					assert.NoError(t, err)
					r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
				}
				rec := httptest.NewRecorder()
				w.board.ServeHTTP(rec, r)
				assert.Status(t, rec.Code, tc.want)
				if tc.want == 403 {
					assert.Equal(t, rec.Body.String(), "Forbidden\n") // strangers are told nothing
				}
			}
		})
	}
}

// Authorize is called for every request, and its error refuses the request.
func TestAuthorize(t *testing.T) {
	t.Parallel()
	var allowed atomic.Bool
	w := setup(t, func(_ *world, c *dashboard.Config) {
		c.Loopback = false
		c.Authorize = func(r *http.Request) error {
			if allowed.Load() || r.Header.Get("X-Staff") == "yes" {
				return nil
			}
			return errors.New("no badge")
		}
	})
	paths := []string{"/", "/queues/shop/europe-west1/emails", "/dead", "/assets/dashboard.js", "/nothing"}
	for _, path := range paths {
		status, body := w.try(board + path)
		assert.Status(t, status, http.StatusForbidden)
		assert.Equal(t, body, "Forbidden\n")
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, page+"/resume", nil)
	rec := httptest.NewRecorder()
	w.board.ServeHTTP(rec, r)
	assert.Status(t, rec.Code, http.StatusForbidden)
	r = httptest.NewRequestWithContext(t.Context(), http.MethodGet, board+"/", nil)
	r.Header.Set("X-Staff", "yes")
	rec = httptest.NewRecorder()
	w.board.ServeHTTP(rec, r)
	assert.Status(t, rec.Code, http.StatusOK)
	allowed.Store(true)
	w.get(board + "/")
}

// Every path is guarded, also the prefix without a slash.
func TestEveryPathIsGuarded(t *testing.T) {
	t.Parallel()
	asked := 0
	w := setup(t, func(_ *world, c *dashboard.Config) {
		c.Loopback = false
		c.Authorize = func(*http.Request) error { asked++; return errors.New("a stranger") }
	})
	for _, path := range []string{board, board + "/", board + "/dead", "/", "/elsewhere", board + "//dead", board + "/../x"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions, http.MethodConnect} {
			asked = 0
			rec := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), method, "http://ops.example", nil)
			r.URL.Path = path
			w.board.ServeHTTP(rec, r)
			assert.Status(t, rec.Code, http.StatusForbidden)
			assert.Equal(t, asked, 1)
			assert.Equal(t, rec.Header().Get("X-Frame-Options"), "DENY")
			assert.Equal(t, rec.Header().Get("Location"), "")
		}
	}
	open := setup(t)
	open.browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := open.browser.Get(open.server.URL + board)
	assert.NoError(t, err)
	resp.Body.Close()
	assert.Status(t, resp.StatusCode, http.StatusMovedPermanently)
	assert.Equal(t, resp.Header.Get("Location"), board+"/")
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	w := setup(t, func(_ *world, c *dashboard.Config) {
		c.Loopback = false
		c.Authorize = func(r *http.Request) error {
			switch user, _, _ := r.BasicAuth(); user {
			case "ada":
				return nil
			case "":
				return fmt.Errorf("nobody: %w", dashboard.Challenge(`Basic realm="tasks"`))
			}
			return errors.New("not of the staff")
		}
	})
	for user, want := range map[string]int{"": 401, "ada": 200, "eve": 403} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, board+"/", nil)
		if user != "" {
			r.SetBasicAuth(user, "secret")
		}
		rec := httptest.NewRecorder()
		w.board.ServeHTTP(rec, r)
		assert.Status(t, rec.Code, want)
		challenge := ""
		if want == 401 {
			challenge = `Basic realm="tasks"`
			assert.Equal(t, rec.Body.String(), "Unauthorized\n")
		}
		assert.Equal(t, rec.Header().Get("WWW-Authenticate"), challenge)
	}
}

func TestAuthorizeThatPanicsRefuses(t *testing.T) {
	t.Parallel()
	w := setup(t, func(_ *world, c *dashboard.Config) {
		c.Loopback = false
		c.Authorize = func(r *http.Request) error { return errors.New(r.Header["X-Staff"][0]) }
	})
	rec := httptest.NewRecorder()
	w.board.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, board+"/", nil))
	assert.Status(t, rec.Code, http.StatusForbidden)
}

// counted is a store that counts its lists.
type counted struct {
	handoff.DeadLetterStore
	lists *atomic.Int64
}

func (c counted) List(ctx context.Context, q handoff.DeadLetterQuery) (handoff.DeadLetterPage, error) {
	c.lists.Add(1)
	return c.DeadLetterStore.List(ctx, q)
}

// An image or a script of another site cannot load a page. A link of another site
// can, because a person follows it.
func TestOtherSitesReadNothing(t *testing.T) {
	t.Parallel()
	var lists atomic.Int64
	w := setup(t, func(w *world, c *dashboard.Config) { c.DeadLetters = counted{w.letters, &lists} })
	for name, tc := range map[string]struct {
		site, mode, dest string
		want             int
	}{
		"image":            {"cross-site", "no-cors", "image", 403},
		"fetch":            {"cross-site", "cors", "empty", 403},
		"frame":            {"cross-site", "navigate", "iframe", 403},
		"image, a sibling": {"same-site", "no-cors", "image", 403},
		"link":             {"cross-site", "navigate", "document", 200},
		"own page":         {"same-origin", "cors", "empty", 200},
		"typed":            {"none", "navigate", "document", 200},
	} {
		lists.Store(0)
		for _, path := range []string{"/dead/redrive", "/dead"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+board+path, nil)
			assert.NoError(t, err)
			req.Header.Set("Sec-Fetch-Site", tc.site)
			req.Header.Set("Sec-Fetch-Mode", tc.mode)
			req.Header.Set("Sec-Fetch-Dest", tc.dest)
			resp, err := w.browser.Do(req)
			assert.NoError(t, err)
			resp.Body.Close()
			if resp.StatusCode != tc.want {
				t.Errorf("%s of %s: %d, want %d", name, path, resp.StatusCode, tc.want)
			}
		}
		if tc.want == 403 && lists.Load() > 0 {
			t.Errorf("%s: the store was read %d times", name, lists.Load())
		}
	}
}

// Refusals log at most one line a second, of limited length.
func TestRefusalsDoNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		board, err := dashboard.New(dashboard.Config{
			Source:    quick{},
			Authorize: func(r *http.Request) error { return errors.New("no badge for " + r.URL.Path) },
			Logger:    slog.New(slog.NewTextHandler(&log, nil)),
		})
		assert.NoError(t, err)
		defer board.Close()
		knock := func() {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/"+strings.Repeat("x", 100_000), nil)
			board.ServeHTTP(httptest.NewRecorder(), r)
		}
		for range 1000 {
			knock()
		}
		assert.Equal(t, strings.Count(log.String(), "\n"), 1)
		time.Sleep(time.Second)
		knock()
		knock()
		assert.Equal(t, strings.Count(log.String(), "\n"), 2)
		contains(t, log.String(), "skipped=999", "no badge", "method=GET")
		if log.Len() > 2000 {
			t.Errorf("two lines have %d bytes", log.Len())
		}
	})
}

// forged is a request for a change that another site might send.
type forged struct {
	name   string
	header http.Header
	cookie bool // the browser sends the cookie of the page
	token  string
}

func TestForgedChanges(t *testing.T) {
	t.Parallel()
	w := setup(t)
	token := w.token()
	for _, tc := range []forged{
		{"from another site", http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}}, true, token},
		{"from a sibling site", http.Header{"Sec-Fetch-Site": {"same-site"}}, true, token},
		{"from an old browser on another site", http.Header{"Origin": {"https://evil.example"}}, true, token},
		{"from a sandbox", http.Header{"Origin": {"null"}}, true, token},
		{"without a token", http.Header{"Sec-Fetch-Site": {"same-origin"}}, true, ""},
		{"with a made-up token", http.Header{"Sec-Fetch-Site": {"same-origin"}}, true, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
		{"without the cookie", http.Header{"Sec-Fetch-Site": {"same-origin"}}, false, token},
		{"without anything", http.Header{}, false, ""},
	} {
		for _, path := range []string{page + "/resume", page + "/purge", board + "/dead/redrive", board + "/dead/letter/delete"} {
			status := w.forge(tc, path)
			if status != http.StatusForbidden {
				t.Fatalf("%s, %s: %d", tc.name, path, status)
			}
		}
	}
	queue, err := w.admin.Queues().Get(t.Context(), "emails")
	assert.NoError(t, err)
	assert.Equal(t, queue.State, admin.Paused)
	assert.Equal(t, queue.PurgedAt.IsZero(), true)

	// Without the fault the same request is allowed, so the fault is why it was
	// refused.
	assert.Status(t, w.forge(forged{"", http.Header{"Sec-Fetch-Site": {"same-origin"}}, true, token}, page+"/resume"), http.StatusSeeOther)
}

func (w *world) forge(f forged, path string) int {
	w.t.Helper()
	body := strings.NewReader(url.Values{"token": {f.token}, "confirm": {"emails"}}.Encode())
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.server.URL+path, body)
	assert.NoError(w.t, err)
	req.Header = f.header.Clone()
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	browser := &http.Client{Transport: w.browser.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if f.cookie {
		browser.Jar = w.browser.Jar
	}
	resp, err := browser.Do(req)
	assert.NoError(w.t, err)
	defer resp.Body.Close()
	return resp.StatusCode
}

// A GET changes nothing.
func TestChangesArePosts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	name := w.create(1)[0]
	for _, path := range []string{page + "/resume", page + "/pause", page + "/tasks/task-0/run", page + "/tasks/task-0/delete", page + "/purge", board + "/dead/letter/delete"} {
		_, _ = w.try(path)
	}
	_, err := w.admin.Tasks().Get(t.Context(), name, admin.Basic)
	assert.NoError(t, err)
	queue, err := w.admin.Queues().Get(t.Context(), "emails")
	assert.NoError(t, err)
	assert.Equal(t, queue.State, admin.Paused)
}

// With ReadOnly no page offers a change, and every POST is refused.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	w := setup(t, func(_ *world, c *dashboard.Config) { c.ReadOnly = true })
	w.create(1)
	w.bury("welcome", 1)
	for _, path := range []string{
		board + "/", page, page + "/tasks/task-0", page + "/purge", page + "/tasks/task-0/delete",
		board + "/dead", board + "/dead/letter?id=welcome-0", board + "/dead/redrive", board + "/dead/progress",
	} {
		body := w.get(path)
		contains(t, body, "read-only")
		for _, sign := range []string{"<button>Pause", "<button>Resume", "Run now", "Redrive</button>", `name="confirm"`, "Delete the"} {
			lacks(t, body, sign)
		}
	}
	for _, path := range []string{page + "/resume", page + "/purge", page + "/tasks/task-0/delete", board + "/dead/redrive"} {
		assert.Status(t, w.forge(forged{"", http.Header{"Sec-Fetch-Site": {"same-origin"}}, true, "x"}, path), http.StatusForbidden)
	}
}

// Every response has the security headers, also a refusal.
func TestHeaders(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, path := range []string{board + "/", page, board + "/dead", board + "/nothing", board + "/assets/style.css", board + "/assets/none"} {
		resp, err := w.browser.Get(w.server.URL + path)
		assert.NoError(t, err)
		resp.Body.Close()
		policy := resp.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			contains(t, policy, part)
		}
		lacks(t, policy, "unsafe", "*", "http", "data:")
		assert.Equal(t, resp.Header.Get("X-Content-Type-Options"), "nosniff")
		assert.Equal(t, resp.Header.Get("X-Frame-Options"), "DENY")
		assert.Equal(t, resp.Header.Get("Referrer-Policy"), "same-origin")
	}
}

func TestCookie(t *testing.T) {
	t.Parallel()
	w := setup(t)
	resp, err := w.browser.Get(w.server.URL + board + "/")
	assert.NoError(t, err)
	resp.Body.Close()
	cookie := resp.Cookies()[0]
	assert.Equal(t, []any{cookie.Path, cookie.HttpOnly, cookie.SameSite}, []any{board + "/", true, http.SameSiteStrictMode})
	again, err := w.browser.Get(w.server.URL + board + "/")
	assert.NoError(t, err)
	again.Body.Close()
	assert.Equal(t, len(again.Cookies()), 0) // pages that are open keep their token
}
