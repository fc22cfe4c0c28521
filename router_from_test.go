package handoff_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/internal/wire"
)

const (
	shopAccount  = "shop@project.iam.gserviceaccount.com"
	otherAccount = "crm@project.iam.gserviceaccount.com"
	shopAudience = "https://shop.example.com"
	crmAudience  = "https://crm.example.com"
)

// charged is a payload with an old name.
type charged struct {
	ID string `json:"id"`
}

func (charged) Kind() string      { return "charge" }
func (charged) Aliases() []string { return []string{"pay"} }

// newBound returns a router whose kinds are bound to their own callers, with real
// signed tokens, and the handler that serves it.
func newBound(t *testing.T, ran *int) (*fixture, http.Handler) {
	t.Helper()
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{shopAudience, crmAudience}, Callers: []string{shopAccount, otherAccount},
		Keys: handoff.StaticKeys(oidctest.JWKS(oidctest.Shared())),
	})
	assert.NoError(t, err)
	appEngine, err := handoff.NewAppEngine(handoff.AppEngineConfig{DangerouslyAssumeAppEngine: true})
	assert.NoError(t, err)
	b := newFixture(t, func(c *handoff.RouterConfig) {
		c.DangerouslyAllowUnauthenticated, c.Verifier, c.MaxBody = false, handoff.AnyOf(verifier, appEngine), 1000
	})
	handoff.Handle(b.Router, func(context.Context, charged) error { *ran++; return nil }, handoff.From(shopAccount, shopAudience))
	handoff.Handle(b.Router, func(context.Context, note) error { *ran++; return nil })
	mux := http.NewServeMux()
	mux.Handle("/tasks/", b.Router)
	mux.Handle("/crm", b.Raw("contact-changed", func(context.Context, *http.Request) error { *ran++; return nil },
		handoff.From(otherAccount), handoff.From(shopAccount, crmAudience)))
	return b, mux
}

