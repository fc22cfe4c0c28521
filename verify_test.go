package handoff_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
)

func staticKeys() *handoff.KeySource {
	return handoff.StaticKeys(oidctest.JWKS(oidctest.Shared()))
}

func newOIDC(t testing.TB, keys *handoff.KeySource) handoff.Verifier {
	t.Helper()
	v, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{oidctest.Audience},
		Callers:   []string{oidctest.Email},
		Keys:      keys,
	})
	assert.NoError(t, err)
	return v
}

func TestNewOIDCReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		config handoff.OIDCConfig
		says   []string // empty if the configuration is accepted
	}{
		"good":            {config: handoff.OIDCConfig{Audiences: []string{"a"}, Callers: []string{"a@b"}, Keys: staticKeys()}},
		"Google's keys":   {config: handoff.OIDCConfig{Audiences: []string{"a"}, Callers: []string{"a@b"}}},
		"nothing":         {handoff.OIDCConfig{}, []string{"Audiences is empty", "Callers is empty"}},
		"empty audience":  {handoff.OIDCConfig{Audiences: []string{"a", ""}, Callers: []string{"a@b"}}, []string{"Audiences[1] is empty"}},
		"callers":         {handoff.OIDCConfig{Audiences: []string{"a"}, Callers: []string{"", "a", "@b", "a@", "A@b", " a@b"}}, []string{"Callers[0]", "Callers[1]", "Callers[2]", "Callers[3]", "Callers[4]", "Callers[5]"}},
		"keys over http":  {handoff.OIDCConfig{Audiences: []string{"a"}, Callers: []string{"a@b"}, Keys: handoff.RemoteKeys("http://keys.example.com")}, []string{"Keys", "http://keys.example.com", "https"}},
		"keys of no kind": {handoff.OIDCConfig{Audiences: []string{"a"}, Callers: []string{"a@b"}, Keys: handoff.StaticKeys([]byte("{}"))}, []string{"Keys", "no RSA key"}},
		"an empty source": {handoff.OIDCConfig{Audiences: []string{"a"}, Callers: []string{"a@b"}, Keys: new(handoff.KeySource)}, []string{"Keys", "RemoteKeys"}},
		"all of it": {
			handoff.OIDCConfig{Audiences: []string{""}, Callers: []string{"a"}, Keys: handoff.StaticKeys(nil)},
			[]string{"Audiences[0]", "Callers[0]", "Keys"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := handoff.NewOIDC(tc.config)
			if tc.says == nil {
				assert.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, tc.says...)
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "handoff: ") {
					t.Errorf("does not begin with the package name: %s", line)
				}
			}
		})
	}
}

func TestOIDCCopiesItsConfig(t *testing.T) {
	t.Parallel()
	config := handoff.OIDCConfig{Audiences: []string{oidctest.Audience}, Callers: []string{oidctest.Email}, Keys: staticKeys()}
	v, err := handoff.NewOIDC(config)
	assert.NoError(t, err)
	config.Audiences[0], config.Callers[0] = "https://MARK.example.com", "MARK@example.com"
	caller, err := v.Verify(delivering(oidctest.Shared().Good()))
	assert.NoError(t, err)
	assert.Equal(t, caller, handoff.Caller{Email: oidctest.Email, Subject: oidctest.Subject, Audience: oidctest.Audience})
}

func TestOIDCErrors(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(gone.Close)
	for name, tc := range map[string]struct {
		keys  *handoff.KeySource
		token string
		want  error
	}{
		"bad":         {staticKeys(), "x", handoff.ErrUnauthenticated},
		"of another":  {staticKeys(), claiming("email", "other@project.iam.gserviceaccount.com"), handoff.ErrForbidden},
		"who knows":   {handoff.RemoteKeys(gone.URL), oidctest.Shared().Good(), handoff.ErrUnavailable},
		"bad anyways": {handoff.RemoteKeys(gone.URL), "x", handoff.ErrUnauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caller, err := newOIDC(t, tc.keys).Verify(delivering(tc.token))
			assert.Equal(t, caller, handoff.Caller{})
			for _, kind := range []error{handoff.ErrUnauthenticated, handoff.ErrForbidden, handoff.ErrUnavailable} {
				assert.Equal(t, errors.Is(err, kind), kind == tc.want)
			}
			assert.ErrorContains(t, err, "handoff: ")
		})
	}
}

