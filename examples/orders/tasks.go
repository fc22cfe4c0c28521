package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/labstack/echo/v4"
)

// policy is that of every payload of the shop.
var policy = handoff.Policy{Queue: "orders", TTL: 12 * time.Hour, Retry: handoff.Retry{MaxAttempts: 5, MinBackoff: time.Second}}

// Charge takes an order's money. Its key makes it happen once for an order,
// however often it is enqueued.
type Charge struct {
	Order string `json:"order"`
}

// Kind names it.
func (Charge) Kind() string { return "charge" }

// Policy says how it behaves.
func (Charge) Policy() handoff.Policy { return policy }

// IdempotencyKey is the order.
func (c Charge) IdempotencyKey() string { return c.Order }

// Ship hands an order that is paid to the carrier.
type Ship struct {
	Order string `json:"order"`
}

// Kind names it.
func (Ship) Kind() string { return "ship" }

// Policy says how it behaves.
func (Ship) Policy() handoff.Policy { return policy }

// IdempotencyKey is the order.
func (s Ship) IdempotencyKey() string { return s.Order }

// Receipt tells the customer.
type Receipt struct {
	Order string `json:"order"`
}

// Kind names it.
func (Receipt) Kind() string { return "receipt" }

// Policy says how it behaves.
func (Receipt) Policy() handoff.Policy { return policy }

// IdempotencyKey is the order.
func (r Receipt) IdempotencyKey() string { return r.Order }

// shop is the service.
type shop struct {
	echo    *echo.Echo
	router  *handoff.Router
	client  *handoff.Client
	books   books
	letters handoff.DeadLetterStore
	carrier atomic.Int32 // calls so far
}

// charge is two steps, and each may be repeated: the books know an order that
// is paid, the keys know the tasks that exist. So a crash in between, or a
// create that fails, needs no more than to run charge again.
func (s *shop) charge(ctx context.Context, c Charge) error {
	err := s.books.charge(ctx, c.Order, handoff.InfoFromContext(ctx).FencingToken)
	if errors.Is(err, errDeclined) {
		return handoff.Permanent(err) // trying again brings no money: somebody must look at it
	}
	if err != nil {
		return err
	}
	if _, err := s.client.Enqueue(ctx, Ship(c)); err != nil {
		return err
	}
	_, err = s.client.Enqueue(ctx, Receipt(c))
	return err
}

// ship calls the carrier, which is away the first time. A real one would be
// given the order as its own idempotency key.
func (s *shop) ship(ctx context.Context, p Ship) error {
	if s.carrier.Add(1) == 1 {
		return errors.New("the carrier does not answer")
	}
	return s.books.shipped(ctx, p.Order)
}

// mail sends the receipt, unless the customer does not want any.
func (s *shop) mail(ctx context.Context, r Receipt) error {
	o, err := s.books.order(ctx, r.Order)
	if err != nil {
		return err
	}
	if o.Customer == "Bob" {
		return handoff.Drop(errors.New("no mail is wanted"))
	}
	return nil
}
