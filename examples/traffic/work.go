package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/brillconsulting/handoff"
)

// Welcome is short work that nearly always succeeds.
type Welcome struct {
	User string `json:"user"`
}

// Kind implements handoff.Payload.
func (Welcome) Kind() string { return "welcome-email" }

// Policy keeps retries short enough to watch.
func (Welcome) Policy() handoff.Policy { return policy("emails") }

// Thumbnail is longer work that comes in bursts and waits for capacity.
type Thumbnail struct {
	Photo string `json:"photo"`
	Width int    `json:"width"`
}

// Kind implements handoff.Payload.
func (Thumbnail) Kind() string { return "thumbnail" }

// Policy names its queue.
func (Thumbnail) Policy() handoff.Policy { return policy("thumbnails") }

// Invoice is work that happens once for an order, on a slow queue.
type Invoice struct {
	Order string `json:"order"`
	Cents int    `json:"cents"`
}

// Kind implements handoff.Payload.
func (Invoice) Kind() string { return "invoice" }

// Policy names its queue.
func (Invoice) Policy() handoff.Policy { return policy("invoices") }

// Report is work in a paused queue.
type Report struct {
	Month string `json:"month"`
}

// Kind implements handoff.Payload.
func (Report) Kind() string { return "report" }

// Policy names its queue.
func (Report) Policy() handoff.Policy { return policy("reports") }

func policy(queue string) handoff.Policy {
	return handoff.Policy{Queue: queue, Retry: handoff.Retry{MaxAttempts: 4, MinBackoff: time.Second, MaxBackoff: 20 * time.Second}}
}

// handle registers a handler for each kind.
func handle(router *handoff.Router) {
	handoff.Handle(router, func(ctx context.Context, _ Welcome) error {
		work(ctx, 5, 60)
		switch chance := rand.Float64(); {
		case chance < 0.02:
			return handoff.Permanent(errors.New("550 5.1.1 no such user here"))
		case chance < 0.08:
			return errors.New("421 mail server too busy, try later")
		case chance < 0.10:
			return handoff.Drop(errors.New("unsubscribed"))
		}
		return nil
	})
	handoff.Handle(router, func(ctx context.Context, p Thumbnail) error {
		work(ctx, 80, 400)
		if p.Width > 2000 {
			return errors.New("decode: image too large for 512 MiB")
		}
		return nil
	})
	handoff.Handle(router, func(ctx context.Context, _ Invoice) error {
		work(ctx, 50, 300)
		switch chance := rand.Float64(); {
		case chance < 0.10:
			return errors.New("ledger: deadlock detected")
		case chance < 0.14:
			panic("invoice: index out of range [3] with length 3")
		}
		return nil
	})
	handoff.Handle(router, func(ctx context.Context, _ Report) error {
		work(ctx, 500, 2000)
		return nil
	})
}

// hook plays a third party's server, called by plain tasks.
func hook(c echo.Context) error {
	work(c.Request().Context(), 20, 200)
	switch c.Param("hook") {
	case "moved":
		return c.NoContent(http.StatusNotFound)
	case "broken":
		return c.NoContent(http.StatusBadGateway)
	case "gone":
		panic(http.ErrAbortHandler) // hangs up
	}
	return c.NoContent(http.StatusOK)
}

// work takes between least and most milliseconds.
func work(ctx context.Context, least, most int) {
	timer := time.NewTimer(time.Duration(least+rand.IntN(most-least)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
