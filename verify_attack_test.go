package handoff_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/middleware"
)

// fort is a router with a real verifier. It records everything that can be seen
// from outside.
type fort struct {
	*handoff.Router
	echo     *echo.Echo
	fetches  atomic.Int32 // of the published keys
	runs     atomic.Int32 // of the handler
	said     syncBuffer   // logs, metrics, errors and responses
	delivery handoff.Delivery
}

const (
	fortBody   = `{"secret":"correct horse battery staple"}`
	fortLimit  = 64 << 10
	fortCaller = "second@project.iam.gserviceaccount.com"
)

type parcel struct {
	Secret string `json:"secret"`
}

func (parcel) Kind() string { return "order" }

func newFort(t testing.TB) *fort {
	t.Helper()
	f := new(fort)
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		f.fetches.Add(1)
		w.Header().Set("Cache-Control", "max-age=3600")
		_, _ = w.Write(oidctest.JWKS(oidctest.Shared()))
	}))
	t.Cleanup(keys.Close)
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{oidctest.Audience, "https://second.example.com/tasks?a=b"},
		Callers:   []string{oidctest.Email, fortCaller},
		Keys:      handoff.RemoteKeys(keys.URL),
	})
	assert.NoError(t, err)
	logger := slog.New(slog.NewTextHandler(&f.said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	line, err := middleware.Logger(middleware.LoggerConfig{Logger: logger})
	assert.NoError(t, err)
	metrics, err := middleware.Metrics(middleware.MetricsConfig{MeterProvider: metricsTo{w: &f.said}})
	assert.NoError(t, err)
	f.Router, err = handoff.NewRouter(handoff.RouterConfig{
		Verifier:    verifier,
		Store:       memstore.New(),
		DeadLetters: memstore.NewDeadLetters(),
		Observers:   []handoff.Observer{line, metrics, {End: func(_ context.Context, d handoff.Delivery) { f.delivery = d }}},
		Logger:      logger,
		MaxBody:     fortLimit,
	})
	assert.NoError(t, err)
	handoff.Handle(f.Router, func(context.Context, parcel) error {
		f.runs.Add(1)
		return nil
	})
	t.Cleanup(func() { assert.NoError(t, f.Shutdown(context.Background())) })
	f.echo = echo.New()
	f.Mount(f.echo.Group("/tasks"))
	return f
}

// send delivers one request and records what can be seen from outside.
func (f *fort) send(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	fmt.Fprintf(&f.said, "%d %v %q\n", rec.Code, rec.Header(), rec.Body)
	return rec
}

var taskNumber atomic.Int64

// delivering returns a delivery that is valid if token is.
func delivering(token string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/tasks/order", strings.NewReader(fortBody))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-CloudTasks-QueueName", "orders")
	r.Header.Set("X-CloudTasks-TaskName", fmt.Sprint("task-", taskNumber.Add(1)))
	r.Header.Set("X-CloudTasks-TaskRetryCount", "0")
	r.Header.Set("X-CloudTasks-TaskExecutionCount", "0")
	r.Header.Set("X-CloudTasks-TaskETA", "1602727873.950779")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

// TestAttack sends every attack of the table twice, through echo and without. None
// may run the handler, cause an unexpected fetch of keys, or leave a part of the
// token or the payload anywhere. After each, the router still serves good
// deliveries.
func TestAttack(t *testing.T) {
	t.Parallel()
	if len(attacks) < 60 {
		t.Fatalf("only %d attacks", len(attacks))
	}
	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFort(t)
			assert.Status(t, f.send(f, delivering(oidctest.Shared().Good())).Code, http.StatusOK)
			assert.Equal(t, f.fetches.Load(), 1)

			r := a.request()
			sent := append([]string{"correct horse", "battery staple"}, secretsOf(r)...)
			for _, h := range []http.Handler{f.echo, f} {
				repeated := a.request()
				repeated.Header = r.Header.Clone() // the same token
				rec := f.send(h, repeated)
				assert.Status(t, rec.Code, a.status)
				assert.Equal(t, rec.Body.Len(), 0)
			}
			assert.Equal(t, f.delivery.Reason, a.reason)
			assert.Equal(t, f.runs.Load(), 1)
			assert.Eventually(t, time.Minute, func() bool { return f.fetches.Load() >= 1+a.fetches }, "the fetch in the background")
			if said := f.said.String(); strings.Count(said, "metric handoff.rejections 1 ") != 2 || !strings.Contains(said, ",handoff.reason="+string(a.reason)+"\n") {
				t.Errorf("not counted twice as %q: %s", a.reason, said)
			}
			fmt.Fprintf(&f.said, "%v\n", f.delivery.Err)
			if a.reason == handoff.ReasonCaller || a.reason == handoff.ReasonAudience {
				sent = slices.DeleteFunc(sent, isNamed) // the signature is good, so the log may name the caller
			}
			f.silentAbout(t, sent)

			assert.Status(t, f.send(f, delivering(oidctest.Shared().Good())).Code, http.StatusOK)
			assert.NoError(t, f.Shutdown(t.Context()))
			assert.Equal(t, f.fetches.Load(), 1+a.fetches)
		})
	}
}

