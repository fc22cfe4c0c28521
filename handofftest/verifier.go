package handofftest

import (
	"sync"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
)

// Who delivers in tests, and to whom. The verifier of [Verifier] accepts these
// and nobody else.
const (
	Account  = "tasks@handofftest.iam.gserviceaccount.com"
	Audience = "https://worker.handofftest.example"
)

// signer mints the tokens of [Deliver]. All emulators of a process share its
// key unless they are given one, so that their dispatches pass [Verifier] too.
var signer = sync.OnceValues(func() (*emulator.Server, error) {
	srv, err := emulator.New(emulator.Config{})
	if err == nil {
		srv.Close() // its key outlives it
	}
	return srv, err
})

// Verifier returns the real OIDC verifier, for [Account] and [Audience], on
// the keys that [Deliver] signs with. Build the router under test with it:
//
//	router, err := handoff.NewRouter(handoff.RouterConfig{Verifier: handofftest.Verifier(t), …})
//
// A router that is built by [New] has such a verifier already.
func Verifier(t testing.TB) handoff.Verifier {
	t.Helper()
	srv, err := signer()
	if err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	verifier, err := oidcOf(srv)
	if err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	return verifier
}

// oidcOf returns the verifier of the tokens that srv signs at this moment.
func oidcOf(srv *emulator.Server) (handoff.Verifier, error) {
	return handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{Audience},
		Callers:   []string{Account},
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
