package handoff_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/benchtest"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/memstore"
)

// Run these benchmarks together, because only their ratios are meaningful:
//
//	go test -run '^$' -bench 'BareEcho|Delivery|RSA' -benchmem -count 10 .

// serve sends dispatches with the tokens in turn. If authorization is nil, it uses
// one token.
func serve(b *testing.B, h http.Handler, authorization []string) {
	b.Helper()
	if authorization == nil {
		authorization = oneToken()
	}
	d := benchtest.NewDispatch("")
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		d.Header["Authorization"][0] = authorization[n%len(authorization)]
		if status := d.Serve(h); status != http.StatusOK {
			b.Fatalf("status %d", status)
		}
	}
}

var oneToken = sync.OnceValue(func() []string { return []string{"Bearer " + oidctest.Shared().Good()} })

// manyTokens returns more tokens than a Verifier remembers, so that each is
// forgotten before it is sent again. Signing them takes some seconds.
var manyTokens = sync.OnceValue(func() []string {
	tokens := make([]string, 8192+1)
	for i := range tokens {
		tokens[i] = "Bearer " + oidctest.Shared().Good()
	}
	return tokens
})

// BenchmarkBareEcho decodes the same body into the same struct with echo alone.
func BenchmarkBareEcho(b *testing.B) { serve(b, bareEcho(), nil) }

func bareEcho() http.Handler {
	e := echo.New()
	e.Group("/tasks").POST("/:kind", func(c echo.Context) error {
		var in benchtest.Invoice
		if err := c.Bind(&in); err != nil {
			return err
		}
		return c.NoContent(http.StatusOK)
	})
	return e
}

// BenchmarkDelivery is the whole pipeline: verify, parse, decode, claim, run, complete.
func BenchmarkDelivery(b *testing.B) {
	b.Run("no-token", func(b *testing.B) { serve(b, benchRouter(b, nil), nil) })
	b.Run("known-token", func(b *testing.B) { serve(b, benchRouter(b, newOIDC(b, staticKeys())), nil) })
	b.Run("new-token", func(b *testing.B) { serve(b, benchRouter(b, newOIDC(b, staticKeys())), manyTokens()) })
}

// BenchmarkDeliveryOverBareEcho reports the cost of a delivery as a multiple of
// bare echo's. It alternates between the two every few hundred microseconds,
// because the speed of the machine varies over time.
func BenchmarkDeliveryOverBareEcho(b *testing.B) {
	const turn = 50
	handlers := [...]http.Handler{bareEcho(), benchRouter(b, newOIDC(b, staticKeys()))}
	d := benchtest.NewDispatch(strings.TrimPrefix(oneToken()[0], "Bearer "))
	var spent [len(handlers)]time.Duration
	for b.Loop() {
		for i, h := range handlers {
			start := time.Now()
			for range turn {
				if status := d.Serve(h); status != http.StatusOK {
					b.Fatalf("status %d", status)
				}
			}
			spent[i] += time.Since(start)
		}
	}
	b.ReportMetric(float64(spent[1])/float64(spent[0]), "times-bare-echo")
	b.ReportMetric(float64(spent[1].Nanoseconds())/float64(turn*b.N), "ns/delivery")
}

func benchRouter(b *testing.B, v handoff.Verifier) http.Handler {
	b.Helper()
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier:                        v,
		DangerouslyAllowUnauthenticated: v == nil,
		Store:                           memstore.New(),
		DeadLetters:                     memstore.NewDeadLetters(),
		Logger:                          slog.New(slog.DiscardHandler),
	})
	assert.NoError(b, err)
	handoff.Handle(router, func(context.Context, benchtest.Invoice) error { return nil })
	b.Cleanup(func() { assert.NoError(b, router.Shutdown(context.Background())) })
	e := echo.New()
	router.Mount(e.Group("/tasks"))
	return e
}

// BenchmarkRSA measures the minimum cost of a new token: the check of its signature
// alone.
func BenchmarkRSA(b *testing.B) {
	header, claims, signature := splitToken(strings.TrimPrefix(oneToken()[0], "Bearer "))
	signed, raw := []byte(header+"."+claims), oidctest.Decode(signature)
	key := &rsa.PublicKey{N: oidctest.Shared().N, E: oidctest.Shared().E}
	b.ReportAllocs()
	for b.Loop() {
		sum := sha256.Sum256(signed)
		if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], raw); err != nil {
			b.Fatal(err)
		}
	}
}
