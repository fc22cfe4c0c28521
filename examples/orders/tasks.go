package main

import (
	"context"
	"errors"
	"log"
	"sync/atomic"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/labstack/echo/v4"
)

// policy is shared by all payloads of the shop.
var policy = handoff.Policy{Queue: "orders", TTL: 12 * time.Hour, Retry: handoff.Retry{MaxAttempts: 5, MinBackoff: time.Second}}

// Charge charges for an order. Its key makes that happen once, however often it
// is enqueued.
type Charge struct {
	Order string `json:"order"`
}

// Kind implements handoff.Payload.
func (Charge) Kind() string { return "charge" }

// Policy is shared by all payloads.
func (Charge) Policy() handoff.Policy { return policy }

// IdempotencyKey is the order's ID.
func (c Charge) IdempotencyKey() string { return c.Order }

// Ship hands a paid order to the carrier.
type Ship struct {
	Order string `json:"order"`
}

// Kind implements handoff.Payload.
func (Ship) Kind() string { return "ship" }

// Policy is shared by all payloads.
func (Ship) Policy() handoff.Policy { return policy }

// IdempotencyKey is the order's ID.
func (s Ship) IdempotencyKey() string { return s.Order }

// Receipt is the mail to the customer.
type Receipt struct {
	Order string `json:"order"`
}

// Kind implements handoff.Payload.
func (Receipt) Kind() string { return "receipt" }

// Policy is shared by all payloads.
func (Receipt) Policy() handoff.Policy { return policy }

// IdempotencyKey is the order's ID.
func (r Receipt) IdempotencyKey() string { return r.Order }

// shop is the service.
type shop struct {
	echo    *echo.Echo
	router  *handoff.Router
	client  *handoff.Client
	books   books
	outbox  *sqlstore.Outbox
	letters handoff.DeadLetterStore
	say     *log.Logger
	carrier atomic.Int32 // calls so far
}

// charge takes the money, enqueues what follows, and marks the task as done, in one
// commit: whatever dies when, each happens once.
func (s *shop) charge(ctx context.Context, c Charge) error {
	err := s.books.tasks.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
		if err := charge(ctx, tx, c.Order); err != nil {
			return err
		}
		if _, err := s.outbox.Enqueue(ctx, tx, Ship(c)); err != nil {
			return err
		}
		_, err := s.outbox.Enqueue(ctx, tx, Receipt(c))
		return err
	})
	if errors.Is(err, errDeclined) {
		return handoff.Permanent(err) // a retry would not help
	}
	if err != nil {
		return err
	}
	s.send(ctx)
	return nil
}

// send creates the tasks of the outbox before the response, as on Cloud Run, where the
// CPU stops after it. What fails stays in the outbox. A server would run
// Outbox.Run in a goroutine instead.
func (s *shop) send(ctx context.Context) {
	if _, err := s.outbox.Send(ctx); err != nil {
		s.say.Printf("  the outbox: %v", err)
	}
}

// ship calls the carrier, which fails the first time. Give a real carrier the
// order's ID as its idempotency key.
func (s *shop) ship(ctx context.Context, p Ship) error {
	if s.carrier.Add(1) == 1 {
		return errors.New("the carrier does not respond")
	}
	return s.books.shipped(ctx, p.Order)
}

// mail sends the receipt, unless the customer wants no mail.
func (s *shop) mail(ctx context.Context, r Receipt) error {
	o, err := s.books.order(ctx, r.Order)
	if err != nil {
		return err
	}
	if o.Customer == "Bob" {
		return handoff.Drop(errors.New("the customer wants no mail"))
	}
	return nil
}
