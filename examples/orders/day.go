package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"

	"github.com/brillconsulting/handoff/emulator"
)

// openingDay plays customers and an operator, and checks the result.
func openingDay(ctx context.Context, s *shop, tasks *emulator.Server, url string, say *log.Logger) error {
	web := &caller{url, new(http.Client), say}
	defer web.client.CloseIdleConnections()
	if err := errors.Join(s.books.deposit(ctx, "Ada", 5000), s.books.deposit(ctx, "Bob", 500)); err != nil {
		return err
	}
	err := errors.Join(
		web.call(ctx, http.MethodPut, "/orders/1001", order{Customer: "Ada", Cents: 1200}, nil),
		web.call(ctx, http.MethodPut, "/orders/1001", order{Customer: "Ada", Cents: 1200}, nil), // her browser does that
		web.call(ctx, http.MethodPut, "/orders/1002", order{Customer: "Bob", Cents: 900}, nil),
		web.call(ctx, http.MethodPut, "/orders/1003", order{Customer: "Ada", Cents: 800}, nil),
		tasks.Wait(ctx),
	)
	if err != nil {
		return err
	}

	// One task is dead. Its letter stays until an operator redrives it.
	var letters []dead
	if err := web.call(ctx, http.MethodGet, "/dead-letters", nil, &letters); err != nil {
		return err
	}
	for _, l := range letters {
		say.Printf("  dead: %s: %s", l.Kind, l.Why)
	}
	if err := s.books.deposit(ctx, "Bob", 1000); err != nil {
		return err
	}
	say.Println("Bob has been paid")
	for _, l := range letters {
		if err := web.call(ctx, http.MethodPost, "/dead-letters/"+l.ID+"/redrive", nil, nil); err != nil {
			return err
		}
	}
	if err := tasks.Wait(ctx); err != nil {
		return err
	}
	return closeBooks(ctx, s.books, web)
}

// closeBooks fails unless every order was charged once and shipped.
func closeBooks(ctx context.Context, b books, web *caller) error {
	for _, id := range []string{"1001", "1002", "1003"} {
		var o order
		if err := web.call(ctx, http.MethodGet, "/orders/"+id, nil, &o); err != nil {
			return err
		}
		web.say.Printf("  order %s of %s over %d cents: %s", o.ID, o.Customer, o.Cents, o.State)
		if o.State != "shipped" {
			return fmt.Errorf("orders: %s is %s, not shipped", o.ID, o.State)
		}
	}
	for _, want := range []struct {
		customer string
		cents    int
	}{{"Ada", 5000 - 1200 - 800}, {"Bob", 500 + 1000 - 900}} {
		cents, err := b.balance(ctx, want.customer)
		if err != nil {
			return err
		}
		web.say.Printf("  %s has %d cents left", want.customer, cents)
		if cents != want.cents {
			return fmt.Errorf("orders: %s has %d cents, not %d: somebody was charged twice, or not at all", want.customer, cents, want.cents)
		}
	}
	return nil
}

// caller is an HTTP client of the shop.
type caller struct {
	url    string
	client *http.Client
	say    *log.Logger
}

// call sends in as JSON and decodes the response into out. Both may be nil.
func (w *caller) call(ctx context.Context, method, path string, in, out any) error {
	body := new(bytes.Buffer)
	if in != nil {
		if err := json.NewEncoder(body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, w.url+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	w.say.Printf("%s %s: %s", method, path, resp.Status)
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("orders: %s %s: %s", method, path, resp.Status)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
