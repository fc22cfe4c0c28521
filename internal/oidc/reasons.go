// Package oidc verifies the OIDC tokens that Cloud Tasks sends: first the shape,
// then the claims, then the signature, because the first two cost little. A
// token is parsed once, strictly; crypto/rsa verifies the signature. Google's
// google.golang.org/api/idtoken leaves most other checks to its caller and
// panics on some tokens (docs/cloud-tasks.md#16). Tests show that this package
// accepts nothing that idtoken refuses.
package oidc

// Why a request was refused. The set is closed; each is one word for a metric.
const (
	NoToken          = "no-token"
	TwoTokens        = "two-tokens"
	TooLong          = "too-long"
	Malformed        = "token-malformed"
	Algorithm        = "algorithm"
	SignatureRemoved = "signature-removed"
	SignatureKept    = "signature-kept"
	Issuer           = "issuer"
	Audience         = "audience"
	Expired          = "token-expired"
	NotYetValid      = "not-yet-valid"
	Lifetime         = "lifetime"
	Email            = "email"
	Key              = "key"
	Signature        = "signature"
	Caller           = "caller"
	KeysUnavailable  = "keys-unavailable"
)

// Refusal is the error for a request that was refused. Its text holds no part of
// the token.
type Refusal struct {
	Reason string
	Text   string
	Err    error // the cause, if there is one
}

func (r *Refusal) Error() string {
	if r.Err == nil {
		return r.Text
	}
	return r.Text + ": " + r.Err.Error()
}

func (r *Refusal) Unwrap() error { return r.Err }

func refuse(reason, text string) *Refusal { return &Refusal{Reason: reason, Text: text} }
