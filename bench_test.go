package handoff_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/brillconsulting/handoff/internal/wire"
	"github.com/brillconsulting/handoff/memstore"
)

// Run them together, since only their relation means something:
//
//	go test -run '^$' -bench 'BareEcho|Delivery|RSA' -benchmem -count 10 .

// invoice is the payload of the benchmarks.
type invoice struct {
	ID       string   `json:"id"`
	Customer string   `json:"customer"`
	Currency string   `json:"currency"`
	Total    float64  `json:"total"`
	Paid     bool     `json:"paid"`
	Lines    []string `json:"lines"`
	Note     string   `json:"note"`
}

func (invoice) Kind() string { return "invoice" }

// invoiceBody has 300 bytes.
const invoiceBody = `{"id":"inv-2026-00000000042","customer":"customer-0001","currency":"EUR","total":1234.56,"paid":true,` +
	`"lines":["twelve crates of apples","one crate of pears","delivery on Tuesday before 9","deposit for thirteen crates"],` +
	`"note":"Please ring twice, the bell is old and sometimes does not hear the 1st."}`

// benchRequest is one dispatch that is sent again and again: only the task
// changes, as each is run once.
type benchRequest struct {
	*http.Request
	body *strings.Reader
	task int
}

func newBenchRequest() *benchRequest {
	b := &benchRequest{body: strings.NewReader(invoiceBody)}
	b.Request = httptest.NewRequest(http.MethodPost, "/tasks/invoice", nil)
	b.ContentLength = int64(len(invoiceBody))
	b.Header.Set("Content-Type", "application/json")
	b.Header.Set("User-Agent", wire.UserAgentHTTP)
	b.Header.Set("Authorization", "")
	wire.HTTP.Write(b.Header, wire.Dispatch{Queue: "invoices", Task: "0", ETA: time.Now()})
	wire.Stamp{
		ID: "0", Enqueued: time.Now(), Expires: time.Now().Add(24 * time.Hour), Deadline: 10 * time.Minute, MaxAttempts: 5, Window: 25 * time.Hour,
	}.Write(b.Header.Set)
	return b
}

func (b *benchRequest) next() *http.Request {
	b.task++
	id := strconv.Itoa(b.task)
	b.Header[wire.HTTP.TaskName][0] = id
	b.Header["Handoff-Id"][0] = id
	b.body.Reset(invoiceBody)
	b.Body = io.NopCloser(b.body)
	return b.Request
}

// nowhere is a ResponseWriter that costs nothing.
type nowhere struct {
	header http.Header
	status int
}

func (w *nowhere) Header() http.Header         { return w.header }
func (w *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (w *nowhere) WriteHeader(status int)      { w.status = status }

// serve sends dispatches with the tokens in turn; by default, with one token.
func serve(b *testing.B, h http.Handler, authorization []string) {
	b.Helper()
	if authorization == nil {
		authorization = oneToken()
	}
	r, w := newBenchRequest(), &nowhere{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		r.Header["Authorization"][0] = authorization[r.task%len(authorization)]
		h.ServeHTTP(w, r.next())
		if w.status != http.StatusOK {
			b.Fatalf("status %d", w.status)
		}
	}
}

var oneToken = sync.OnceValue(func() []string { return []string{"Bearer " + oidctest.Shared().Good()} })

// manyTokens are more than a Verifier remembers, so that by the time one comes
// again it is new. Signing them takes some seconds.
var manyTokens = sync.OnceValue(func() []string {
	tokens := make([]string, 8192+1)
	for i := range tokens {
		tokens[i] = "Bearer " + oidctest.Shared().Good()
	}
	return tokens
})

// BenchmarkBareEcho is the same body into the same struct by echo alone.
func BenchmarkBareEcho(b *testing.B) {
	e := echo.New()
	e.Group("/tasks").POST("/:kind", func(c echo.Context) error {
		var in invoice
		if err := c.Bind(&in); err != nil {
			return err
		}
		return c.NoContent(http.StatusOK)
	})
	serve(b, e, nil)
}

// BenchmarkDelivery is the whole pipeline: verify, parse, decode, claim, run, complete.
func BenchmarkDelivery(b *testing.B) {
	b.Run("no-token", func(b *testing.B) { serve(b, benchRouter(b, nil), nil) })
	b.Run("known-token", func(b *testing.B) { serve(b, benchRouter(b, newOIDC(b, staticKeys())), nil) })
	b.Run("new-token", func(b *testing.B) { serve(b, benchRouter(b, newOIDC(b, staticKeys())), manyTokens()) })
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
	handoff.Handle(router, func(context.Context, invoice) error { return nil })
	b.Cleanup(func() { assert.NoError(b, router.Shutdown(context.Background())) })
	e := echo.New()
	router.Mount(e.Group("/tasks"))
	return e
}

// BenchmarkRSA is the floor under a new token: the bare check of its signature.
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
