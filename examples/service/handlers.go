package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/steps"
)

// shop handles the tasks.
type shop struct {
	client *handoff.Client
	books  *books
	http   *http.Client
	page   time.Duration // how long a twelfth of an export takes
}

// register registers the handler of each kind for the account that may deliver it: the
// CRM must not charge cards. It returns the handler of the CRM's tasks.
func (s *shop) register(router *handoff.Router, ours, theirs handoff.HandleOption) (contacts http.Handler) {
	handoff.Handle(router, s.charge, ours)
	handoff.Handle(router, s.nightly, ours)
	handoff.Handle(router, s.webhook, ours)
	handoff.Handle(router, s.export, ours)
	handoff.Handle(router, func(_ context.Context, m Mail) error { return s.books.add("mails", m.Text+", "+m.To) }, ours)
	handoff.Handle(router, func(_ context.Context, r Report) error { return s.books.add("reports", r.Tenant+" "+r.Day) }, ours)
	handoff.Handle(router, func(_ context.Context, t Thumbnail) error { return s.books.add("thumbnails", t.Image) }, ours)
	return router.Raw("contact-changed", s.contactChanged, theirs)
}

// charge passes the fencing token on, so that a worker that stalled cannot charge
// after another one has. A declined card is a dead letter, for somebody to look at.
func (s *shop) charge(ctx context.Context, c Charge) error {
	err := s.books.charge(c, handoff.InfoFromContext(ctx).FencingToken)
	if errors.Is(err, errDeclined) {
		return handoff.Permanent(err)
	}
	return err
}

// nightly enqueues the report of each tenant, and itself for the next night.
func (s *shop) nightly(ctx context.Context, _ Nightly) error {
	due := handoff.InfoFromContext(ctx).ScheduledAt.UTC()
	for _, tenant := range tenants {
		if _, err := s.client.Enqueue(ctx, Report{Tenant: tenant, Day: due.Format(time.DateOnly)}); err != nil {
			return err // the next attempt enqueues them all again: each is one piece of work
		}
	}
	return s.schedule(ctx, due)
}

// schedule enqueues the first Nightly after a time: at two o'clock, UTC.
func (s *shop) schedule(ctx context.Context, after time.Time) error {
	night := after.UTC().Truncate(24 * time.Hour).Add(2 * time.Hour)
	if !night.After(after) {
		night = night.Add(24 * time.Hour)
	}
	_, err := s.client.Enqueue(ctx, Nightly{}, handoff.At(night), handoff.Every(24*time.Hour))
	return err
}

// webhook posts the event. If the server sends Retry-After, it is retried then.
func (s *shop) webhook(ctx context.Context, w Webhook) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(w.Event))
	if err != nil {
		return handoff.Permanent(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", handoff.InfoFromContext(ctx).ID) // the same in every attempt
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 300 {
		return s.books.add("webhooks", string(w.Event))
	}
	err = fmt.Errorf("webhook: %s", resp.Status)
	if seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")); seconds > 0 {
		return handoff.RetryIn(err, time.Duration(seconds)*time.Second)
	}
	return err
}

// export saves how far it has got, so that the next attempt goes on from there.
func (s *shop) export(ctx context.Context, e Export) error {
	return steps.Each(ctx, "pages", func(ctx context.Context, c *steps.Cursor[int]) error {
		for page := c.At() + 1; page <= 12; page++ {
			select {
			case <-time.After(s.page):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := s.books.add("exports", fmt.Sprint(e.Tenant, " ", page)); err != nil {
				return err
			}
			if err := c.Save(ctx, page); err != nil {
				return err // such as that of a shutdown: the work continues in a new task
			}
		}
		return nil
	})
}

// contactChanged handles a task of the CRM, in the CRM's own format.
func (s *shop) contactChanged(_ context.Context, req *http.Request) error {
	var contact struct {
		Mail string `xml:"mail,attr"`
	}
	if err := xml.NewDecoder(req.Body).Decode(&contact); err != nil {
		return handoff.Permanent(fmt.Errorf("contact: %w", err))
	}
	return s.books.add("contacts", req.PathValue("id")+" "+contact.Mail)
}
