package main

import (
	"context"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

// TestEveryOutcome shows that every outcome occurs within ten seconds.
func TestEveryOutcome(t *testing.T) {
	t.Parallel()
	srv := emulator.RunT(t, emulator.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, config{emulator: srv.GRPCAddr(), keys: "http://" + srv.HTTPAddr() + "/oauth2/v3/certs"})
	}()
	seen := func() bool {
		var sum emulator.Second
		for _, q := range srv.Queues() {
			a, _ := srv.Activity(q.GetName())
			for _, s := range a.Seconds {
				sum.Succeeded += s.Succeeded
				sum.Refused += s.Refused
				sum.Failed += s.Failed
				sum.Unanswered += s.Unanswered
			}
		}
		return sum.Succeeded > 20 && sum.Refused > 0 && sum.Failed > 0 && sum.Unanswered > 0 && len(srv.Tasks("reports")) > 0
	}
	assert.Eventually(t, time.Minute, seen, "every outcome")
	cancel()
	assert.NoError(t, <-ended)
}
