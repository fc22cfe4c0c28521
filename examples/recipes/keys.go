package recipes

import (
	"time"

	"github.com/brillconsulting/handoff"
)

// ChargeCard charges an order. It was called "charge" once.
type ChargeCard struct{ Order string }

// Kind implements handoff.Payload.
func (ChargeCard) Kind() string { return "charge-card" }

// Aliases are the kinds that it had before, the oldest last. They are served too,
// and a key is one piece of work under all of them.
func (ChargeCard) Aliases() []string { return []string{"charge"} }

// IdempotencyKey makes all tasks for one order one piece of work, as handoff.Key
// does for a single call.
func (c ChargeCard) IdempotencyKey() string { return c.Order }

// Policy has a TTL of 90 days. A charge is remembered for that long and an hour, and
// for a day with the default of 24 hours.
func (ChargeCard) Policy() handoff.Policy {
	return handoff.Policy{Queue: "payments", TTL: 90 * 24 * time.Hour}
}
