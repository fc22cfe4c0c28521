// Package webguard refuses requests that a web page of another site makes a user's
// browser send.
//
// A server on a developer's machine has no login: it obeys every request that
// reaches its port. A browser on that machine can reach the port on behalf of any
// open page. Two headers give such requests away. Browsers send the site that a
// request comes from (Sec-Fetch-Site, Origin), and a page cannot change that. If an
// attacker points the name of the page at the server's address (DNS rebinding), the
// browser sees one site, but then Host holds the page's name.
package webguard

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"

	"github.com/brillconsulting/handoff/internal/target"
)

// Guard decides which requests a server accepts. The zero Guard accepts those whose
// Host is an IP address or a name for development ([target.IsDevelopment]), and that
// do not come from another site. A Guard must not be changed while it is in use.
type Guard struct {
	// Hosts are further names that Host may hold, without a port.
	Hosts []string

	// AnyHost accepts every Host. It is for servers that authenticate callers.
	AnyHost bool

	// Links accepts links from other sites: a GET or HEAD whose response the
	// browser shows as a page. It is for servers that change nothing on GET or
	// HEAD.
	Links bool
}

var sites = http.NewCrossOriginProtection()

// Check returns an error that says why a request must be refused, or nil if it is
// accepted.
func (g Guard) Check(r *http.Request) error {
	if !g.AnyHost {
		if err := g.checkHost(r.Host); err != nil {
			return err
		}
	}
	if g.Links && isLink(r) {
		return nil
	}
	// net/http accepts every GET, which suits servers that only show pages. These
	// servers also act on some, so the check is made as for a POST.
	post := r.WithContext(r.Context())
	post.Method = http.MethodPost
	if err := sites.Check(post); err != nil {
		return fmt.Errorf("the request comes from a page of another site: %w", err)
	}
	return nil
}

// isLink reports whether a browser sent the request to follow a link. Pages cannot
// set these headers.
func isLink(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

func (g Guard) checkHost(hostport string) error {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil || CheckHostName(host) == nil && target.IsDevelopment(host) {
		return nil
	}
	for _, name := range g.Hosts {
		if strings.EqualFold(strings.TrimSuffix(host, "."), strings.TrimSuffix(name, ".")) {
			return nil
		}
	}
	return fmt.Errorf("the request's Host is %q, which is not a name of this machine", hostport)
}

var label = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// CheckHostName returns an error if name is not valid in [Guard.Hosts].
func CheckHostName(name string) error {
	if len(name) > 253 {
		return errors.New("it is longer than 253 characters")
	}
	for l := range strings.SplitSeq(strings.ToLower(strings.TrimSuffix(name, ".")), ".") {
		if !label.MatchString(l) {
			return errors.New("it must be a host name such as tasks.example.com, without a scheme or a port")
		}
	}
	return nil
}
