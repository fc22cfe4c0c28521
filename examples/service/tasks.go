package main

import (
	"encoding/json"
	"time"

	"github.com/brillconsulting/handoff"
)

// Charge charges an order. All charges of an order are one piece of work, which is
// remembered for its TTL.
type Charge struct {
	Order string `json:"order"`
	Cents int64  `json:"cents"`
}

func (Charge) Kind() string             { return "charge" }
func (c Charge) IdempotencyKey() string { return c.Order }
func (Charge) Policy() handoff.Policy {
	return handoff.Policy{Queue: "payments", TTL: 30 * 24 * time.Hour, Retry: handoff.Retry{MaxAttempts: 5, MinBackoff: time.Second}}
}

// Mail is a mail to a customer. Its kind was renamed: tasks that wait, and producers
// that are not deployed yet, have the old name.
type Mail struct {
	To   string `json:"to"`
	Text string `json:"text"`
}

func (Mail) Kind() string           { return "mail" }
func (Mail) Aliases() []string      { return []string{"send-email"} }
func (Mail) Policy() handoff.Policy { return handoff.Policy{Queue: "mails"} }

// Nightly enqueues a Report for each tenant, and the Nightly of the next day.
type Nightly struct{}

func (Nightly) Kind() string           { return "nightly" }
func (Nightly) IdempotencyKey() string { return "nightly" } // one for each day, by handoff.Every
func (Nightly) Policy() handoff.Policy { return handoff.Policy{Queue: "reports"} }

// Report is the report of one tenant on one day.
type Report struct {
	Tenant string `json:"tenant"`
	Day    string `json:"day"`
}

func (Report) Kind() string             { return "report" }
func (r Report) IdempotencyKey() string { return r.Tenant + " " + r.Day }
func (Report) Policy() handoff.Policy   { return handoff.Policy{Queue: "reports"} }

// Thumbnail makes one small image. There are many, so what is remembered of each is
// forgotten after an hour or two.
type Thumbnail struct {
	Image string `json:"image"`
}

func (Thumbnail) Kind() string           { return "thumbnail" }
func (Thumbnail) Policy() handoff.Policy { return handoff.Policy{Queue: "images", TTL: time.Hour} }

// Webhook tells a customer's server of an event. While the server is down, retries go
// on for about twenty minutes.
type Webhook struct {
	URL   string          `json:"url"`
	Event json.RawMessage `json:"event"`
}

func (Webhook) Kind() string { return "webhook" }
func (Webhook) Policy() handoff.Policy {
	return handoff.Policy{Queue: "webhooks", Retry: handoff.Retry{MaxAttempts: 8, MinBackoff: 10 * time.Second}}
}

// Export writes all that a tenant has, which takes twelve minutes. The deadline of an
// attempt is ten unless the policy sets another.
type Export struct {
	Tenant string `json:"tenant"`
}

func (Export) Kind() string { return "export" }
func (Export) Policy() handoff.Policy {
	return handoff.Policy{Queue: "exports", Deadline: 15 * time.Minute}
}
