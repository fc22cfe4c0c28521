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

// kitShop is a shop with everything in the test's bubble.
func kitShop(t *testing.T) (*handofftest.Kit, *shop) {
	kit := handofftest.New(t, handofftest.Config{Callers: []string{crmAccount}})
	s := newShop(kit.Client, time.Minute)
	kit.Mount("PUT /crm/contacts/{id}", s.register(kit.Router, handoff.From(handofftest.Account), handoff.From(crmAccount)))
	return kit, s
}

// TestOrder: two clicks are one charge, and one mail ten minutes later.
func TestOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit, s := kitShop(t)
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
		kit, s := kitShop(t)
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
		kit, s := kitShop(t)
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
	kit, s := kitShop(t)
	send := func(method, path, body string) handoff.Outcome {
		request := handoff.Request{Method: method, URL: handofftest.Audience + path, ServiceAccount: crmAccount, Body: []byte(body)}
		if _, err := kit.Client.EnqueueRequest(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		ended, _ := kit.Step()
		return ended.Outcome
	}
	outcome := send(http.MethodPut, "/crm/contacts/42", `<contact mail="ada@example.com"/>`)
	if outcome != handoff.Done || !slices.Equal(s.books.of("contacts"), []string{"42 ada@example.com"}) {
		t.Errorf("%v, contacts %v", outcome, s.books.of("contacts"))
	}
	if outcome := send(http.MethodPost, "/tasks/charge", `{"order": "1001", "cents": 1}`); outcome != handoff.Forbidden {
		t.Errorf("a charge of the CRM: %v", outcome)
	}
}