// keyServer publishes keys that can be changed, and counts the requests for them.
type keyServer struct {
	*httptest.Server
	mu      sync.Mutex
	keys    []*oidctest.Key
	ready   chan struct{} // closed when keys may be served
	fetches atomic.Int32
	served  atomic.Int32 // requests for which the keys have been chosen
}

func newKeyServer(t *testing.T, keys ...*oidctest.Key) *keyServer {
	t.Helper()
	s := new(keyServer)
	s.publish(keys...)()
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.fetches.Add(1)
		s.mu.Lock()
		keys, ready := s.keys, s.ready
		s.mu.Unlock()
		s.served.Add(1)
		<-ready
		w.Header().Set("Cache-Control", "max-age=3600")
		_, _ = w.Write(oidctest.JWKS(keys...))
	}))
	t.Cleanup(s.Close)
	return s
}

// publish changes the keys. Requests wait until release is called.
func (s *keyServer) publish(keys ...*oidctest.Key) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.ready = keys, make(chan struct{})
	return sync.OnceFunc(func() { close(s.ready) })
}

// crowd verifies n tokens at once and returns how many were refused.
func crowd(v handoff.Verifier, n int, token func(i int) string) int {
	var refused atomic.Int32
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		r := delivering(token(i))
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			if _, err := v.Verify(r); err != nil {
				refused.Add(1)
			}
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	return int(refused.Load())
}

func TestACrowdOnAColdCacheFetchesOnce(t *testing.T) {
	t.Parallel()
	keys := newKeyServer(t, oidctest.Shared())
	v := newOIDC(t, handoff.RemoteKeys(keys.URL))
	tokens := []string{oidctest.Shared().Good(), oidctest.Shared().Good(), oidctest.Shared().Good()}
	assert.Equal(t, crowd(v, 1000, func(i int) string { return tokens[i%len(tokens)] }), 0)
	assert.Equal(t, keys.fetches.Load(), 1)
}

// TestARotationUnderLoadRefusesNoGoodToken: the next key is published before it is
// used, as Google does.
func TestARotationUnderLoadRefusesNoGoodToken(t *testing.T) {
	t.Parallel()
	keys := newKeyServer(t, oidctest.Shared(), stranger())
	v := newOIDC(t, handoff.RemoteKeys(keys.URL))
	old, next := oidctest.Shared().Good(), stranger().Good()
	assert.Equal(t, crowd(v, 200, func(int) string { return old }), 0)
	assert.Equal(t, crowd(v, 1000, func(i int) string { return []string{old, next}[i%2] }), 0)
	assert.Equal(t, keys.fetches.Load(), 1)
}

// TestAnUnannouncedRotation: tokens of a key that was not published in advance are
// refused until it is fetched. A verifier that waited for the fetch could tell them
// from forged ones, but the wait itself would show a stranger which accounts are
// listed. Tokens of the old key are accepted throughout.
func TestAnUnannouncedRotation(t *testing.T) {
	t.Parallel()
	keys := newKeyServer(t, oidctest.Shared())
	v := newOIDC(t, handoff.RemoteKeys(keys.URL))
	old, next := oidctest.Shared().Good(), stranger().Good()
	assert.Equal(t, crowd(v, 10, func(int) string { return old }), 0)
	release := keys.publish(oidctest.Shared(), stranger())
	assert.Equal(t, crowd(v, 100, func(int) string { return next }), 100)
	assert.Equal(t, crowd(v, 100, func(int) string { return old }), 0)
	release()
	assert.Eventually(t, time.Minute, func() bool { return crowd(v, 1, func(int) string { return next }) == 0 }, "the new key")
	assert.Equal(t, crowd(v, 100, func(i int) string { return []string{old, next}[i%2] }), 0)
	assert.Equal(t, keys.fetches.Load(), 2)
}

