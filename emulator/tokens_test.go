package emulator_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/api/idtoken"
	"google.golang.org/api/option"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// After a rotation, the published keys verify old and new tokens; keys that were
// cached before verify the old ones only.
func TestRotateKey(t *testing.T) {
	t.Parallel()
	const account, audience = "worker@p.iam.gserviceaccount.com", "https://worker.example"
	srv := emulator.RunT(t)
	mint := func() string {
		token, err := srv.Token(account, audience)
		assert.NoError(t, err)
		return token
	}
	valid := func(v *idtoken.Validator, token string) bool {
		_, err := v.Validate(t.Context(), token, audience)
		return err == nil
	}
	validator := func() *idtoken.Validator {
		v, err := idtoken.NewValidator(t.Context(), option.WithHTTPClient(&http.Client{Transport: published(srv.JWKS())}))
		assert.NoError(t, err)
		return v
	}
	before, kept := mint(), validator()
	assert.NoError(t, srv.RotateKey())
	after, fresh := mint(), validator()
	assert.Equal(t, []bool{valid(kept, before), valid(kept, after)}, []bool{true, false})
	assert.Equal(t, []bool{valid(fresh, before), valid(fresh, after)}, []bool{true, true})
}

// published responds to every request with the keys of one moment.
type published []byte

func (p published) RoundTrip(*http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	_, _ = rec.Write(p)
	return rec.Result(), nil
}
