package handoff

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/brillconsulting/handoff/internal/oidc"
)

// Caller is who sent a delivery, as verified by a [Verifier].
type Caller struct {
	Email     string // service account; empty for App Engine
	Subject   string // its numeric ID; empty if unknown
	Audience  string // the audience that matched; empty if there was none
	AppEngine bool   // the X-AppEngine-* headers are trusted, and read instead of X-CloudTasks-*
}

// Verifier authenticates a request before any other part of it is trusted. Use
// [NewOIDC] for HTTP targets.
//
// An implementation reads headers only, never the body. It returns an error that
// wraps [ErrUnauthenticated], [ErrForbidden] or [ErrUnavailable]; any other
// error counts as unauthenticated. Errors must not hold the token: they are
// logged. It must be safe for concurrent use.
type Verifier interface {
	Verify(r *http.Request) (Caller, error)
}

// OIDCConfig says which tokens are accepted. Audiences and Callers are required.
type OIDCConfig struct {
	_ [0]func()

	// Audiences are the accepted audiences, compared exactly: the values of
	// HTTPTarget.Audience. List several while the service changes its name. Anybody
	// with a Google account can get a token for any audience, so an audience alone
	// proves nothing (https://cloud.google.com/docs/authentication/token-types).
	Audiences []string

	// Callers are the emails of the service accounts that may deliver, compared
	// exactly. List several while accounts change. Use these accounts for nothing
	// else: anyone who may act as one and create tasks in its project can call
	// every handler
	// (https://cloud.google.com/tasks/docs/creating-http-target-tasks#token).
	Callers []string

	// Keys are the public keys that verify tokens. Defaults to Google's,
	// RemoteKeys(GoogleKeys). Verifiers may share a KeySource, and then share its
	// fetches.
	Keys *KeySource
}

