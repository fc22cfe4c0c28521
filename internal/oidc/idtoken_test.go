package oidc_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"google.golang.org/api/idtoken"
	"google.golang.org/api/option"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
)

// library is Google's own validator with the same keys.
type library struct{ validator *idtoken.Validator }

func newLibrary(t testing.TB, keys ...*oidctest.Key) library {
	t.Helper()
	client := &http.Client{Transport: fromMemory(oidctest.JWKS(keys...))}
	validator, err := idtoken.NewValidator(t.Context(), option.WithHTTPClient(client))
	assert.NoError(t, err)
	return library{validator}
}

// fromMemory responds to every request with the same JWKS, cacheable for ever.
type fromMemory []byte

func (m fromMemory) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Cache-Control": {"max-age=1000000000"}},
		Body:       io.NopCloser(bytes.NewReader(m)),
	}, nil
}

// accepts reports whether the library accepts the token. It panics on some
// tokens (docs/cloud-tasks.md#16.5), which counts as no.
func (l library) accepts(t testing.TB, token string) (ok bool) {
	t.Helper()
	defer func() { ok = ok && recover() == nil }()
	_, err := l.validator.Validate(t.Context(), token, oidctest.Audience)
	return err == nil
}

func TestLibraryAgrees(t *testing.T) {
	t.Parallel()
	l := newLibrary(t, oidctest.Shared())
	assert.Equal(t, l.accepts(t, oidctest.Shared().Good()), true)
	assert.Equal(t, l.accepts(t, oidctest.NewKey("shared-key").Good()), false)
}
