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

// signer mints the tokens of this package. All emulators of a process share its
// key unless they are given one, so that their dispatches pass [Verifier] too.
var signer = sync.OnceValues(func() (*emulator.Server, error) {
	srv, err := emulator.New(emulator.Config{})
	if err == nil {
		srv.Close() // its key outlives it
	}
	return srv, err
})

// Verifier returns the real OIDC verifier on the keys that [Deliver] and the
// emulator sign with. Build the router under test with it.
func Verifier(t testing.TB) handoff.Verifier {
	t.Helper()
	srv, err := signer()
	if err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{Audience},
		Callers:   []string{Account},
		Keys:      handoff.StaticKeys(srv.JWKS()),
	})
	if err != nil {
		t.Fatalf("handofftest: %v", err)
	}
	return verifier
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
