package oidc

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// Leeway is how far the issuer's clock may be ahead of ours. Expiry has no
	// leeway: tokens are made at dispatch and live for an hour.
	Leeway = 30 * time.Second

	// MaxLifetime is the hour that Google's ID tokens live
	// (docs/cloud-tasks.md#10.2), plus 5 minutes.
	MaxLifetime = time.Hour + 5*time.Minute
)

// Identity is what a valid token proves.
type Identity struct {
	Email, Subject, Audience string
}

// Policy says which tokens are accepted. The zero Policy accepts none.
type Policy struct {
	Audiences []string // exact
	Callers   []string // exact emails
}

// Problems returns every problem of the policy. Field is its name in the user's
// configuration.
func (p Policy) Problems(field string) []error {
	var errs []error
	if len(p.Audiences) == 0 {
		errs = append(errs, fmt.Errorf("%s.Audiences is empty; list what HTTPTarget.Audience says, such as the service's URL", field))
	}
	for i, audience := range p.Audiences {
		if audience == "" {
			errs = append(errs, fmt.Errorf("%s.Audiences[%d] is empty", field, i))
		}
	}
	if len(p.Callers) == 0 {
		errs = append(errs, fmt.Errorf("%s.Callers is empty; list the emails of the service accounts that deliver", field))
	}
	for i, email := range p.Callers {
		name, domain, _ := strings.Cut(email, "@")
		if name == "" || domain == "" || email != strings.ToLower(strings.TrimSpace(email)) {
			errs = append(errs, fmt.Errorf("%s.Callers[%d] is %q; it must be the email of a service account, in lower case", field, i, email))
		}
	}
	return errs
}

// accepts is a Policy compiled for lookups. Its values are the policy's own
// strings: an Identity must not hold slices of a token.
type accepts struct {
	audiences, callers map[string]string
}

func (p Policy) compile() accepts {
	return accepts{audiences: lookup(p.Audiences), callers: lookup(p.Callers)}
}

func lookup(list []string) map[string]string {
	m := make(map[string]string, len(list))
	for _, s := range list {
		m[s] = s
	}
	return m
}

// Verifier verifies tokens by one policy and the keys of one source. Each
// Verifier remembers its own tokens, so one with another policy starts with
// none. It is safe for concurrent use.
type Verifier struct {
	accepts accepts
	source  *Source
	memory  memory
}

// New returns a Verifier.
func New(p Policy, s *Source) *Verifier {
	return &Verifier{accepts: p.compile(), source: s}
}

// Verify returns who sent the request with the header h. The error is a *[Refusal].
func (v *Verifier) Verify(ctx context.Context, h http.Header) (Identity, error) {
	token, refusal := Bearer(h)
	if refusal != nil {
		return Identity{}, refusal
	}
	now := time.Now()
	d := digestOf(token)
	if known, ok := v.memory.get(d); ok && now.Before(known.until) {
		// This also refreshes the keys before they expire.
		if s, err := v.source.current(ctx, now); err == nil && s.keys == known.keys {
			return known.identity, nil
		}
	}
	id, until, keys, refusal := v.verify(ctx, token, now)
	if refusal != nil {
		return Identity{}, refusal
	}
	if now.Before(until) {
		v.memory.put(d, verified{identity: id, keys: keys, until: until})
	}
	return id, nil
}

// verify checks a token that is not remembered: the claims that need no key,
// then the key, then the signature, then the caller. The caller comes last, so
// that 403 tells nobody without a valid token which accounts are listed.
func (v *Verifier) verify(ctx context.Context, token string, now time.Time) (Identity, time.Time, *Keys, *Refusal) {
	fail := func(r *Refusal) (Identity, time.Time, *Keys, *Refusal) { return Identity{}, time.Time{}, nil, r }
	p, refusal := parse(token)
	if refusal != nil {
		return fail(refusal)
	}
	if p.removed {
		return fail(refuse(SignatureRemoved, "the platform already verified this token and removed its signature; "+
			"see DangerouslyTrustPlatform"))
	}
	if refusal = v.accepts.plausible(&p, now); refusal != nil {
		return fail(v.name(&p, now, refusal))
	}
	snap, refusal := v.keysFor(ctx, &p, now)
	if refusal != nil {
		return fail(refusal)
	}
	id, refusal := v.accepts.prove(snap.keys, &p)
	if refusal != nil {
		return fail(refusal)
	}
	until := time.Unix(p.expires, 0)
	if snap.fresh.Before(until) {
		until = snap.fresh
	}
	return id, until, snap.keys, nil
}

