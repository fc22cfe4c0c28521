// Package webguard tells the requests of a server's own users from those that a
// web page of another site makes their browsers send.
//
// A server on a developer's machine has no login: whatever reaches its port is
// obeyed. A browser on that machine reaches it too, on behalf of any page that
// is open in it. Two facts give such requests away. Browsers say which site a
// request comes from (Sec-Fetch-Site, Origin), and a page cannot change that. A
// page whose own name is pointed at the server's address (DNS rebinding) is of
// the same site to the browser, but then Host has the page's name.
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

// Guard decides which requests a server takes. The zero Guard takes those that
// name the server by an IP address or a name for development
// ([target.IsDevelopment]), and come from no other site. It must not be changed
// while it is in use.
type Guard struct {
	// Hosts are further names to accept in Host, without a port.
	Hosts []string

	// AnyHost accepts every name. It is for servers that ask who is calling.
	AnyHost bool

	// Links accepts links of other sites: a GET or HEAD that shows its response
	// in a tab. It is for servers that change nothing on either method.
	Links bool
}

var sites = http.NewCrossOriginProtection()

// Check returns why a request is refused, nil if it is accepted.
func (g Guard) Check(r *http.Request) error {
	if !g.AnyHost {
		if err := g.checkHost(r.Host); err != nil {
			return err
		}
	}
	if g.Links && isLink(r) {
		return nil
	}
	// net/http lets every GET through, which is right for a server that shows
	// pages. Ours do work on some.
	post := r.WithContext(r.Context())
	post.Method = http.MethodPost
	if err := sites.Check(post); err != nil {
		return fmt.Errorf("it comes from a page of another site: %w", err)
	}
	return nil
}

// isLink reports whether a browser follows a link. Only browsers send these
// headers, and no page can set them.
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
	return fmt.Errorf("its Host is %q, which is not a name of this machine", hostport)
}

var label = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// CheckHostName reports what is wrong with a name for [Guard.Hosts].
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
