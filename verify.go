package handoff

import "net/http"

// Caller is who sent a delivery, as its [Verifier] established.
type Caller struct {
	Email     string // service account; empty for App Engine
	Subject   string // its numeric ID; empty if unknown
	Audience  string // the audience that matched; empty if there was none to match
	AppEngine bool   // the X-AppEngine-* headers may be believed, and are read in place of X-CloudTasks-*
}

// Verifier decides who sent a request before any other part of it is
// believed. [NewOIDC] makes the one for HTTP targets.
//
// An implementation looks at headers only, never at the body. It returns an
// error that wraps [ErrUnauthenticated], [ErrForbidden] or [ErrUnavailable];
// any other error counts as unauthenticated. Errors must not hold the token:
// they are logged. It must be safe for concurrent use.
type Verifier interface {
	Verify(r *http.Request) (Caller, error)
}