// A forged token has just used the one fetch of this minute, so good tokens of a
// new key are refused until the next minute.
func TestARotationRightAfterJunk(t *testing.T) {
	t.Parallel()
	keys := newKeyServer(t, oidctest.Shared())
	v := newOIDC(t, handoff.RemoteKeys(keys.URL))
	old, next := oidctest.Shared().Good(), stranger().Good()
	assert.Equal(t, crowd(v, 10, func(int) string { return old }), 0)
	assert.Equal(t, crowd(v, 10, func(int) string { return next }), 10) // taken for forged so far
	assert.Eventually(t, time.Minute, func() bool { return keys.served.Load() == 2 }, "the fetch of this minute")
	keys.publish(oidctest.Shared(), stranger())()
	assert.Equal(t, crowd(v, 10, func(int) string { return next }), 10)
	assert.Equal(t, crowd(v, 10, func(int) string { return old }), 0)
	assert.Equal(t, keys.fetches.Load(), 2)
}

// TestShutdownEndsTheFetch: the router owns the fetch of its verifier's keys, so a
// key server that hangs does not block a shutdown.
func TestShutdownEndsTheFetch(t *testing.T) {
	t.Parallel()
	asked, gone := make(chan struct{}), make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(gone)
	}))
	t.Cleanup(hangs.Close)
	b := newFixture(t, func(c *handoff.RouterConfig) {
		c.DangerouslyAllowUnauthenticated = false
		c.Verifier = handoff.AnyOf(appEngineVerifier(t), newOIDC(t, handoff.RemoteKeys(hangs.URL)))
	})
	served := make(chan int, 1)
	go func() {
		rec := httptest.NewRecorder()
		b.ServeHTTP(rec, delivering(oidctest.Shared().Good()))
		served <- rec.Code
	}()
	<-asked
	now, cancel := context.WithCancel(t.Context())
	cancel()
	assert.NoError(t, b.Shutdown(now))
	<-gone
	assert.Status(t, <-served, http.StatusServiceUnavailable)
}

func TestVerifiersShareAKeySource(t *testing.T) {
	t.Parallel()
	server := newKeyServer(t, oidctest.Shared())
	keys := handoff.RemoteKeys(server.URL)
	for range 3 {
		_, err := newOIDC(t, keys).Verify(delivering(oidctest.Shared().Good()))
		assert.NoError(t, err)
	}
	assert.Equal(t, server.fetches.Load(), 1)
}

func TestDangerouslyTrustPlatform(t *testing.T) {
	config := handoff.OIDCConfig{Audiences: []string{oidctest.Audience}, Callers: []string{oidctest.Email}}
	t.Run("only on Cloud Run", func(t *testing.T) {
		t.Setenv("K_SERVICE", "")
		_, err := handoff.DangerouslyTrustPlatform(handoff.OIDCConfig{Keys: staticKeys()})
		assert.ErrorContains(t, err, "K_SERVICE", "Keys", "Audiences", "Callers")
	})
	t.Setenv("K_SERVICE", "worker")
	trusting, err := handoff.DangerouslyTrustPlatform(config)
	assert.NoError(t, err)
	removed := func(token string) string {
		header, claims, _ := splitToken(token)
		return header + "." + claims + ".SIGNATURE_REMOVED_BY_GOOGLE"
	}
	good := oidctest.Shared().Good()
	for name, tc := range map[string]struct {
		token  string
		header http.Header
		want   error
		says   string
	}{
		"good":                {token: removed(good)},
		"anybody's":           {token: removed(stranger().Good())}, // the danger that the name warns of
		"with its signature":  {token: good, want: handoff.ErrUnauthenticated, says: "NewOIDC"},
		"another audience":    {token: removed(claiming("aud", "https://elsewhere.example.com")), want: handoff.ErrUnauthenticated, says: "audience"},
		"another account":     {token: removed(claiming("email", "other@example.com")), want: handoff.ErrForbidden, says: "not on the list"},
		"not verified":        {token: removed(claiming("email_verified", false)), want: handoff.ErrUnauthenticated, says: "email"},
		"expired":             {token: removed(claiming("exp", time.Now().Unix()-1)), want: handoff.ErrUnauthenticated, says: "expired"},
		"another issuer":      {token: removed(claiming("iss", "me")), want: handoff.ErrUnauthenticated, says: "issuer"},
		"no token":            {want: handoff.ErrUnauthenticated, says: "no Authorization"},
		"junk":                {token: "x", want: handoff.ErrUnauthenticated, says: "segments"},
		"not what it checked": {token: removed(good), header: http.Header{"X-Serverless-Authorization": {"Bearer x"}}, want: handoff.ErrUnauthenticated, says: "X-Serverless-Authorization"},
	} {
		t.Run(name, func(t *testing.T) {
			r := delivering(tc.token)
			maps.Copy(r.Header, tc.header)
			caller, err := trusting.Verify(r)
			if tc.want == nil {
				assert.NoError(t, err)
				assert.Equal(t, caller.Email, oidctest.Email)
				return
			}
			assert.ErrorIs(t, err, tc.want)
			assert.ErrorContains(t, err, tc.says)
		})
	}
}

