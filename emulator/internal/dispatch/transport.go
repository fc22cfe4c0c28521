package dispatch

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// idleTime is how long idle connections are kept. It is shorter than in the
	// common workers (five seconds in Node), so that a dispatch never uses a
	// connection that the worker is closing.
	idleTime = 4 * time.Second
	// maxIdle is the number of idle connections to one host: what a queue with
	// the default limits has in flight at ordinary times.
	maxIdle = 512
)

// NewTransport returns the transport for targets reached over the network: a
// copy of http.DefaultTransport, with more connections to one host. With
// insecure it accepts any certificate. Call CloseIdleConnections when done.
func NewTransport(insecure bool) *http.Transport {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if own, ok := http.DefaultTransport.(*http.Transport); ok {
		t = own.Clone()
	}
	t.Proxy = exceptLocal(t.Proxy)
	t.MaxIdleConns = 0 // no limit
	t.MaxIdleConnsPerHost = maxIdle
	t.IdleConnTimeout = idleTime
	t.DisableCompression = true // the service's Accept-Encoding is sent; bodies are not read
	if insecure {
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // asked for by Config.InsecureTargets
	}
	return t
}

// exceptLocal leaves out targets that are names without a dot: another container
// or this machine, which no proxy can reach.
func exceptLocal(proxy func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	if proxy == nil {
		return nil
	}
	return func(req *http.Request) (*url.URL, error) {
		if !strings.ContainsAny(strings.TrimSuffix(req.URL.Hostname(), "."), ".:") {
			return nil, nil
		}
		return proxy(req)
	}
}
