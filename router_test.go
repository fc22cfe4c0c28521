package handoff_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
)

func TestARouterReportsEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	_, err := handoff.NewRouter(handoff.RouterConfig{
		MaxBody:            -1,
		MaxRun:             -time.Second,
		Lease:              time.Millisecond,
		ForeignMaxAttempts: -2,
		Statuses: map[handoff.Outcome]int{
			handoff.Failed: 200, handoff.Busy: 302, handoff.Lost: 199, handoff.Done: 500, handoff.Outcome(99): 200,
		},
	})
	assert.ErrorContains(t, err,
		"RouterConfig.Verifier is nil", "NewOIDC", "DangerouslyAllowUnauthenticated",
		"RouterConfig.Store is nil", "redisstore.New", "memstore.New", "DangerouslyRunUnfenced",
		"RouterConfig.MaxBody is -1", "RouterConfig.MaxRun is -1s", "RouterConfig.Lease is 1ms", "RouterConfig.ForeignMaxAttempts is -2",
		"Statuses[failed] is 200", "Statuses[busy] is 302", "Statuses[lost] is 199", "Statuses[done] is 500", "has the key outcome(99)",
	)
	for line := range strings.Lines(err.Error()) {
		if !strings.HasPrefix(line, "handoff: ") {
			t.Errorf("does not begin with the package name: %q", line)
		}
	}
	_, err = handoff.NewRouter(handoff.RouterConfig{
		Verifier: failingVerifier{}, DangerouslyAllowUnauthenticated: true,
		Store: memstore.New(), DangerouslyRunUnfenced: true,
	})
	assert.ErrorContains(t, err, "Verifier and DangerouslyAllowUnauthenticated are both set", "Store and DangerouslyRunUnfenced are both set")
}

// NewRouter reports stores that cannot work, together with all other problems.
func TestARouterAsksItsStores(t *testing.T) {
	t.Parallel()
	_, err := handoff.NewRouter(handoff.RouterConfig{
		Store: brokenStore{memstore.New()}, DeadLetters: brokenLetters{memstore.NewDeadLetters()}, MaxBody: -1,
	})
	assert.ErrorContains(t, err, "handoff: RouterConfig.Verifier is nil", "handoff: RouterConfig.MaxBody is -1",
		"handoff: RouterConfig.Store cannot work: boom", "handoff: RouterConfig.DeadLetters cannot work: boom")
}

type brokenStore struct{ handoff.Store }

func (brokenStore) Check() error { return errBoom }

type brokenLetters struct{ handoff.DeadLetterStore }

func (brokenLetters) Check() error { return errBoom }

func TestStatusesOfOutcomes(t *testing.T) {
	t.Parallel()
	b := newFixture(t, func(c *handoff.RouterConfig) {
		c.Statuses = map[handoff.Outcome]int{handoff.Duplicate: 200, handoff.Dead: 200, handoff.UnknownKind: 425}
		t.Cleanup(func() { c.Statuses[handoff.Duplicate] = 500 }) // a later change changes nothing
	})
	handoff.Handle(b.Router, func(_ context.Context, n note) error {
		if n.Text == "die" {
			return handoff.Permanent(errBoom)
		}
		return nil
	})
	assert.Status(t, b.send(t, typed("1", "x")), 200)
	assert.Status(t, b.send(t, typed("1", "x")), 200)
	assert.Status(t, b.send(t, typed("2", "die")), 200)
	unknown := typed("3", "x")
	unknown.kind = "nobody"
	assert.Status(t, b.send(t, unknown), 425)
}

// TestOutcomesAreClosed checks all outcomes, from the first to the last: each has a
// name and a status, and the status of a final one is a 2xx.
func TestOutcomesAreClosed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for o := handoff.Done; o <= handoff.TooLarge; o++ {
		name := o.String()
		if strings.HasPrefix(name, "outcome(") || seen[name] {
			t.Errorf("outcome %d has no name of its own: %q", int(o), name)
		}
		seen[name] = true
		switch s := o.Status(); {
		case s < 200, s >= 300 && s < 400, s > 599:
			t.Errorf("the status of %s is %d", o, s)
		case o.Final() != (s < 300):
			t.Errorf("%s: final %v, status %d", o, o.Final(), s)
		}
	}
	if next := handoff.TooLarge + 1; !strings.HasPrefix(next.String(), "outcome(") || next.Status() != 500 {
		t.Errorf("a new outcome %q: update this test and the docs", next)
	}
}

type failingVerifier struct{ err error }

func (v failingVerifier) Verify(*http.Request) (handoff.Caller, error) {
	return handoff.Caller{}, v.err
}

type namedPayload struct{}

func (p namedPayload) Kind() string { return "fixed" }

type emptyKind struct{}

func (emptyKind) Kind() string { return "" }

type upperKind struct{}

func (upperKind) Kind() string { return "Welcome" }

type renamed struct{}

func (renamed) Kind() string      { return "mail" }
func (renamed) Aliases() []string { return []string{"note", "letter"} }