// NewOIDC returns a Verifier for the OIDC tokens that Cloud Tasks sends to HTTP
// targets. It fetches no keys before the first delivery. The error reports every
// problem of config.
//
// A token is accepted if all of this holds: it is the only one of the request,
// with the scheme spelled Bearer, and at most 8 KiB long; it is signed by RS256
// with a key of config.Keys; its issuer is https://accounts.google.com or
// accounts.google.com; its audience is one of config.Audiences and its email,
// which must be verified, one of config.Callers; it has not expired, without any
// leeway; it was issued at most 30 s in the future, and lives at most 1 h 5 min.
// Each of these claims must appear once. The claims sub and azp, and those that
// Google's tokens do not have, are not checked.
//
// The token does not name the task. Anyone who obtains one can deliver anything
// until it expires, within the hour
// (https://cloud.google.com/docs/authentication/token-types).
//
// A token that was accepted before is not verified again: up to 8,192 are
// remembered by their SHA-256, until they expire or their keys are no longer
// fresh.
//
// Errors of Verify wrap [ErrUnauthenticated]; [ErrForbidden] if the token is
// valid and its account is not listed; or [ErrUnavailable] if there are no keys
// and they cannot be fetched. Verify waits for keys, until the request's context
// ends, only while there are none that are fresh. A token that names an unknown
// key is unauthenticated at once, whichever account it names, so that the time
// of a response does not tell which accounts are listed.
func NewOIDC(config OIDCConfig) (Verifier, error) {
	errs := config.policy().Problems("handoff: OIDCConfig")
	keys := config.Keys
	if keys == nil {
		keys = RemoteKeys(GoogleKeys)
	}
	if keys.err != nil {
		errs = append(errs, fmt.Errorf("handoff: OIDCConfig.Keys: %w", keys.err))
	} else if keys.source == nil {
		errs = append(errs, errors.New("handoff: OIDCConfig.Keys is an empty KeySource; use RemoteKeys or StaticKeys"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	tokens := oidc.New(config.policy(), keys.source)
	verify := func(r *http.Request) (oidc.Identity, error) { return tokens.Verify(r.Context(), r.Header) }
	return fetching{verifierFunc: verify, source: keys.source}, nil
}

// fetching is a Verifier that fetches keys. A router that uses it calls useKeys
// when it is made and stopKeys when it no longer verifies: see Router.Shutdown.
type fetching struct {
	verifierFunc
	source *oidc.Source
}

func (v fetching) useKeys()  { v.source.Use() }
func (v fetching) stopKeys() { v.source.Stop() }

func useKeys(v Verifier) {
	if v, ok := v.(interface{ useKeys() }); ok {
		v.useKeys()
	}
}

func stopKeys(v Verifier) {
	if v, ok := v.(interface{ stopKeys() }); ok {
		v.stopKeys()
	}
}

func (c OIDCConfig) policy() oidc.Policy {
	return oidc.Policy{Audiences: c.Audiences, Callers: c.Callers}
}

type verifierFunc func(r *http.Request) (oidc.Identity, error)

func (verify verifierFunc) Verify(r *http.Request) (Caller, error) {
	id, err := verify(r)
	if err != nil {
		return Caller{}, reject(err)
	}
	return Caller{Email: id.Email, Subject: id.Subject, Audience: id.Audience}, nil
}

// GoogleKeys is the URL of the keys of Google's ID tokens.
const GoogleKeys = oidc.Google

// KeySource holds the public keys that verify tokens. It is safe for concurrent
// use.
type KeySource struct {
	source *oidc.Source
	err    error // for NewOIDC to report
}

// RemoteKeys returns the keys published as a JWKS at url: [GoogleKeys], or an
// emulator's, such as http://localhost:8124/oauth2/v3/certs. Plain http is
// accepted for localhost and for host names without a dot, as in container
// networks. [NewOIDC] reports an invalid url.
//
// Keys are fetched at the first delivery, and then in the background before they
// expire. They are fresh for as long as the response's Cache-Control says, but
// at least a minute and at most a day. One fetch runs at a time and takes at
// most 10 s; no goroutine runs between fetches, and [Router.Shutdown] ends the
// fetch in progress, unless another router uses the same keys. While fetching
// fails the last keys are used for another day; after that, and while there are
// none, deliveries are [Unavailable].
//
// A token that names an unknown key is refused with [ReasonKey], and causes a
// fetch in the background if its other claims are acceptable, at most once a
// minute. A new key that is published before it signs, as Google's are, is
// therefore known in time. Valid tokens of one that is not, such as that of an
// emulator that was restarted, are refused until the fetch is done, which may be
// a minute later; Cloud Tasks retries their tasks.
func RemoteKeys(url string) *KeySource {
	if err := oidc.CheckURL(url); err != nil {
		return &KeySource{err: fmt.Errorf("RemoteKeys: %w", err)}
	}
	return &KeySource{source: oidc.Remote(oidc.FetchFrom(url, oidc.NewTransport()))}
}

// StaticKeys returns the keys of a JWKS that never changes, for tests and
// in-process emulators. [NewOIDC] reports an invalid one.
func StaticKeys(jwks []byte) *KeySource {
	keys, err := oidc.ParseKeys(jwks)
	if err != nil {
		return &KeySource{err: fmt.Errorf("StaticKeys: %w", err)}
	}
	return &KeySource{source: oidc.Static(keys)}
}

// DangerouslyTrustPlatform returns a Verifier for a private Cloud Run service or
// Cloud Function, whose platform verifies the token itself and replaces its
// signature by SIGNATURE_REMOVED_BY_GOOGLE
// (https://cloud.google.com/run/docs/authenticating/service-to-service).
//
// It is safe only if every request to the container passes Google's IAM check:
// the service requires authentication, allUsers and allAuthenticatedUsers are
// not among its invokers, and every account with run.invoker may run every task.
// On a public service anybody can send that text after claims of their choice
// and run any handler. Nothing in the request tells the two apart, so this
// Verifier cannot check it.
//
// The claims are still checked against config, which catches mistakes but no
// attack. A token with a signature is refused; if the platform removes only some
// signatures, use AnyOf(NewOIDC, DangerouslyTrustPlatform). A request with
// X-Serverless-Authorization is refused, because the platform then did not
// verify Authorization.
//
// It returns an error if config.Keys is set, and outside Cloud Run and Cloud
// Functions, where K_SERVICE is not in the environment.
func DangerouslyTrustPlatform(config OIDCConfig) (Verifier, error) {
	errs := config.policy().Problems("handoff: OIDCConfig")
	if config.Keys != nil {
		errs = append(errs, errors.New("handoff: OIDCConfig.Keys is set; DangerouslyTrustPlatform checks no signature, use NewOIDC for that"))
	}
	if os.Getenv("K_SERVICE") == "" {
		errs = append(errs, errors.New("handoff: DangerouslyTrustPlatform outside Cloud Run and Cloud Functions: K_SERVICE is not set; use NewOIDC"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	tokens := oidc.NewTrusting(config.policy())
	return verifierFunc(func(r *http.Request) (oidc.Identity, error) { return tokens.Verify(r.Header) }), nil
}

// AppEngineConfig is the configuration of [NewAppEngine].
type AppEngineConfig struct {
	_ [0]func()

	// DangerouslyAssumeAppEngine allows the Verifier outside App Engine, for the
	// emulator. Anyone who can reach the endpoint can then run any task.
	DangerouslyAssumeAppEngine bool
}

// NewAppEngine returns a Verifier for App Engine targets. Their tasks carry no
// token: the X-AppEngine-QueueName header authenticates them, because App Engine
// removes such headers from requests from outside, except those of the app's
// administrators
// (https://cloud.google.com/tasks/docs/creating-appengine-handlers). No other
// platform does, so NewAppEngine returns an error unless GAE_ENV and
// GAE_APPLICATION are set.
func NewAppEngine(config AppEngineConfig) (Verifier, error) {
	if config.DangerouslyAssumeAppEngine || (os.Getenv("GAE_ENV") != "" && os.Getenv("GAE_APPLICATION") != "") {
		return appEngine{}, nil
	}
	return nil, errors.New("handoff: NewAppEngine outside App Engine: GAE_ENV and GAE_APPLICATION are not set, so anybody could send X-AppEngine headers; " +
		"use NewOIDC, or set DangerouslyAssumeAppEngine to run against the emulator")
}

type appEngine struct{}

func (appEngine) Verify(r *http.Request) (Caller, error) {
	if len(r.Header["X-Appengine-Queuename"]) != 1 {
		return Caller{}, &rejection{ReasonNotAppEngine, ErrUnauthenticated, errors.New("not one X-AppEngine-QueueName header")}
	}
	return Caller{AppEngine: true}, nil
}

// AnyOf returns a Verifier that accepts what any of verifiers accepts, tried in
// order, for a service with several kinds of callers. If none accepts the
// request, AnyOf returns the error of the one that got furthest: unavailable
// before forbidden before unauthenticated, so that a token that may be valid is
// retried; then a wrong token before a missing one; then the first. It panics if
// there is no Verifier, or one is nil.
func AnyOf(verifiers ...Verifier) Verifier {
	if len(verifiers) == 0 {
		panic("handoff: AnyOf of no Verifier")
	}
	for i, v := range verifiers {
		if v == nil {
			panic(fmt.Sprintf("handoff: AnyOf: Verifier %d is nil", i))
		}
	}
	return anyOf(append([]Verifier(nil), verifiers...))
}

type anyOf []Verifier

func (all anyOf) useKeys() {
	for _, v := range all {
		useKeys(v)
	}
}

func (all anyOf) stopKeys() {
	for _, v := range all {
		stopKeys(v)
	}
}

func (all anyOf) Verify(r *http.Request) (Caller, error) {
	var furthest error
	for _, v := range all {
		caller, err := v.Verify(r)
		if err == nil {
			return caller, nil
		}
		if furthest == nil || distance(err) > distance(furthest) {
			furthest = err
		}
	}
	return Caller{}, furthest
}

// distance returns how far a verifier got before it refused.
func distance(err error) int {
	switch rejectionOutcome(err) {
	case Unavailable:
		return 3
	case Forbidden:
		return 2
	}
	switch reasonOf(err) {
	case ReasonNoToken, ReasonSignatureRemoved, ReasonSignatureKept, ReasonNotAppEngine:
		return 0 // there is no token of the kind that the Verifier accepts
	}
	return 1
}

// Why a Verifier of this package refused a delivery.
const (
	ReasonNoToken          Reason = oidc.NoToken          // no Authorization header
	ReasonTwoTokens        Reason = oidc.TwoTokens        // more than one
	ReasonTooLong          Reason = oidc.TooLong          // a token over 8 KiB
	ReasonTokenMalformed   Reason = oidc.Malformed        // not a token of Google's shape
	ReasonAlgorithm        Reason = oidc.Algorithm        // not signed by RS256
	ReasonSignatureRemoved Reason = oidc.SignatureRemoved // the platform checked and removed it: see DangerouslyTrustPlatform
	ReasonSignatureKept    Reason = oidc.SignatureKept    // DangerouslyTrustPlatform found a signature
	ReasonIssuer           Reason = oidc.Issuer           // not issued by Google
	ReasonAudience         Reason = oidc.Audience         // its audience is not listed
	ReasonTokenExpired     Reason = oidc.Expired          // the token, not the task
	ReasonNotYetValid      Reason = oidc.NotYetValid      // issued in the future
	ReasonLifetime         Reason = oidc.Lifetime         // lives too long
	ReasonEmail            Reason = oidc.Email            // no verified email
	ReasonKey              Reason = oidc.Key              // signed by a key that is not known
	ReasonSignature        Reason = oidc.Signature        // the signature is not valid
	ReasonCaller           Reason = oidc.Caller           // a valid token of a service account that is not listed
	ReasonKeysUnavailable  Reason = oidc.KeysUnavailable  // the keys cannot be fetched
	ReasonNotAppEngine     Reason = "not-app-engine"      // no X-AppEngine headers
	ReasonRejected         Reason = "rejected"            // a Verifier of another package returned an error
)

// rejection is the error of a Verifier of this package.
type rejection struct {
	reason Reason
	kind   error // ErrUnauthenticated, ErrForbidden or ErrUnavailable
	err    error
}

func (e *rejection) Error() string   { return e.kind.Error() + ": " + e.err.Error() }
func (e *rejection) Unwrap() []error { return []error{e.kind, e.err} }

func reject(err error) error {
	kind, reason := ErrUnauthenticated, ReasonRejected
	if refusal, ok := errors.AsType[*oidc.Refusal](err); ok {
		reason = Reason(refusal.Reason)
	}
	switch reason {
	case ReasonCaller:
		kind = ErrForbidden
	case ReasonKeysUnavailable:
		kind = ErrUnavailable
	}
	return &rejection{reason, kind, err}
}

// reasonOf returns the Reason of a Verifier's error.
func reasonOf(err error) Reason {
	if e, ok := errors.AsType[*rejection](err); ok {
		return e.reason
	}
	return ReasonRejected
}
