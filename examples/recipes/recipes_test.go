package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/examples/recipes"
	"github.com/brillconsulting/handoff/handofftest"
)

// responses is another company's API: it says when to come back, in both ways that
// HTTP has, and works then.
type responses struct{ n int }

func (r *responses) RoundTrip(*http.Request) (*http.Response, error) {
	r.n++
	resp := &http.Response{Status: "429 Too Many Requests", StatusCode: http.StatusTooManyRequests, Header: http.Header{}, Body: http.NoBody}
	switch r.n {
	case 1:
		resp.Header.Set("Retry-After", "3600")
	case 2:
		resp.Header.Set("Retry-After", time.Now().Add(2*time.Hour).UTC().Format(http.TimeFormat))
	default:
		resp.Status, resp.StatusCode = "200 OK", http.StatusOK
	}
	return resp, nil
}

// TestRetryAfter: the task comes back when the API says, in its next attempt.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit := handofftest.New(t)
		handoff.Handle(kit.Router, recipes.RunNotify(&http.Client{Transport: new(responses)}, "https://api.example.com"))
		began := time.Now()
		enqueue(t, kit, recipes.Notify{Order: "1001"})
		var got []string
		for _, r := range kit.Drain() {
			got = append(got, fmt.Sprint(r.Outcome, " attempt ", r.Info.Attempt))
		}
		if want := []string{"retried attempt 1", "retried attempt 2", "done attempt 3"}; !slices.Equal(got, want) || time.Since(began) != 3*time.Hour {
			t.Errorf("after %v: %q", time.Since(began), got)
		}
	})
}

// TestProgress: an attempt goes on where the one before was cut off.
func TestProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit := handofftest.New(t)
		var pages []int
		handoff.Handle(kit.Router, recipes.RunExport(func(_ context.Context, _ string, page int) (bool, error) {
			if page == 2 && !slices.Contains(pages, 2) {
				pages = append(pages, 2)
				return false, errors.New("cut off")
			}
			pages = append(pages, page)
			return page < 3, nil
		}))
		enqueue(t, kit, recipes.Export{Account: "acme"})
		kit.Drain()
		if !slices.Equal(pages, []int{0, 1, 2, 2, 3}) {
			t.Errorf("wrote pages %v", pages)
		}
	})
}

type report struct{ Tenant string }

func (report) Kind() string       { return "report" }
func (r report) TenantID() string { return r.Tenant }

// TestPerTenant: while a tenant's task runs, another of the same tenant is busy, and
// one of another tenant is not.
func TestPerTenant(t *testing.T) {
	t.Parallel()
	var router *handoff.Router
	during := make(map[string]handoff.Outcome)
	router, err := handoff.NewRouter(handoff.RouterConfig{Verifier: handofftest.Verifier(t), DangerouslyRunUnfenced: true})
	if err != nil {
		t.Fatal(err)
	}
	router.Use(recipes.PerTenant(1))
	handoff.Handle(router, func(_ context.Context, r report) error {
		if r.Tenant == "acme" {
			during["acme"] = handofftest.Deliver(t, router, report{"acme"}).Outcome
			during["other"] = handofftest.Deliver(t, router, report{"other"}).Outcome
		}
		return nil
	})
	for range 2 {
		if got := handofftest.Deliver(t, router, report{"acme"}); got.Outcome != handoff.Done {
			t.Errorf("the first ended as %v", got)
		}
		if during["acme"] != handoff.Busy || during["other"] != handoff.Done {
			t.Errorf("meanwhile %v", during)
		}
	}
}

type charge struct{ Order string }

func (charge) Kind() string             { return "charge" }
func (c charge) IdempotencyKey() string { return c.Order }

// TestKeys: an order is charged once, under its old name and its new one, also when
// it is enqueued again after weeks.
func TestKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit := handofftest.New(t)
		charged := 0
		handoff.Handle(kit.Router, func(context.Context, recipes.ChargeCard) error { charged++; return nil })
		enqueue(t, kit, recipes.ChargeCard{Order: "1001"})
		kit.Drain()
		enqueue(t, kit, charge{Order: "1001"}) // by a producer that was not deployed yet
		if ended := kit.Drain(); len(ended) != 1 || ended[0].Outcome != handoff.Duplicate {
			t.Errorf("under its old name: %v", ended)
		}
		time.Sleep(60 * 24 * time.Hour)
		enqueue(t, kit, recipes.ChargeCard{Order: "1001"})
		if ended := kit.Drain(); len(ended) != 1 || ended[0].Outcome != handoff.Duplicate {
			t.Errorf("after 60 days: %v", ended)
		}
		if charged != 1 {
			t.Errorf("charged %d times", charged)
		}
		time.Sleep(31 * 24 * time.Hour)
		enqueue(t, kit, recipes.ChargeCard{Order: "1001"})
		if kit.Drain(); charged != 2 { // the page says how long: it is then forgotten
			t.Errorf("charged %d times after 91 days", charged)
		}
	})
}

func TestIntegers(t *testing.T) {
	t.Parallel()
	kit := handofftest.New(t)
	const large = 9007199254740993
	handoff.Handle(kit.Router, func(_ context.Context, e recipes.Event) error {
		user, err := e.Fields.Int("user")
		if user != large || e.ID != large || err != nil {
			t.Errorf("got %d and %d, %v", user, e.ID, err)
		}
		return nil
	})
	enqueue(t, kit, recipes.Event{ID: large, Fields: recipes.Fields{"user": large}})
	if ended := kit.Drain(); len(ended) != 1 || ended[0].Outcome != handoff.Done {
		t.Errorf("ended as %v", ended)
	}
}

func enqueue(t *testing.T, kit *handofftest.Kit, p handoff.Payload) {
	t.Helper()
	if _, err := kit.Client.Enqueue(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}
