// Package oidc checks the OIDC tokens that Cloud Tasks sends: the token's
// shape, what it claims, and its signature, in that order, so that what can be
// refused cheaply is. A token is taken apart once, strictly, and what was read
// is what is checked; the signature is crypto/rsa's to check. Google's own
// google.golang.org/api/idtoken leaves most of the rest to its caller
// (docs/cloud-tasks.md#16), would have each token parsed a second time by other rules,
// and crashes on some; tests hold that nothing comes in which it would refuse.
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

// Refusal is why a request was refused. Its text never holds any part of the
// token but the email of a token whose signature is good.
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
