package handoff_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/wire"
	"github.com/brillconsulting/handoff/memstore"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

// note is the payload of most tests.
type note struct {
	Text string `json:"text"`
}

func (note) Kind() string { return "note" }

func (n note) Validate() error {
	if n.Text == "invalid" {
		return errors.New("text must not be invalid")
	}
	return nil
}

// syncBuffer is a buffer that several goroutines may write to.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// fixture is a router with its stores and its log.
type fixture struct {
	*handoff.Router
	store   *faultyStore
	letters *memstore.DeadLetters
	log     *syncBuffer
}

// newFixture returns a router that does not authenticate callers, because most
// tests are not about that. change may modify its configuration.
func newFixture(t *testing.T, change func(*handoff.RouterConfig)) *fixture {
	t.Helper()
	b := &fixture{
		store:   &faultyStore{Store: memstore.New()},
		letters: memstore.NewDeadLetters(),
		log:     &syncBuffer{},
	}
	config := handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true,
		Store:                           b.store,
		DeadLetters:                     b.letters,
		Logger:                          slog.New(slog.NewTextHandler(b.log, nil)),
	}
	if change != nil {
		change(&config)
	}
	router, err := handoff.NewRouter(config)
	assert.NoError(t, err)
	b.Router = router
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		assert.NoError(t, router.Shutdown(ctx))
	})
	return b
}

// task is one dispatch, as Cloud Tasks would send it.
type task struct {
	kind    string
	name    string // task ID
	body    string
	retries int
	stamp   wire.Stamp
	header  http.Header
	ctx     context.Context
}

// typed is a dispatch of a note that Enqueue might have made.
func typed(id, text string) task {
	body, _ := json.Marshal(note{Text: text})
	return task{kind: "note", name: "task-" + id, body: string(body), stamp: wire.Stamp{
		ID:          id,
		Enqueued:    time.Now(),
		Expires:     time.Now().Add(time.Hour),
		MaxAttempts: 3,
	}}
}

// foreign is a dispatch of a task that handoff did not create.
func foreign(name, text string) task {
	d := typed(name, text)
	d.stamp = wire.Stamp{}
	return d
}

func (d task) request() *http.Request {
	req := httptest.NewRequest(http.MethodPost, "/tasks/"+d.kind, strings.NewReader(d.body))
	if d.ctx != nil {
		req = req.WithContext(d.ctx)
	}
	req.Header.Set("Content-Type", "application/json")
	wire.HTTP.Write(req.Header, wire.Dispatch{
		Queue: "emails", Task: d.name, RetryCount: d.retries, ETA: time.Now(), Retried: d.retries > 0, PreviousResponse: 500 * min(d.retries, 1),
	})
	d.stamp.Write(req.Header.Set)
	for name, values := range d.header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	return req
}

// send delivers d and returns the status that Cloud Tasks would see.
func (b *fixture) send(t *testing.T, d task) int {
	t.Helper()
	rec := b.serve(d.request())
	if rec.Body.Len() > 0 {
		t.Errorf("the response has a body: %q", rec.Body)
	}
	return rec.Code
}

func (b *fixture) serve(req *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	b.ServeHTTP(rec, req)
	return rec
}

// faultyStore is a Store whose calls a test can make fail.
type faultyStore struct {
	handoff.Store
	mu      sync.Mutex
	faults  map[string]func() error
	calls   map[string]int
	hanging map[string]bool
}

// fault makes every call of method return the error of fn, if it is not nil.
func (s *faultyStore) fault(method string, fn func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults == nil {
		s.faults = make(map[string]func() error)
	}
	s.faults[method] = fn
}

var errStoreDown = errors.New("connection refused")

func down() error { return errStoreDown }

func (s *faultyStore) hit(ctx context.Context, method string) error {
	s.mu.Lock()
	if s.calls == nil {
		s.calls = make(map[string]int)
	}
	s.calls[method]++
	fn, hangs := s.faults[method], s.hanging[method]
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if fn == nil {
		return nil
	}
	return fn()
}

func (s *faultyStore) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

func (s *faultyStore) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	if err := s.hit(ctx, "claim"); err != nil {
		return handoff.Claim{}, err
	}
	return s.Store.Claim(ctx, l)
}

func (s *faultyStore) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	if err := s.hit(ctx, "renew"); err != nil {
		return nil, err
	}
	return s.Store.Renew(ctx, leases)
}

func (s *faultyStore) Complete(ctx context.Context, l handoff.Lease) error {
	if err := s.hit(ctx, "complete"); err != nil {
		return err
	}
	return s.Store.Complete(ctx, l)
}

func (s *faultyStore) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	if err := s.hit(ctx, "release"); err != nil {
		return err
	}
	return s.Store.Release(ctx, l, counted)
}

func (s *faultyStore) End(ctx context.Context, l handoff.Lease, note []byte) error {
	if err := s.hit(ctx, "end"); err != nil {
		return err
	}
	return s.Store.End(ctx, l, note)
}

// onlyLetter returns the single letter of b, and fails if there are more or none.
func (b *fixture) onlyLetter(t *testing.T) handoff.DeadLetter {
	t.Helper()
	page, err := b.letters.List(t.Context(), handoff.DeadLetterQuery{})
	assert.NoError(t, err)
	if len(page.Letters) != 1 {
		t.Fatalf("got %d dead letters, want 1", len(page.Letters))
	}
	return page.Letters[0]
}

func (b *fixture) noLetters(t *testing.T) {
	t.Helper()
	counts, err := b.letters.CountByKind(t.Context())
	assert.NoError(t, err)
	assert.Equal(t, fmt.Sprint(counts), "map[]")
}
