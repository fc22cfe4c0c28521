package handoff_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/brillconsulting/handoff"
)

// Which Verifier? Tasks of an HTTPTarget carry an OIDC token: use NewOIDC, wherever
// the worker runs. Tasks of an AppEngineTarget carry none: use NewAppEngine, which
// works only on App Engine. A service that gets both uses AnyOf. Use
// DangerouslyTrustPlatform only on a private Cloud Run service whose tokens arrive
// without their signature, which NewOIDC's error then says.
func ExampleNewOIDC() {
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{"https://worker.example.com"},
		Callers:   []string{"tasks@project.iam.gserviceaccount.com"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	forged := httptest.NewRequest(http.MethodPost, "/tasks/welcome-email", nil)
	forged.Header.Set("X-CloudTasks-QueueName", "emails") // anybody can send this
	_, err = verifier.Verify(forged)
	fmt.Println(err)
	fmt.Println(errors.Is(err, handoff.ErrUnauthenticated))
	// Output:
	// handoff: unauthenticated: no Authorization header
	// true
}

// All mistakes are reported at once, each with its field.
func ExampleNewOIDC_mistakes() {
	_, err := handoff.NewOIDC(handoff.OIDCConfig{
		Callers: []string{"Tasks@project.iam.gserviceaccount.com"},
		Keys:    handoff.RemoteKeys("http://keys.example.com/jwks"),
	})
	fmt.Println(err)
	// Output:
	// handoff: OIDCConfig.Audiences is empty; list what HTTPTarget.Audience says, such as the service's URL
	// handoff: OIDCConfig.Callers[0] is "Tasks@project.iam.gserviceaccount.com"; it must be the email of a service account, in lower case
	// handoff: OIDCConfig.Keys: RemoteKeys: http://keys.example.com: its scheme must be https: http is for localhost and names without a dot
}

// A service that is the target of both kinds of task. Here it trusts the emulator's
// keys instead of Google's, and does not run on App Engine.
func ExampleAnyOf() {
	oidc, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{"https://worker.example.com"},
		Callers:   []string{"tasks@project.iam.gserviceaccount.com"},
		Keys:      handoff.RemoteKeys("http://localhost:8123/oauth2/v3/certs"),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	appEngine, err := handoff.NewAppEngine(handoff.AppEngineConfig{DangerouslyAssumeAppEngine: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier := handoff.AnyOf(oidc, appEngine)

	r := httptest.NewRequest(http.MethodPost, "/tasks/welcome-email", nil)
	r.Header.Set("X-AppEngine-QueueName", "emails")
	caller, err := verifier.Verify(r)
	fmt.Println(caller.AppEngine, err)
	// Output: true <nil>
}

// mesh trusts the identity that a service mesh has verified by mutual TLS.
type mesh struct{ identity string }

func (m mesh) Verify(r *http.Request) (handoff.Caller, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return handoff.Caller{}, fmt.Errorf("mesh: no client certificate: %w", handoff.ErrUnauthenticated)
	}
	if name := r.TLS.VerifiedChains[0][0].Subject.CommonName; name != m.identity {
		return handoff.Caller{}, fmt.Errorf("mesh: %s may not deliver: %w", name, handoff.ErrForbidden)
	}
	return handoff.Caller{Subject: m.identity}, nil
}

// A custom Verifier, for callers that this package cannot verify.
func ExampleVerifier() {
	var verifier handoff.Verifier = mesh{identity: "dispatcher"}
	_, err := verifier.Verify(httptest.NewRequest(http.MethodPost, "/tasks/welcome-email", nil))
	fmt.Println(err)
	// Output: mesh: no client certificate: handoff: unauthenticated
}
