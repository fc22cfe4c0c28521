package handofftest

import (
	"sync"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
)

// Account is the service account that sends deliveries in tests. Audience is the
// audience of its tokens. [Verifier] and the router of a [Kit] accept no others
// unless they are told.
const (
	Account  = "tasks@handofftest.iam.gserviceaccount.com"
	Audience = "https://worker.handofftest.example"
)

// signer signs the tokens of [Deliver]. By default all emulators of a process
// share one key, so [Verifier] accepts their dispatches too.
var signer = sync.OnceValues(func() (*emulator.Server, error) {
	srv, err := emulator.New(emulator.Config{})
	if err == nil {
		srv.Close() // its key remains usable
	}
	return srv, err
})

// Verifier returns the real OIDC verifier for [Audience], and for [Account] and
// further accounts, if callers are given. It knows the keys that [Deliver] signs
// with. Build the router under test with it:
//
//	router, err := handoff.NewRouter(handoff.RouterConfig{Verifier: handofftest.Verifier(t), …})
//
// The router of a [Kit] has such a verifier already. A Verifier is safe for
// concurrent use.
func Verifier(t testing.TB, callers ...string) handoff.Verifier {
	t.Helper()
	srv, err := signer()
	if err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	verifier, err := oidcOf(srv, callers, nil)
	if err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	return verifier
}

// oidcOf returns a verifier with the current keys of srv, for further callers and
// audiences.
func oidcOf(srv *emulator.Server, callers, audiences []string) (handoff.Verifier, error) {
	return handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: append([]string{Audience}, audiences...),
		Callers:   append([]string{Account}, callers...),
		Keys:      handoff.StaticKeys(srv.JWKS()),
	})
}

func token(t testing.TB, email string) string {
	t.Helper()
	srv, err := signer()
	if err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	signed, err := srv.Token(email, Audience)
	if err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	return signed
}
