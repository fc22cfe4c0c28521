package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
)

// kitShop is a shop whose own account is ours, with everything in the test's bubble.
func kitShop(t *testing.T, ours string) (*handofftest.Kit, *shop) {
	kit := handofftest.New(t)
	s := newShop(kit.Client, time.Minute)
	kit.Mount("PUT /crm/contacts/{id}", s.register(kit.Router, handoff.From(ours), handoff.From(handofftest.Account)))
	return kit, s
}

// TestOrder: two clicks are one charge, and one mail ten minutes later.
func TestOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit, s := kitShop(t, handofftest.Account)
		for range 2 {
			w := httptest.NewRecorder()
			s.takeOrder(w, httptest.NewRequest(http.MethodPost, "/orders", strings.NewReader(`{"order": "1001", "cents": 4200, "mail": "ada"}`)))
			if w.Code != http.StatusAccepted {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		kit.DeliverTwice(5)
		began := time.Now()
		kit.Drain()
		if len(s.books.of("charges")) != 1 || len(s.books.of("mails")) != 1 || time.Since(began) < 10*time.Minute {
			t.Errorf("after %v: charges %v, mails %v", time.Since(began), s.books.of("charges"), s.books.of("mails"))
		}
	})
}

// TestNights: each tenant has one report a night, also if a night is scheduled twice.
func TestNights(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit, s := kitShop(t, handofftest.Account)
		for range 2 { // two instances start
			if err := s.schedule(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		for len(s.books.of("reports")) < 6 {
			kit.Step()
		}
		want := []string{"acme 2000-01-01", "globex 2000-01-01", "initech 2000-01-01", "acme 2000-01-02", "globex 2000-01-02", "initech 2000-01-02"}
		if got := s.books.of("reports"); !slices.Equal(got, want) {
			t.Errorf("reports %v", got)
		}
	})
}

// TestExport takes twelve minutes, in one attempt.
func TestExport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit, s := kitShop(t, handofftest.Account)
		if _, err := s.client.Enqueue(t.Context(), Export{Tenant: "acme"}); err != nil {
			t.Fatal(err)
		}
		ended := kit.Drain()
		if len(ended) != 1 || ended[0].Outcome != handoff.Done || ended[0].Ended.Sub(ended[0].Started) != 12*time.Minute || len(s.books.of("exports")) != 12 {
			t.Errorf("ended as %v, with %v", ended, s.books.of("exports"))
		}
	})
}

// TestContact: what the CRM enqueues has no kind, and a method and URL of its own. The
// CRM cannot charge.
func TestContact(t *testing.T) {
	t.Parallel()
	kit, s := kitShop(t, "shop@example.com") // the test is the CRM
	request := handoff.Request{
		Method: http.MethodPut, URL: handofftest.Audience + "/crm/contacts/42", ServiceAccount: handofftest.Account,
		Body: []byte(`<contact mail="ada@example.com"/>`),
	}
	if _, err := kit.Client.EnqueueRequest(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if kit.Drain(); !slices.Equal(s.books.of("contacts"), []string{"42 ada@example.com"}) {
		t.Errorf("contacts %v", s.books.of("contacts"))
	}
	_, err := kit.Client.Enqueue(t.Context(), Charge{Order: "1001", Cents: 1})
	if refused, _ := kit.Step(); err != nil || refused.Outcome != handoff.Forbidden {
		t.Errorf("a charge of the CRM: %v, %v", refused, err)
	}
}
