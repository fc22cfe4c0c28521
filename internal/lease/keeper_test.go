package lease_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff/internal/lease"
)

// TestAnIncompleteAnswer: with one node of a Cluster out of reach, the leases of
// the others are kept, and its own are not lost before their time.
func TestAnIncompleteAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const ttl = 30 * time.Second
		lost := errors.New("lost")
		keeper := lease.New(lease.Config[string]{
			Renew: func(_ context.Context, leases []string) ([]bool, error) {
				kept := make([]bool, len(leases))
				for i, l := range leases {
					kept[i] = l == "reached"
				}
				return kept, errors.New("a node is down")
			},
			TTL: ttl, Lost: lost, Log: slog.New(slog.DiscardHandler),
		})
		defer keeper.Close()
		hold := func(name string) context.Context {
			ctx, cancel := context.WithCancelCause(context.Background())
			t.Cleanup(func() { cancel(nil) })
			h := &lease.Hold[string]{Lease: name}
			keeper.Claiming(h, cancel)
			keeper.Acquired(h)
			return ctx
		}
		reached, cutOff := hold("reached"), hold("cut off")
		time.Sleep(ttl * 2 / 3) // after the first renewals
		if err := context.Cause(cutOff); err != nil {
			t.Errorf("the lease of a node that did not answer was taken for lost: %v", err)
		}
		time.Sleep(ttl)
		if err := context.Cause(cutOff); !errors.Is(err, lost) {
			t.Errorf("a lease that was not renewed in time: got %v, want it given up", err)
		}
		if err := context.Cause(reached); err != nil {
			t.Errorf("a lease that was renewed beside a node that did not answer: %v", err)
		}
	})
}

// An interrupt ends claims and runs, those that come after it too, and leaves
// alone what settles.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keeper := lease.New(lease.Config[string]{
			Renew: func(_ context.Context, leases []string) ([]bool, error) { return make([]bool, len(leases)), nil },
			TTL:   30 * time.Second, Lost: errors.New("lost"), Log: slog.New(slog.DiscardHandler),
		})
		defer keeper.Close()
		claim := func() (*lease.Hold[string], context.Context) {
			ctx, cancel := context.WithCancelCause(context.Background())
			t.Cleanup(func() { cancel(nil) })
			h := new(lease.Hold[string])
			keeper.Claiming(h, cancel)
			return h, ctx
		}
		_, claiming := claim()
		running, run := claim()
		keeper.Acquired(running)
		ended, _ := claim()
		keeper.Acquired(ended)
		settling, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		keeper.Settling(ended, cancel)

		interrupted := errors.New("interrupted")
		keeper.Interrupt(interrupted)
		_, later := claim()
		for name, ctx := range map[string]context.Context{"a claim": claiming, "a run": run, "a later claim": later} {
			if err := context.Cause(ctx); !errors.Is(err, interrupted) {
				t.Errorf("%s: got %v, want it interrupted", name, err)
			}
		}
		if err := context.Cause(settling); err != nil {
			t.Errorf("what settles was ended: %v", err)
		}
	})
}
