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

	"github.com/brillconsulting/handoff/internal/webguard"
)

// Challenge is an error for [Config.Authorize] to return, itself or wrapped, so
// that the browser asks for credentials: the response is 401 with this value of
// WWW-Authenticate.
//
//	return dashboard.Challenge(`Basic realm="tasks"`)
type Challenge string

// Error implements error.
func (c Challenge) Error() string { return "dashboard: no valid credentials: " + string(c) }

// guard checks every request before anything else is done with it.
type guard struct {
	authorize func(*http.Request) error
	readOnly  bool
	log       *sparseLog
	path      string // of the cookie
	web       webguard.Guard
}

func newGuard(c *Config, log *sparseLog) guard {
	g := guard{
		authorize: c.Authorize,
		readOnly:  c.ReadOnly,
		log:       log,
		path:      c.Prefix + "/",
		// In production the host is not known. Links from other sites are
		// allowed, so that one in a chat or a runbook works.
		web: webguard.Guard{AnyHost: !c.Loopback, Links: true},
	}
	if c.Loopback {
		g.authorize = onLoopback
	}
	return g
}

// policy lets a page load only the dashboard's own style, script and images, and
// nothing inline, so that a script in injected markup does not run.
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
		// With no-referrer, browsers send the Origin "null" with the
		// dashboard's own forms.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if err := g.check(r); err != nil {
			g.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (g guard) refuse(w http.ResponseWriter, r *http.Request, err error) {
	g.log.log(r.Context(), slog.LevelWarn, "dashboard: request refused",
		"method", r.Method, "path", shortened(r.URL.Path), "remote", r.RemoteAddr, "reason", shortened(err.Error()))
	code := http.StatusForbidden
	if challenge := Challenge(""); errors.As(err, &challenge) {
		w.Header().Set("WWW-Authenticate", string(challenge))
		code = http.StatusUnauthorized
	}
	http.Error(w, http.StatusText(code), code)
}

func (g guard) check(r *http.Request) error {
	if err := g.authorized(r); err != nil {
		return err
	}
	if err := g.web.Check(r); err != nil {
		return err
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	if g.readOnly {
		return errors.New("the dashboard is read-only")
	}
	return checkToken(r)
}

// authorized calls Config.Authorize. A panic of it is a refusal, because
// anybody may send the request that causes it.
func (g guard) authorized(r *http.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("Config.Authorize panicked: %v", p)
		}
	}()
	return g.authorize(r)
}

// onLoopback allows requests from this machine to this machine. webguard checks
// their Host.
func onLoopback(r *http.Request) error {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil || !isLoopback(local.String()) {
		return fmt.Errorf("the request came to %v, which is not a loopback address", local)
	}
	if !isLoopback(r.RemoteAddr) {
		return fmt.Errorf("the request came from %s, which is not a loopback address", r.RemoteAddr)
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Via"} {
		if r.Header.Get(name) != "" {
			return fmt.Errorf("a proxy forwarded the request (it has the header %s)", name)
		}
	}
	return nil
}

func isLoopback(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// A form must have the token that is in the page's cookie. Another site can make
// a browser send the cookie, but cannot read it.
const (
	tokenCookie = "handoff_dashboard"
	tokenField  = "token"
	maxForm     = 1 << 20
)

func checkToken(r *http.Request) error {
	cookie, err := r.Cookie(tokenCookie)
	if err != nil || cookie.Value == "" {
		return errors.New("the request has no token cookie")
	}
	r.Body = http.MaxBytesReader(nil, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return fmt.Errorf("reading the form: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(r.PostForm.Get(tokenField)), []byte(cookie.Value)) != 1 {
		return errors.New("the token of the form differs from that of the cookie")
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
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure with TLS, which a developer's machine does not have
		Name:     tokenCookie,
		Value:    token,
		Path:     g.path,
		HttpOnly: true,
		Secure:   r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https",
		SameSite: http.SameSiteStrictMode,
	})
	return token
}
