package handoff_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
)

// If the signature of a token is good, a refusal quotes its audience and account,
// and shows the list that lacks one of them. Of any other token it shows nothing.
func TestRefusalsSayWhatWasSeen(t *testing.T) {
	t.Parallel()
	forged := func(token string) string { return token[:strings.LastIndexByte(token, '.')] + ".AAAA" }
	for name, tc := range map[string]struct {
		token string
		says  []string
		never string
	}{
		"another account": {
			oidctest.Shared().Token(oidctest.Claims(map[string]any{"email": "crm\n@example.com"})),
			[]string{`"crm\n@example.com" with audience "` + oidctest.Audience + `"`, `the list is ["` + oidctest.Email + `"]`}, "crm\n",
		},
		"another audience": {
			oidctest.Shared().Token(oidctest.Claims(map[string]any{"aud": "https://elsewhere.example.com/"})),
			[]string{`"https://elsewhere.example.com/" of "` + oidctest.Email + `"`, `the list is ["` + oidctest.Audience + `"]`}, "\n",
		},
		"a long audience": {
			oidctest.Shared().Token(oidctest.Claims(map[string]any{"aud": "https://" + strings.Repeat("a", 2000)})),
			[]string{strings.Repeat("a", 200)}, strings.Repeat("a", 300),
		},
		"another audience, forged": {
			forged(oidctest.Shared().Token(oidctest.Claims(map[string]any{"aud": "https://elsewhere.example.com/"}))),
			[]string{"not on the list"}, "elsewhere",
		},
		"another account, forged": {
			forged(oidctest.Shared().Token(oidctest.Claims(map[string]any{"email": "crm@example.com"}))),
			[]string{"signature"}, "crm@",
		},
		"another audience, expired": {
			oidctest.Shared().Token(oidctest.Claims(map[string]any{"aud": "https://elsewhere.example.com/", "exp": 1})),
			[]string{"not on the list"}, "elsewhere",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
				Audiences: []string{oidctest.Audience}, Callers: []string{oidctest.Email}, Keys: handoff.StaticKeys(oidctest.JWKS(oidctest.Shared())),
			})
			assert.NoError(t, err)
			r := httptest.NewRequest(http.MethodPost, "/tasks/order", nil)
			r.Header.Set("Authorization", "Bearer "+tc.token)
			_, err = verifier.Verify(r)
			assert.ErrorContains(t, err, tc.says...)
			if strings.Contains(err.Error(), tc.never) || strings.Contains(err.Error(), tc.token[40:80]) {
				t.Errorf("the error says too much: %v", err)
			}
		})
	}
}
