package main

import (
	"net/http"
	"runtime"
	"sync"

	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
)

// signer signs tokens as Google does, and serves the public key.
type signer struct {
	key    *oidctest.Key
	server *http.Server
	url    string
}

func startSigner() (*signer, error) {
	key := oidctest.NewKey("bench")
	jwks := oidctest.JWKS(key)
	addr, server, err := serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "public, max-age=20000")
		_, _ = w.Write(jwks)
	}))
	return &signer{key: key, server: server, url: "http://" + addr + "/certs"}, err
}

func (s *signer) stop() error { return s.server.Close() }

// forgotten exceeds the number of tokens that a verifier remembers (8,192) plus
// those in flight. Tokens sent in turn are therefore forgotten before they are sent
// again.
const forgotten = 9000

// sign returns n different tokens.
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
