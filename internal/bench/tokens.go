package main

import (
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
)

// signer signs tokens as Google does, and serves the key that they are checked
// with.
type signer struct {
	key    *oidctest.Key
	server *http.Server
	url    string
}

func startSigner() (*signer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	key := oidctest.NewKey("bench")
	jwks := oidctest.JWKS(key)
	s := &signer{key: key, url: "http://" + l.Addr().String() + "/certs"}
	s.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "public, max-age=20000")
		_, _ = w.Write(jwks)
	})}
	go func() { _ = s.server.Serve(l) }()
	return s, nil
}

func (s *signer) stop() error { return s.server.Close() }

// forgotten is more tokens than a verifier remembers (8,192) and can have in
// flight: sent in turn, each is new to it by the time it comes again.
const forgotten = 9000

// sign makes so many tokens, no two alike.
func (s *signer) sign(n int) []string {
	tokens := make([]string, n)
	var work sync.WaitGroup
	each := runtime.GOMAXPROCS(0)
	for first := range each {
		work.Go(func() {
			for i := first; i < n; i += each {
				tokens[i] = s.key.Good()
			}
		})
	}
	work.Wait()
	return tokens
}