func TestNewAppEngine(t *testing.T) {
	for _, tc := range []struct {
		env, app string
		config   handoff.AppEngineConfig
		built    bool
	}{
		{"", "", handoff.AppEngineConfig{}, false},
		{"standard", "", handoff.AppEngineConfig{}, false},
		{"", "s~project", handoff.AppEngineConfig{}, false},
		{"standard", "s~project", handoff.AppEngineConfig{}, true},
		{"", "", handoff.AppEngineConfig{DangerouslyAssumeAppEngine: true}, true},
	} {
		t.Run(fmt.Sprintf("%q %q %v", tc.env, tc.app, tc.config.DangerouslyAssumeAppEngine), func(t *testing.T) {
			t.Setenv("GAE_ENV", tc.env)
			t.Setenv("GAE_APPLICATION", tc.app)
			_, err := handoff.NewAppEngine(tc.config)
			if tc.built {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, "handoff: ", "GAE_ENV", "DangerouslyAssumeAppEngine")
			}
		})
	}
}

func appEngineVerifier(t *testing.T) handoff.Verifier {
	t.Helper()
	v, err := handoff.NewAppEngine(handoff.AppEngineConfig{DangerouslyAssumeAppEngine: true})
	assert.NoError(t, err)
	return v
}

func TestAppEngine(t *testing.T) {
	t.Parallel()
	v := appEngineVerifier(t)
	for name, tc := range map[string]struct {
		queues []string
		good   bool
	}{
		"from App Engine":  {[]string{"emails"}, true},
		"from outside":     {nil, false},
		"a header slipped": {[]string{"emails", "admin"}, false},
	} {
		r := delivering(oidctest.Shared().Good()) // a valid token of an HTTP target, which proves nothing here
		r.Header["X-Appengine-Queuename"] = tc.queues
		caller, err := v.Verify(r)
		if tc.good {
			assert.NoError(t, err)
			assert.Equal(t, caller, handoff.Caller{AppEngine: true})
			continue
		}
		if !errors.Is(err, handoff.ErrUnauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// says is a Verifier that returns err, as one of another package.
type says struct{ err error }

func (v says) Verify(*http.Request) (handoff.Caller, error) {
	return handoff.Caller{Subject: "says"}, v.err
}

func TestAnyOf(t *testing.T) {
	t.Setenv("K_SERVICE", "worker")
	trusting, err := handoff.DangerouslyTrustPlatform(handoff.OIDCConfig{Audiences: []string{oidctest.Audience}, Callers: []string{oidctest.Email}})
	assert.NoError(t, err)
	oidc, engine := newOIDC(t, staticKeys()), appEngineVerifier(t)
	other := errors.New("handoff: something else")
	yes, bad, forbidden, unavailable := says{}, says{handoff.ErrUnauthenticated}, says{handoff.ErrForbidden}, says{handoff.ErrUnavailable}
	good := oidctest.Shared().Good()
	header, claims, _ := splitToken(good)
	removed := header + "." + claims + ".SIGNATURE_REMOVED_BY_GOOGLE"
	expired := claiming("exp", time.Now().Unix()-1)
	for name, tc := range map[string]struct {
		of    []handoff.Verifier
		token string
		want  error  // nil if accepted
		says  string // in the error
	}{
		"the first says yes":           {of: []handoff.Verifier{yes, unavailable}},
		"the last says yes":            {of: []handoff.Verifier{bad, forbidden, unavailable, yes}},
		"unavailable before forbidden": {of: []handoff.Verifier{bad, forbidden, unavailable}, want: handoff.ErrUnavailable},
		"forbidden before bad":         {of: []handoff.Verifier{bad, forbidden, bad}, want: handoff.ErrForbidden},
		"the first of equals":          {of: []handoff.Verifier{bad, says{other}}, want: handoff.ErrUnauthenticated},
		"alone":                        {of: []handoff.Verifier{says{other}}, want: other},
		"HTTP target":                  {of: []handoff.Verifier{engine, oidc}, token: good},
		"flaw found, HTTP target last": {of: []handoff.Verifier{engine, oidc}, token: expired, want: handoff.ErrUnauthenticated, says: "expired"},
		"flaw found, first":            {of: []handoff.Verifier{oidc, engine}, token: expired, want: handoff.ErrUnauthenticated, says: "expired"},
		"nothing at all":               {of: []handoff.Verifier{oidc, engine}, want: handoff.ErrUnauthenticated, says: "no Authorization"},
		"signature kept":               {of: []handoff.Verifier{trusting, oidc}, token: good},
		"signature removed":            {of: []handoff.Verifier{oidc, trusting}, token: removed},
		"signature kept, flaw":         {of: []handoff.Verifier{trusting, oidc}, token: expired, want: handoff.ErrUnauthenticated, says: "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := handoff.AnyOf(tc.of...).Verify(delivering(tc.token))
			if tc.want == nil {
				assert.NoError(t, err)
				return
			}
			assert.ErrorIs(t, err, tc.want)
			assert.ErrorContains(t, err, tc.says)
		})
	}
}

func TestAnyOfPanicsAtStartUp(t *testing.T) {
	t.Parallel()
	for name, verifiers := range map[string][]handoff.Verifier{"none": nil, "nil": {says{}, nil}} {
		func() {
			defer func() {
				if p := recover(); p == nil || !strings.HasPrefix(fmt.Sprint(p), "handoff: AnyOf") {
					t.Errorf("%s: panic %v", name, p)
				}
			}()
			handoff.AnyOf(verifiers...)
		}()
	}
}

// All refusals by a Verifier of another package have the same reason. An error that
// wraps none of the three errors is a refusal.
func TestVerifierOfSomebodyElse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err    error
		status int
	}{
		{nil, http.StatusOK},
		{errors.New("no"), http.StatusUnauthorized},
		{fmt.Errorf("wrapped: %w", handoff.ErrForbidden), http.StatusForbidden},
		{fmt.Errorf("wrapped: %w", handoff.ErrUnavailable), http.StatusServiceUnavailable},
		{context.DeadlineExceeded, http.StatusServiceUnavailable},
	} {
		b := newFixture(t, func(c *handoff.RouterConfig) {
			c.DangerouslyAllowUnauthenticated, c.Verifier = false, says{tc.err}
		})
		handoff.Handle(b.Router, func(context.Context, note) error { return nil })
		assert.Status(t, b.send(t, typed("somebody-else", "hello")), tc.status)
		if tc.err != nil && !strings.Contains(b.log.String(), "reason=rejected") {
			t.Errorf("the log says %s", b.log)
		}
	}
}
