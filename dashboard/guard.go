package dashboard

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard stands before every request.
type guard struct {
	authorize func(*http.Request) error
	readOnly  bool
	log       *slog.Logger
	path      string // of the cookie
	origins   *http.CrossOriginProtection
}

func newGuard(c *Config) guard {
	g := guard{authorize: c.Authorize, readOnly: c.ReadOnly, log: c.Logger, path: c.Prefix + "/", origins: http.NewCrossOriginProtection()}
	if c.Loopback {
		g.authorize = onLoopback
	}
	return g
}

// policy lets a page load our own style and script, show our own images, and
// talk to us; nothing else, and nothing inline. An escape that failed would
// have nothing to run with.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func (g guard) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		// Not no-referrer: with it a browser calls the origin of our own
		// forms "null".
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if err := g.check(r); err != nil {
			g.log.WarnContext(r.Context(), "dashboard: request refused", "method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr, "reason", err)
			http.Error(w, "Forbidden", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (g guard) check(r *http.Request) error {
	if err := g.authorize(r); err != nil {
		return err
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	if g.readOnly {
		return errors.New("the dashboard is read-only")
	}
	if err := g.origins.Check(r); err != nil {
		return err
	}
	return checkToken(r)
}

// onLoopback allows requests from this machine to this machine.
func onLoopback(r *http.Request) error {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil || !isLoopback(local.String()) {
		return fmt.Errorf("it came to %v, which is not a loopback address", local)
	}
	if !isLoopback(r.RemoteAddr) {
		return fmt.Errorf("it came from %s, which is not a loopback address", r.RemoteAddr)
	}
	// A page of any site can give its own name our address. The browser then
	// takes it for the same site, but still sends the name.
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if host != "localhost" && !isLoopback(net.JoinHostPort(strings.Trim(host, "[]"), "0")) {
		return fmt.Errorf("its host is %q, which is not a name of this machine", r.Host)
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Via"} {
		if r.Header.Get(name) != "" {
			return fmt.Errorf("a proxy passed it on (%s)", name)
		}
	}
	return nil
}

func isLoopback(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// A form carries the token that the cookie of its page carries. Another site
// can make a browser send the cookie, and cannot read it.
const (
	tokenCookie = "handoff_dashboard"
	tokenField  = "token"
	maxForm     = 1 << 20
)

func checkToken(r *http.Request) error {
	cookie, err := r.Cookie(tokenCookie)
	if err != nil || cookie.Value == "" {
		return errors.New("it has no token cookie")
	}
	r.Body = http.MaxBytesReader(nil, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return fmt.Errorf("its form: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(r.PostForm.Get(tokenField)), []byte(cookie.Value)) != 1 {
		return errors.New("the token of its form is not that of its cookie")
	}
	return nil
}

// token returns the token for the forms of a page, and sets the cookie if the
// browser has none yet.
func (g guard) token(w http.ResponseWriter, r *http.Request) string {
	if cookie, err := r.Cookie(tokenCookie); err == nil && len(cookie.Value) == len(rand.Text()) {
		return cookie.Value
	}
	token := rand.Text()
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure wherever there is TLS; a developer's machine has none
		Name:     tokenCookie,
		Value:    token,
		Path:     g.path,
		HttpOnly: true,
		Secure:   r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https",
		SameSite: http.SameSiteStrictMode,
	})
	return token
}
