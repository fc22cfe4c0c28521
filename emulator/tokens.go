package emulator

import "time"

// JWKS has the public keys that verify the tokens of dispatches, as a JSON Web
// Key Set in the form of https://www.googleapis.com/oauth2/v3/certs.
func (s *Server) JWKS() []byte { return s.tokens.JWKS() }

// RotateKey signs further tokens with a new key. [Server.JWKS] has it beside the
// old ones, as Google's has after a rotation. A receiver that has cached the old
// set sees a key ID that is not in it.
func (s *Server) RotateKey() error { return s.tokens.Rotate() }

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