// secretsOf returns what must not be seen from outside: the tokens of a request,
// and the values of their claims that are not in the fort's own configuration.
func secretsOf(r *http.Request) []string {
	secrets := []string{"MARK", oidctest.Subject, oidctest.Email, fortCaller}
	for _, value := range r.Header["Authorization"] {
		for _, word := range strings.FieldsFunc(value, func(c rune) bool { return strings.ContainsRune(" \t,.", c) }) {
			if !strings.EqualFold(word, "Bearer") && word != "SIGNATURE_REMOVED_BY_GOOGLE" {
				secrets = append(secrets, word)
			}
		}
	}
	return secrets
}

// isNamed reports whether the log of a refusal may name the text, once the signature
// is checked: email and audience of the token, and the lists they are not on.
func isNamed(secret string) bool {
	return secret == "MARK" || secret == oidctest.Email || secret == fortCaller
}

// silentAbout fails the test if anything seen from outside contains a secret or,
// for a long one, any 12 consecutive characters of it.
func (f *fort) silentAbout(t *testing.T, secrets []string) {
	t.Helper()
	const part = 12
	said := f.said.String()
	parts := make(map[string]bool)
	for i := range len(said) - part {
		parts[said[i:i+part]] = true
	}
	for _, secret := range secrets {
		if len(secret) <= part && len(secret) > 3 && strings.Contains(said, secret) {
			t.Fatalf("%q was seen outside: %s", secret, said)
		}
		for i := 0; i+part <= len(secret); i++ {
			if parts[secret[i:i+part]] {
				t.Fatalf("%q was seen outside: %s", secret[i:i+part], said)
			}
		}
	}
}

// TestAttackIsNotTheRule sends good tokens of every permitted form, because a
// router that refuses everything would pass TestAttack.
func TestAttackIsNotTheRule(t *testing.T) {
	t.Parallel()
	key := oidctest.Shared()
	now := time.Now().Unix()
	for name, token := range map[string]string{
		"as Google makes it":      key.Good(),
		"issuer without a scheme": claiming("iss", "accounts.google.com"),
		"the second audience":     claiming("aud", "https://second.example.com/tasks?a=b"),
		"the second caller":       claiming("email", fortCaller),
		"a clock a little ahead":  claiming("iat", now+20),
		"a few seconds left":      claiming("iat", now-3500, "exp", now+30),
		"from a while ago":        claiming("nbf", now-10),
		"claims to come":          claiming("google", map[string]any{"compute_engine": map[string]any{"zone": []string{"a"}}}),
		"escapes in a value":      key.Token(strings.Replace(claimsOf("aud", "https://second.example.com/tasks?a=b"), "=", `\u003d`, 1)),
		"white space":             key.Token(strings.ReplaceAll(oidctest.Claims(nil), `,"`, " ,\n\"")),
		"no type":                 key.Sign(fmt.Sprintf(`{"kid":%q,"alg":"RS256"}`, key.ID), oidctest.Claims(nil)),
		"a header to come":        key.Sign(fmt.Sprintf(`{"x5t":"a","kid":%q,"alg":"RS256","typ":"JWT"}`, key.ID), oidctest.Claims(nil)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFort(t)
			for range 2 {
				assert.Status(t, f.send(f, delivering(token)).Code, http.StatusOK)
			}
			assert.Equal(t, f.runs.Load(), 2)
			assert.Equal(t, f.fetches.Load(), 1)
		})
	}
}