func TestAMistakeAtRegistrationPanicsAndNamesThePlaces(t *testing.T) {
	t.Parallel()
	run := func(register func(*handoff.Router)) (said string) {
		b := newFixture(t, nil)
		defer func() { said = fmt.Sprint(recover()) }()
		register(b.Router)
		return ""
	}
	tests := []struct {
		name     string
		register func(*handoff.Router)
		says     []string
	}{
		{"empty kind", func(r *handoff.Router) { handoff.Handle(r, func(context.Context, emptyKind) error { return nil }) }, []string{`kind ""`, "router_test.go:"}},
		{"upper case", func(r *handoff.Router) { handoff.Handle(r, func(context.Context, upperKind) error { return nil }) }, []string{`kind "Welcome"`, "a-z0-9"}},
		{"second handler", func(r *handoff.Router) {
			handoff.Handle(r, func(context.Context, note) error { return nil })
			handoff.Handle(r, func(context.Context, *note) error { return nil })
		}, []string{`kind "note" has two handlers`, "router_test.go:", " and "}},
		{"alias of another", func(r *handoff.Router) {
			handoff.Handle(r, func(context.Context, note) error { return nil })
			handoff.Handle(r, func(context.Context, renamed) error { return nil })
		}, []string{`kind "note" has two handlers`}},
		{"interface", func(r *handoff.Router) {
			handoff.Handle(r, func(context.Context, handoff.Payload) error { return nil })
		}, []string{"is an interface"}},
	}
	for _, tt := range tests {
		said := run(tt.register)
		for _, want := range tt.says {
			if !strings.Contains(said, want) {
				t.Errorf("%s: panic %q does not say %q", tt.name, said, want)
			}
		}
	}
	if said := run(func(r *handoff.Router) {
		handoff.Handle(r, func(context.Context, namedPayload) error { return nil })
		handoff.Handle(r, func(context.Context, note) error { return nil })
	}); said != "<nil>" {
		t.Errorf("two good kinds: %s", said)
	}
}

func TestAliasesAndPointersAreServed(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	var kinds []string
	handoff.Handle(b.Router, func(ctx context.Context, p *renamed) error {
		kinds = append(kinds, handoff.InfoFromContext(ctx).Kind)
		return nil
	})
	for i, kind := range []string{"mail", "note", "letter"} {
		d := typed(fmt.Sprint(i), "x")
		d.kind = kind
		assert.Status(t, b.send(t, d), 200)
	}
	assert.Equal(t, kinds, []string{"mail", "note", "letter"})
}

// TestMountServesBelowAnyPrefix: the kind is the last segment of the path, with
// echo and without it.
func TestMountServesBelowAnyPrefix(t *testing.T) {
	t.Parallel()
	b := newFixture(t, nil)
	handoff.Handle(b.Router, func(context.Context, note) error { return nil })
	e := echo.New()
	b.Mount(e.Group("/internal/tasks"))
	req := typed("1", "x").request()
	req.URL.Path = "/internal/tasks/note"
	rec := httptest.NewRecorder()
	e.ServeHTTP(rec, req)
	assert.Status(t, rec.Code, 200)

	req = typed("2", "x").request()
	req.URL.Path = "/a/b/c/note"
	rec = httptest.NewRecorder()
	b.ServeHTTP(rec, req)
	assert.Status(t, rec.Code, 200)
}

func TestUnfencedRunsAgainAndCountsByTheService(t *testing.T) {
	t.Parallel()
	b := newFixture(t, func(c *handoff.RouterConfig) { c.Store, c.DangerouslyRunUnfenced = nil, true })
	var attempts []int
	handoff.Handle(b.Router, func(ctx context.Context, _ note) error {
		attempts = append(attempts, handoff.InfoFromContext(ctx).Attempt)
		return errBoom
	})
	d := typed("1", "x")
	assert.Status(t, b.send(t, d), 500)
	d.retries = 1
	assert.Status(t, b.send(t, d), 500)
	d.retries = 2
	assert.Status(t, b.send(t, d), 205)
	assert.Equal(t, attempts, []int{1, 2, 3})
}

// TestAVerifiersErrorBecomesAnOutcome: an error that wraps none of the package's
// errors is a refusal.
func TestAVerifiersErrorBecomesAnOutcome(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		status int
	}{
		{handoff.ErrUnauthenticated, 401},
		{fmt.Errorf("mine: %w", handoff.ErrForbidden), 403},
		{fmt.Errorf("mine: %w", handoff.ErrUnavailable), 503},
		{context.DeadlineExceeded, 503},
		{io.ErrUnexpectedEOF, 401},
	} {
		b := newFixture(t, func(c *handoff.RouterConfig) {
			c.DangerouslyAllowUnauthenticated, c.Verifier = false, failingVerifier{tt.err}
		})
		handoff.Handle(b.Router, func(context.Context, note) error {
			t.Error("the handler ran")
			return nil
		})
		assert.Status(t, b.send(t, typed("1", "x")), tt.status)
		assert.Status(t, b.send(t, task{}), tt.status) // before the headers are parsed
		assert.Equal(t, b.store.count("claim"), 0)
	}
}

func TestNoGoroutineBeforeTheFirstDelivery(t *testing.T) {
	assert.NoLeaks(t) // a router that has served nothing needs no Shutdown
	_, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true, DangerouslyRunUnfenced: true, Logger: slog.New(slog.DiscardHandler),
	})
	assert.NoError(t, err)
}
