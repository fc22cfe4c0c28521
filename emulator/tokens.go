package emulator

import "time"

// JWKS is the public key that verifies the tokens of dispatches, as a JSON
// Web Key Set in the form of https://www.googleapis.com/oauth2/v3/certs.
func (s *Server) JWKS() []byte { return s.tokens.JWKS() }

// Token returns an OIDC token like those that dispatches carry: signed by
// this server, for a service account and an audience, valid for an hour. Each
// of changes may alter the claims before they are signed, to make the tokens
// that a receiver must refuse:
//
//	srv.Token(email, audience, func(c map[string]any) { c["email_verified"] = false })
func (s *Server) Token(email, audience string, changes ...func(claims map[string]any)) (string, error) {
	claims := s.tokens.Claims(email, audience, time.Now())
	for _, change := range changes {
		change(claims)
	}
	return s.tokens.Sign(claims)
}
