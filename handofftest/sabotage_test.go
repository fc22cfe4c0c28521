package handofftest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/memstore"
)

// saboteurs break a good Store in one way each. The subtest that each names
// must fail: otherwise TestStore would pass a Store that loses work or runs it
// twice.
var saboteurs = map[string]struct {
	bites string
	store func(handoff.Store) handoff.Store
}{
	"always acquires":           {"busy", func(s handoff.Store) handoff.Store { return alwaysAcquires{s} }},
	"forgets who completed":     {"complete", func(s handoff.Store) handoff.Store { return completesForAll{s} }},
	"checks no owner":           {"wrong_owner", func(s handoff.Store) handoff.Store { return ownerless{s} }},
	"renews for its own time":   {"renew", func(s handoff.Store) handoff.Store { return renewsForAMinute{s} }},
	"renews what is lost":       {"lease_lost", func(s handoff.Store) handoff.Store { return renewsAll{s} }},
	"release forgets counters":  {"release_counted", func(s handoff.Store) handoff.Store { return forgetful{s} }},
	"counts every release":      {"release_uncounted", func(s handoff.Store) handoff.Store { return countsAll{s} }},
	"tokens stand still":        {"release_counted", func(s handoff.Store) handoff.Store { return sameToken{s} }},
	"repeats count":             {"claim_repeated", func(s handoff.Store) handoff.Store { return &countsRepeats{Store: s} }},
	"knows no crash":            {"lease_runs_out", func(s handoff.Store) handoff.Store { return crashless{s} }},
	"knows no generation":       {"generations", func(s handoff.Store) handoff.Store { return ageless{s} }},
	"windows never end":         {"window_end", func(s handoff.Store) handoff.Store { return endless{s} }},
	"loses notes":               {"burial_cut_short", func(s handoff.Store) handoff.Store { return noteless{s} }},
	"runs what is being buried": {"burial_cut_short", func(s handoff.Store) handoff.Store { return exhumes{s} }},
	"ignores contexts":          {"context_over", func(s handoff.Store) handoff.Store { return deaf{s} }},
	"mixes up keys":             {"hostile_strings", func(s handoff.Store) handoff.Store { return trims{s} }},
}

// TestSabotagedStore is run by TestStoreBites, in a process of its own.
func TestSabotagedStore(t *testing.T) {
	name := os.Getenv("HANDOFF_SABOTAGE")
	if name == "" {
		t.Skip("is to fail: TestStoreBites runs it")
	}
	handofftest.TestStore(t, func(*testing.T) handoff.Store { return saboteurs[name].store(memstore.New()) })
}

func TestStoreBites(t *testing.T) {
	t.Parallel()
	for name, saboteur := range saboteurs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSabotagedStore$/^"+saboteur.bites+"$", "-test.timeout=1m")
			cmd.Env = append(os.Environ(), "HANDOFF_SABOTAGE="+name)
			out, err := cmd.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); !failed {
				t.Fatalf("the store passes, or was not tested: %v\n%s", err, out)
			}
			if want := "--- FAIL: TestSabotagedStore/" + saboteur.bites + " "; !strings.Contains(string(out), want) {
				t.Fatalf("no %q in\n%s", want, out)
			}
		})
	}
}

type alwaysAcquires struct{ handoff.Store }

func (s alwaysAcquires) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	c, err := s.Store.Claim(ctx, l)
	if c.Status == handoff.ClaimBusy {
		c = handoff.Claim{Status: handoff.ClaimAcquired, Attempt: 1, Token: time.Now().UnixMicro(), First: time.Now()}
	}
	return c, err
}

type completesForAll struct{ handoff.Store }

func (s completesForAll) Complete(ctx context.Context, l handoff.Lease) error {
	err := s.Store.Complete(ctx, l)
	if errors.Is(err, handoff.ErrLeaseLost) {
		if c, _ := s.Claim(ctx, l); c.Status == handoff.ClaimDone {
			return nil
		}
	}
	return err
}

// ownerless takes the word of whoever calls for that of the first owner.
type ownerless struct{ handoff.Store }

func (s ownerless) Complete(ctx context.Context, l handoff.Lease) error {
	if l.Owner != "" {
		l.Owner = "owner"
	}
	return s.Store.Complete(ctx, l)
}

type renewsForAMinute struct{ handoff.Store }

func (s renewsForAMinute) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	leases = slices.Clone(leases)
	for i := range leases {
		leases[i].TTL = time.Minute
	}
	return s.Store.Renew(ctx, leases)
}

type renewsAll struct{ handoff.Store }

func (s renewsAll) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	held, err := s.Store.Renew(ctx, leases)
	for i := range held {
		held[i] = true
	}
	return held, err
}

type forgetful struct{ handoff.Store }

func (s forgetful) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	if err := s.Store.Release(ctx, l, counted); err != nil {
		return err
	}
	l.TTL, l.Window = 1, 1          // the record is gone by the next call
	_, err := s.Store.Claim(ctx, l) //nolint:staticcheck // the inner one, not its own
	return err
}

type countsAll struct{ handoff.Store }

func (s countsAll) Release(ctx context.Context, l handoff.Lease, _ bool) error {
	return s.Store.Release(ctx, l, true)
}

type sameToken struct{ handoff.Store }

func (s sameToken) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	c, err := s.Store.Claim(ctx, l)
	if c.Token != 0 {
		c.Token = 1
	}
	return c, err
}

type countsRepeats struct {
	handoff.Store
	claims atomic.Int64
}

func (s *countsRepeats) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	c, err := s.Store.Claim(ctx, l)
	if c.Status == handoff.ClaimAcquired {
		c.Attempt = int(s.claims.Add(1))
	}
	return c, err
}

type crashless struct{ handoff.Store }

func (s crashless) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	c, err := s.Store.Claim(ctx, l)
	c.Crashed = false
	return c, err
}

type ageless struct{ handoff.Store }

func (s ageless) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	l.Generation = min(l.Generation, 1)
	return s.Store.Claim(ctx, l)
}

type endless struct{ handoff.Store }

func (s endless) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	l.Window += time.Hour
	return s.Store.Claim(ctx, l)
}

type noteless struct{ handoff.Store }

func (s noteless) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	c, err := s.Store.Claim(ctx, l)
	c.Note = nil
	return c, err
}

type exhumes struct{ handoff.Store }

func (s exhumes) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	c, err := s.Store.Claim(ctx, l)
	if c.Status == handoff.ClaimBurying {
		c.Status = handoff.ClaimAcquired
	}
	return c, err
}

type deaf struct{ handoff.Store }

func (s deaf) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	return s.Store.Claim(context.WithoutCancel(ctx), l)
}

type trims struct{ handoff.Store }

func (s trims) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	l.Key = strings.TrimRight(l.Key, " ")
	return s.Store.Claim(ctx, l)
}
