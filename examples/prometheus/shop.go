package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/middleware"
)

const (
	location = "projects/shop/locations/europe-west1"
	account  = "tasks@shop.iam.gserviceaccount.com"
	origin   = "https://worker.example.com"
)

// Order is a task that mostly succeeds: one in five fails at first, one in
// twenty always.
type Order struct {
	Luck int `json:"luck"` // 0 to 99
}

// Kind implements handoff.Payload.
func (Order) Kind() string { return "order" }

// Policy sets its queue, TTL and retries.
func (Order) Policy() handoff.Policy {
	return handoff.Policy{Queue: "orders", TTL: time.Hour, Retry: handoff.Retry{MaxAttempts: 3}}
}

func ship(ctx context.Context, o Order) error {
	switch first := handoff.InfoFromContext(ctx).Attempt == 1; {
	case o.Luck < 5:
		return handoff.Permanent(errors.New("no such article"))
	case o.Luck < 25 && first:
		return errors.New("the warehouse does not respond")
	}
	time.Sleep(time.Duration(o.Luck) * time.Millisecond)
	return nil
}

// shop is a worker, a producer and Cloud Tasks in one process.
type shop struct {
	tasks  *emulator.Server
	client *handoff.Client
	router *handoff.Router
	closer []func()
}

func open(ctx context.Context, instrument middleware.InstrumentFunc, observer handoff.Observer) (*shop, error) {
	s := new(shop)
	if err := s.open(ctx, instrument, observer); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *shop) open(ctx context.Context, instrument middleware.InstrumentFunc, observer handoff.Observer) (err error) {
	if s.tasks, err = emulator.New(emulator.Config{}); err != nil {
		return err
	}
	s.closer = append(s.closer, s.tasks.Close)
	if _, err = cloudtaskspb.NewCloudTasksClient(s.tasks.Conn()).CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{
		Parent: location, Queue: &cloudtaskspb.Queue{Name: location + "/queues/orders"},
	}); err != nil {
		return err
	}
	s.client, err = handoff.NewClient(ctx, handoff.ClientConfig{
		Project:    "shop",
		Location:   "europe-west1",
		Target:     handoff.HTTPTarget{URL: origin + "/tasks", ServiceAccount: account},
		Options:    s.tasks.ClientOptions(),
		Instrument: instrument,
	})
	if err != nil {
		return err
	}
	s.closer = append(s.closer, closing(s.client))
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{origin},
		Callers:   []string{account},
		Keys:      handoff.StaticKeys(s.tasks.JWKS()),
	})
	if err != nil {
		return err
	}
	s.router, err = handoff.NewRouter(handoff.RouterConfig{
		Verifier:    verifier,
		Store:       memstore.New(),
		DeadLetters: memstore.NewDeadLetters(),
		Observers:   []handoff.Observer{observer},
		Logger:      slog.New(slog.DiscardHandler), // this example is about metrics
	})
	if err != nil {
		return err
	}
	s.closer = append(s.closer, func() { _ = s.router.Shutdown(context.WithoutCancel(ctx)) })
	handoff.Handle(s.router, ship)
	return nil
}

func closing(c io.Closer) func() { return func() { _ = c.Close() } }

func (s *shop) close() {
	for _, fn := range slices.Backward(s.closer) {
		fn()
	}
}

// trade enqueues ten orders a second until ctx ends.
func (s *shop) trade(ctx context.Context) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if _, err := s.client.Enqueue(ctx, Order{Luck: rand.IntN(100)}); err != nil && ctx.Err() == nil {
			return err
		}
	}
}