// TestAttackOnTheWire sends malformed bytes to a real server. No handler may run,
// however the server parses them.
func TestAttackOnTheWire(t *testing.T) {
	t.Parallel()
	const forged = "X-CloudTasks-QueueName: orders\r\nX-CloudTasks-TaskName: forged\r\n"
	smuggled := "POST /tasks/order HTTP/1.1\r\nHost: x\r\n" + forged + "Content-Length: 2\r\n\r\n{}"
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(s), s) }
	for name, tc := range map[string]struct {
		bytes    string
		statuses string // of all responses, in order
	}{
		"no token":                    {smuggled, "401"},
		"a header of 2 MB":            {"POST /tasks/order HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + strings.Repeat("a", 2<<20) + "\r\n\r\n", "431"},
		"a header of 9 kB":            {"POST /tasks/order HTTP/1.1\r\nHost: x\r\n" + forged + "Authorization: Bearer " + strings.Repeat("a", 9<<10) + "\r\nContent-Length: 0\r\n\r\n", "401"},
		"two headers":                 {"POST /tasks/order HTTP/1.1\r\nHost: x\r\n" + forged + "Authorization: Bearer a\r\nauthorization: Bearer b\r\nContent-Length: 0\r\n\r\n", "401"},
		"length and chunks":           {"POST /tasks/order HTTP/1.1\r\nHost: x\r\n" + forged + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, "401 401"},
		"two lengths alike":           {"POST /tasks/order HTTP/1.1\r\nHost: x\r\n" + forged + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", "401"},
		"two lengths":                 {"POST /tasks/order HTTP/1.1\r\nHost: x\r\n" + forged + "Content-Length: 2\r\nContent-Length: 20\r\n\r\n{}", "400"},
		"a request in a body":         {"POST /tasks/order HTTP/1.1\r\nHost: x\r\n" + forged + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(smuggled)) + smuggled, "401"},
		"a request behind a request":  {smuggled + smuggled, "401 401"},
		"a request in chunks":         {"POST /tasks/order HTTP/1.1\r\nHost: x\r\n" + forged + "Transfer-Encoding: chunked\r\n\r\n" + chunk(smuggled), "401"},
		"chunks by another name":      {"POST /tasks/order HTTP/1.1\r\nHost: x\r\n" + forged + "Transfer-Encoding: xchunked\r\n\r\n" + chunk("{}"), "501"},
		"space before the colon":      {"POST /tasks/order HTTP/1.1\r\nHost: x\r\n" + forged + "Authorization : Bearer a\r\nContent-Length: 0\r\n\r\n", "400"},
		"a folded header":             {"POST /tasks/order HTTP/1.1\r\nHost: x\r\n" + forged + "Authorization: Bearer\r\n a\r\nContent-Length: 0\r\n\r\n", "401"},
		"bare line feeds":             {strings.ReplaceAll(smuggled, "\r\n", "\n"), "401"},
		"an absolute target":          {strings.Replace(smuggled, "/tasks/order", "http://x/tasks/order", 1), "401"},
		"a target with a token":       {strings.Replace(smuggled, "/tasks/order", "/tasks/order?access_token=a&authorization=Bearer%20a", 1), "401"},
		"another method in a header":  {strings.Replace(smuggled, forged, forged+"X-HTTP-Method-Override: GET\r\n", 1), "401"},
		"HTTP/1.0":                    {strings.Replace(smuggled, "HTTP/1.1", "HTTP/1.0", 1), "401"},
		"HTTP/2 from nowhere":         {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "404"},
		"an upgrade":                  {strings.Replace(smuggled, forged, forged+"Connection: Upgrade\r\nUpgrade: h2c\r\n", 1), "401"},
		"a body that is waited for":   {"POST /tasks/order HTTP/1.1\r\nHost: x\r\n" + forged + "Expect: 100-continue\r\nContent-Length: 1000000000\r\n\r\n", "401"},
		"dots in the path":            {strings.Replace(smuggled, "/tasks/order", "/other/../tasks/order", 1), "404"},
		"an identity header of Cloud": {strings.Replace(smuggled, forged, forged+"X-Goog-Authenticated-User-Email: accounts.google.com:"+oidctest.Email+"\r\nX-Serverless-Authorization: Bearer a\r\n", 1), "401"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFort(t)
			srv := httptest.NewUnstartedServer(f.echo)
			srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
			srv.Start()
			defer srv.Close()
			assert.Equal(t, statusesOf(talk(t, srv.Listener.Addr().String(), tc.bytes)), tc.statuses)
			assert.Equal(t, f.runs.Load(), 0)
			assert.Equal(t, f.fetches.Load(), 0)
		})
	}
}

// talk sends bytes, closes its side of the connection, and returns all that it
// receives.
func talk(t *testing.T, address, send string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	assert.NoError(t, err)
	defer conn.Close()
	assert.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	go func() {
		_, _ = io.WriteString(conn, send) // the server may close before it has read everything
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	var got bytes.Buffer
	_, _ = got.ReadFrom(conn) // the server may reset the connection if it has not read everything
	return got.String()
}

func statusesOf(responses string) string {
	var statuses []string
	for line := range strings.Lines(responses) {
		if status, ok := strings.CutPrefix(line, "HTTP/1."); ok {
			statuses = append(statuses, status[2:5])
		}
	}
	return strings.Join(statuses, " ")
}