// TestAttackOnKindsOfOthers: a caller that may deliver some kinds cannot deliver
// others by any form of request. Nothing of such a request is run, buried or
// fenced.
func TestAttackOnKindsOfOthers(t *testing.T) {
	t.Parallel()
	stamped := func(kind string, change func(*wire.Stamp)) func(*http.Request) {
		return func(r *http.Request) {
			s := wire.Stamp{ID: "ID", Kind: kind, MaxAttempts: 3}
			if change != nil {
				change(&s)
			}
			s.Write(r.Header.Set)
		}
	}
	for name, tc := range map[string]struct {
		path, account, audience string
		change                  func(*http.Request)
		status                  int
	}{
		"the shop":                          {"/tasks/charge", shopAccount, shopAudience, nil, 200},
		"the shop, by the old name":         {"/tasks/pay", shopAccount, shopAudience, nil, 200},
		"the CRM":                           {"/crm", otherAccount, shopAudience, nil, 200},
		"the shop at the CRM's":             {"/crm", shopAccount, crmAudience, nil, 200},
		"a kind for all":                    {"/tasks/note", otherAccount, crmAudience, nil, 200},
		"another account":                   {"/tasks/charge", otherAccount, shopAudience, nil, 403},
		"another audience":                  {"/tasks/charge", shopAccount, crmAudience, nil, 403},
		"neither":                           {"/tasks/charge", otherAccount, crmAudience, nil, 403},
		"the audience of another From":      {"/crm", shopAccount, shopAudience, nil, 403},
		"by an alias":                       {"/tasks/pay", otherAccount, crmAudience, nil, 403},
		"by the stamp, on an open kind":     {"/tasks/note", otherAccount, crmAudience, stamped("charge", nil), 403},
		"by the stamp's alias":              {"/tasks/note", otherAccount, crmAudience, stamped("pay", nil), 403},
		"by the stamp, on its own handler":  {"/crm", otherAccount, crmAudience, stamped("charge", nil), 404},
		"by a raw kind's name on the path":  {"/tasks/contact-changed", shopAccount, shopAudience, nil, 403},
		"by the path's end":                 {"/tasks/note/charge", otherAccount, crmAudience, nil, 403},
		"redriven":                          {"/tasks/charge", otherAccount, crmAudience, stamped("charge", func(s *wire.Stamp) { s.Redrives = 9 }), 403},
		"expired, to be buried":             {"/tasks/charge", otherAccount, crmAudience, stamped("charge", func(s *wire.Stamp) { s.Expires = time.Now().Add(-time.Hour) }), 403},
		"expired, on its own handler":       {"/crm", otherAccount, crmAudience, stamped("charge", func(s *wire.Stamp) { s.Expires = time.Now().Add(-time.Hour) }), 403},
		"undecodable, to be buried":         {"/tasks/charge", otherAccount, crmAudience, func(r *http.Request) { r.Body = http.NoBody }, 403},
		"too large":                         {"/tasks/charge", otherAccount, crmAudience, func(r *http.Request) { r.ContentLength = 1 << 30 }, 403},
		"App Engine":                        {"/tasks/charge", "", "", func(r *http.Request) { appEngineHeaders(r) }, 403},
		"App Engine, of a kind for all":     {"/tasks/note", "", "", func(r *http.Request) { appEngineHeaders(r) }, 200},
		"a name in front of the account":    {"/tasks/charge", "x" + shopAccount, shopAudience, nil, 403},
		"the account in capital letters":    {"/tasks/charge", strings.ToUpper(shopAccount), shopAudience, nil, 403},
		"no token":                          {"/tasks/charge", "", "", nil, 401},
		"the account in a header of itself": {"/tasks/charge", otherAccount, shopAudience, func(r *http.Request) { r.Header.Set("X-Goog-Authenticated-User-Email", shopAccount) }, 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ran := 0
			b, h := newBound(t, &ran)
			d := task{name: "t", body: `{"id":"7"}`}
			r := d.request()
			r.URL.Path = tc.path
			var token string
			if tc.account != "" {
				token = oidctest.Shared().Token(oidctest.Claims(map[string]any{"email": tc.account, "aud": tc.audience}))
				r.Header.Set("Authorization", "Bearer "+token)
			}
			if tc.change != nil {
				tc.change(r)
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			assert.Status(t, rec.Code, tc.status)
			assert.Equal(t, ran, map[bool]int{true: 1, false: 0}[tc.status == 200])
			b.noLetters(t)
			if tc.status != 200 {
				assert.Equal(t, b.store.count("claim"), 0)
				assert.Equal(t, rec.Body.Len(), 0)
			}
			if log := b.log.String(); token != "" && strings.Contains(log, token[:40]) {
				t.Errorf("the log has the token: %s", log)
			}
		})
	}
}

func appEngineHeaders(r *http.Request) {
	wire.AppEngine.Write(r.Header, wire.Dispatch{Queue: "q", Task: "t", ETA: time.Now()})
}

// The log names the caller, and those that are allowed.
func TestForbiddenCallersAreNamed(t *testing.T) {
	t.Parallel()
	ran := 0
	b, h := newBound(t, &ran)
	r := task{kind: "charge", name: "t", body: `{}`}.request()
	r.Header.Set("Authorization", "Bearer "+oidctest.Shared().Token(oidctest.Claims(map[string]any{"email": otherAccount, "aud": crmAudience})))
	h.ServeHTTP(httptest.NewRecorder(), r)
	log := strings.ReplaceAll(b.log.String(), `\"`, `"`)
	for _, want := range []string{
		"outcome=forbidden", "reason=caller", `kind "charge" may come only from ["` + shopAccount + `" for ["` + shopAudience + `"]]`,
		`the caller is "` + otherAccount + `" with a token for "` + crmAudience + `"`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log is %s, want %s", log, want)
		}
	}
}

func TestFromMistakes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		option handoff.HandleOption
		says   string
	}{
		"no account":         {handoff.From(""), `From("")`},
		"not an email":       {handoff.From("crm"), `From("crm")`},
		"capital letters":    {handoff.From("CRM@p.iam.gserviceaccount.com"), "in lower case"},
		"an empty audience":  {handoff.From(shopAccount, ""), "an audience is empty"},
		"nil for the option": {nil, "option 0 is nil"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, nil)
			defer func() { assert.ErrorContains(t, fmt.Errorf("%v", recover()), tc.says, "router_from_test.go") }()
			handoff.Handle(b.Router, func(context.Context, note) error { return nil }, tc.option)
		})
	}
}
