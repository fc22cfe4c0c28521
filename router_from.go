package handoff

import (
	"fmt"
	"slices"
	"strings"
)

// HandleOption is an option of [Handle] and [Router.Raw].
type HandleOption func(*handler)

// From allows only the service account email to deliver the kind. If audiences are
// given, its token must be for one of them. Give From once for each account to
// allow. Without From, every caller that the [Verifier] accepts may deliver the kind.
// Deliveries of other callers are [Forbidden], and so are those of App Engine, which
// name no account.
//
// From says who may run the handler. The records of the [Store] are shared: a
// caller who knows the key of another kind's work, and may deliver any kind, can
// mark that work as done.
//
// Handle and Raw panic if email is not an email address in lower case, or if an
// audience is empty.
func From(email string, audiences ...string) HandleOption {
	return func(h *handler) {
		h.from = append(h.from, source{email, slices.Clone(audiences)})
	}
}

// source is a caller that may deliver a kind.
type source struct {
	email     string
	audiences []string // empty: any
}

func (s source) check() error {
	name, domain, _ := strings.Cut(s.email, "@")
	if name == "" || domain == "" || s.email != strings.ToLower(strings.TrimSpace(s.email)) {
		return fmt.Errorf("From(%q): it must be the email of a service account, in lower case", s.email)
	}
	if slices.Contains(s.audiences, "") {
		return fmt.Errorf("From(%q): an audience is empty", s.email)
	}
	return nil
}

func (s source) includes(c Caller) bool {
	return c.Email == s.email && (len(s.audiences) == 0 || slices.Contains(s.audiences, c.Audience))
}

func (s source) String() string {
	if len(s.audiences) == 0 {
		return fmt.Sprintf("%q", s.email)
	}
	return fmt.Sprintf("%q for %q", s.email, s.audiences)
}

// apply applies the options of a registration. It panics, as register does.
func (h *handler) apply(options []HandleOption) {
	for i, option := range options {
		if option == nil {
			panic(fmt.Sprintf("handoff: %s: option %d is nil", h.where, i))
		}
		option(h)
	}
	for _, s := range h.from {
		if err := s.check(); err != nil {
			panic(fmt.Sprintf("handoff: %s: %v", h.where, err))
		}
	}
}

// checkFrom returns an error if the caller may not deliver the kind.
func (h *handler) checkFrom(c Caller) error {
	if len(h.from) == 0 || slices.ContainsFunc(h.from, func(s source) bool { return s.includes(c) }) {
		return nil
	}
	return fmt.Errorf("%w: kind %q may come only from %v; the caller is %q with a token for %q", ErrForbidden, h.kind, h.from, c.Email, c.Audience)
}
