package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/brillconsulting/handoff"
)

// tick is how often tasks are made. Their number rises and falls over a minute,
// as traffic does over a day.
const tick = 100 * time.Millisecond

// produce enqueues tasks until ctx ends.
func produce(ctx context.Context, client *handoff.Client, url string) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	began := time.Now()
	for n := 0; ; n++ {
		if err := round(ctx, client, url, n, time.Since(began)); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// round enqueues the tasks of one tick.
func round(ctx context.Context, client *handoff.Client, url string, n int, since time.Duration) error {
	busy := 1 + 0.6*math.Sin(2*math.Pi*since.Minutes())
	var errs []error
	enqueue := func(p handoff.Payload, options ...handoff.Option) {
		_, err := client.Enqueue(ctx, p, options...)
		errs = append(errs, err)
	}
	for range poisson(1.2 * busy) {
		user := Welcome{User: fmt.Sprintf("user-%d", rand.IntN(100_000))}
		if rand.IntN(10) == 0 {
			enqueue(user, handoff.In(time.Duration(10+rand.IntN(170))*time.Second))
			continue
		}
		enqueue(user)
	}
	if n%40 == 10 { // an album was uploaded
		for i := range 30 {
			enqueue(Thumbnail{Photo: fmt.Sprintf("album-%d/%02d.jpg", n, i), Width: 400 + 80*i})
		}
	}
	for range poisson(0.35 * busy) {
		order := strconv.Itoa(1000 + rand.IntN(100_000))
		enqueue(Invoice{Order: order, Cents: 100 + rand.IntN(50_000)}, handoff.Key(order))
	}
	if n%3 == 0 {
		hooks := []string{"fine", "fine", "fine", "fine", "fine", "moved", "broken", "gone"}
		_, err := client.EnqueueRequest(ctx, handoff.Request{
			URL:    url + "/hooks/" + hooks[rand.IntN(len(hooks))],
			Header: http.Header{"Content-Type": {"application/json"}},
			Body:   []byte(`{"event":"order.paid"}`),
		}, handoff.OnQueue("webhooks"))
		errs = append(errs, err)
	}
	if n%50 == 0 {
		enqueue(Report{Month: time.Now().AddDate(0, -n/50, 0).Format("2006-01")})
	}
	return errors.Join(errs...)
}

// poisson returns a random number of events with this mean.
func poisson(mean float64) int {
	n, limit := 0, math.Exp(-mean)
	for p := rand.Float64(); p > limit; p *= rand.Float64() {
		n++
	}
	return n
}
