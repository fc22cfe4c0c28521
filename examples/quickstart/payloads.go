package main

import (
	"time"

	"github.com/brillconsulting/handoff"
)

const queue = "quickstart"

// quick is the policy of every payload here. Its retries come soon, so that the
// example ends soon.
var quick = handoff.Policy{Queue: queue, TTL: time.Hour, Retry: handoff.Retry{MaxAttempts: 5, MinBackoff: time.Second}}

// Welcome greets a user.
type Welcome struct {
	User string `json:"user"`
}

func (Welcome) Kind() string           { return "welcome" }
func (Welcome) Policy() handoff.Policy { return quick }

// Invoice is work that must happen once for each order.
type Invoice struct {
	Order string `json:"order"`
}

func (Invoice) Kind() string           { return "invoice" }
func (Invoice) Policy() handoff.Policy { return quick }

// Flaky fails some times before it succeeds.
type Flaky struct {
	Failures int `json:"failures"`
}

func (Flaky) Kind() string           { return "flaky" }
func (Flaky) Policy() handoff.Policy { return quick }

// Doomed can never succeed.
type Doomed struct {
	Reason string `json:"reason"`
}

func (Doomed) Kind() string           { return "doomed" }
func (Doomed) Policy() handoff.Policy { return quick }

// Thumbnail is one of many.
type Thumbnail struct {
	Image string `json:"image"`
}

func (Thumbnail) Kind() string           { return "thumbnail" }
func (Thumbnail) Policy() handoff.Policy { return quick }