// keysFor returns a set of keys that includes the one the token names. An unknown
// key is refused at once, while a fetch looks for it in the background. All
// accounts are treated alike: otherwise the status or the time of the response
// would tell a stranger which of them are listed.
func (v *Verifier) keysFor(ctx context.Context, p *parsed, now time.Time) (*snapshot, *Refusal) {
	snap, err := v.source.current(ctx, now)
	if err != nil {
		return nil, &Refusal{Reason: KeysUnavailable, Text: "the keys cannot be fetched", Err: err}
	}
	if snap.keys.byID[p.kid] == nil {
		v.source.seek(now)
		return nil, refuse(Key, "the token is signed by a key that is not known; a new one is fetched within a minute")
	}
	return snap, nil
}

// name says what was seen in a token that was refused for its audience, if the token
// is otherwise good: its signature proves it. It does not wait for keys. While there
// are none it has them fetched, so that the next refusal is named.
func (v *Verifier) name(p *parsed, now time.Time, refusal *Refusal) *Refusal {
	if refusal.Reason != Audience || v.accepts.timely(p, now) != nil {
		return refusal
	}
	snap := v.source.held(now)
	if snap == nil || snap.keys.byID[p.kid] == nil || !snap.keys.signed(p) {
		return refusal
	}
	return refuse(Audience, fmt.Sprintf("the token's audience is not on the list: %q of %q, and the list is %q",
		short(p.audience), short(p.email), slices.Sorted(maps.Keys(v.accepts.audiences))))
}

// unlisted refuses a good token of an account that is not on the list.
func (a accepts) unlisted(p *parsed) *Refusal {
	return refuse(Caller, fmt.Sprintf("the token's service account is not on the list: %q with audience %q, and the list is %q",
		short(p.email), a.audiences[p.audience], slices.Sorted(maps.Keys(a.callers))))
}

// short returns the beginning of a claim, which anybody with an account at Google can
// choose, for the log.
func short(claim string) string { return strings.Clone(claim[:min(len(claim), maxShown)]) }

const maxShown = 256

// plausible checks the claims that need no key. They are not verified yet.
func (a accepts) plausible(p *parsed, now time.Time) *Refusal {
	if p.issuer != "https://accounts.google.com" && p.issuer != "accounts.google.com" {
		return refuse(Issuer, "the token's issuer is not Google")
	}
	if _, ok := a.audiences[p.audience]; !ok {
		return refuse(Audience, "the token's audience is not on the list")
	}
	return a.timely(p, now)
}

// timely checks that the token has a verified email, and the times of the token.
func (accepts) timely(p *parsed, now time.Time) *Refusal {
	if p.emailVerified != "true" || p.email == "" {
		return refuse(Email, "the token has no verified email")
	}
	soon := now.Add(Leeway).Unix()
	switch {
	case p.expires <= now.Unix():
		return refuse(Expired, "the token has expired")
	case p.issuedAt > soon || p.notBefore > soon:
		return refuse(NotYetValid, "the token is from the future")
	case p.issuedAt == 0 || p.expires-p.issuedAt > int64(MaxLifetime/time.Second):
		return refuse(Lifetime, "the token lives longer than Google's do")
	}
	return nil
}

// prove checks the signature, then the caller.
func (a accepts) prove(keys *Keys, p *parsed) (Identity, *Refusal) {
	if !keys.signed(p) {
		return Identity{}, refuse(Signature, "the token's signature is invalid")
	}
	email, ok := a.callers[p.email]
	if !ok {
		return Identity{}, a.unlisted(p)
	}
	return Identity{Email: email, Subject: strings.Clone(p.subject), Audience: a.audiences[p.audience]}, nil
}

// Trusting accepts tokens whose signature the platform verified and removed. It
// cannot tell whether it was the platform that removed it.
type Trusting struct{ accepts accepts }

// NewTrusting returns a Trusting.
func NewTrusting(p Policy) *Trusting { return &Trusting{accepts: p.compile()} }

// Verify returns who sent the request with the header h. The error is a *[Refusal].
func (t *Trusting) Verify(h http.Header) (Identity, error) {
	// If this header is present Cloud Run checks it in place of Authorization,
	// which is then unverified (docs/cloud-tasks.md#15.3).
	if len(h["X-Serverless-Authorization"]) > 0 {
		return Identity{}, refuse(TwoTokens, "X-Serverless-Authorization is what the platform checked, not Authorization")
	}
	token, refusal := Bearer(h)
	if refusal != nil {
		return Identity{}, refusal
	}
	p, refusal := parse(token)
	if refusal != nil {
		return Identity{}, refusal
	}
	if !p.removed {
		return Identity{}, refuse(SignatureKept, "the platform did not remove the token's signature: check it with NewOIDC, alone or in AnyOf")
	}
	if refusal = t.accepts.plausible(&p, time.Now()); refusal != nil {
		return Identity{}, refusal
	}
	email, ok := t.accepts.callers[p.email]
	if !ok {
		return Identity{}, t.accepts.unlisted(&p)
	}
	return Identity{Email: email, Subject: p.subject, Audience: t.accepts.audiences[p.audience]}, nil
}
