package handofftest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/memstore"
)

// saboteurs each break a good Store in one way, and name the subtest of TestStore
// that must then fail. If it passed, TestStore would pass a Store that loses work
// or runs it twice.
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
	"loses notes":               {"ending_cut_short", func(s handoff.Store) handoff.Store { return noteless{s} }},
	"runs what is ending":       {"ending_cut_short", func(s handoff.Store) handoff.Store { return exhumes{s} }},
	"done opens to a copy":      {"done_closes_every_generation", func(s handoff.Store) handoff.Store { return reopens{s} }},
	"refuses copies":            {"a_higher_generation_of_unfinished_work", func(s handoff.Store) handoff.Store { return &refusesCopies{Store: s} }},
	"opens nothing":             {"completion_opens_the_next_generation", func(s handoff.Store) handoff.Store { return closes{s} }},
	"opens with no attempts":    {"completion_opens_the_next_generation", func(s handoff.Store) handoff.Store { return startsAgain{s} }},
	"counts what is given back": {"completion_opens_the_next_generation", func(s handoff.Store) handoff.Store { return countsTheGivenBack{s} }},
	"death is final":            {"redrive", func(s handoff.Store) handoff.Store { return buriesForGood{s} }},
	"redrive is a generation":   {"redrive", func(s handoff.Store) handoff.Store { return rankless{s} }},
	"frees by any letter":       {"dead_until_its_letter_is_gone", func(s handoff.Store) handoff.Store { return freesByAny{s} }},
	"released owners may run":   {"a_released_claim_repeated", func(s handoff.Store) handoff.Store { return &runsTheReleased{Store: s} }},
	"ends for its own rank":     {"ending_and_generations", func(s handoff.Store) handoff.Store { return &endsItsOwn{Store: s} }},
	"ends once":                 {"end", func(s handoff.Store) handoff.Store { return &endsOnce{Store: s} }},
	"keeps for all":             {"keep", func(s handoff.Store) handoff.Store { return keepsForAll{s} }},
	"keeps no memo":             {"keep", func(s handoff.Store) handoff.Store { return memoless{s} }},
	"forgets memos at an end":   {"memo_outlives", func(s handoff.Store) handoff.Store { return endsMemos{s} }},
	"shows no letter":           {"show_key", func(s handoff.Store) handoff.Store { return secretive{s.(handoff.KeyStore)} }},
	"frees what is held":        {"free_key", func(s handoff.Store) handoff.Store { return freesHeld{s.(handoff.KeyStore)} }},
	"one history is wrong":      {"every_history", func(s handoff.Store) handoff.Store { return startsAgain{s} }},
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
			wantBite(t, "TestSabotagedStore", name, saboteur.bites)
		})
	}
}

// wantBite runs test with a saboteur in a process of its own, and requires that
// subtest fails.
func wantBite(t *testing.T, test, saboteur, subtest string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+test+"$/^"+subtest+"$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), "HANDOFF_SABOTAGE="+saboteur)
	out, err := cmd.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); !failed {
		t.Fatalf("the store passes, or was not tested: %v\n%s", err, out)
	}
	if want := "--- FAIL: " + test + "/" + subtest + " "; !strings.Contains(string(out), want) {
		t.Fatalf("no %q in\n%s", want, out)
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

// ownerless does not check the owner: every caller acts as the first owner.
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
	l.Owner, l.TTL, l.Window = "another", 1, 1 // the record is gone by the next call
	_, err := s.Store.Claim(ctx, l)            //nolint:staticcheck // the inner store's Claim
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
	if c.Status == handoff.ClaimEnding {
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

// reopens lets a higher generation begin afresh, even when the lower one is done.
type reopens struct{ handoff.Store }

func (s reopens) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	c, err := s.Store.Claim(ctx, l)
	if c.Status == handoff.ClaimDone && l.Generation > 1 {
		l.Key += "again"
		return s.Store.Claim(ctx, l)
	}
	return c, err
}

// refusesCopies accepts only the generation that claimed first.
type refusesCopies struct {
	handoff.Store

	mu    sync.Mutex
	ranks map[string]int
}

func (s *refusesCopies) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	s.mu.Lock()
	if s.ranks == nil {
		s.ranks = make(map[string]int)
	}
	first, known := s.ranks[l.Key]
	if !known {
		s.ranks[l.Key] = l.Generation
	}
	s.mu.Unlock()
	if known && l.Generation > first {
		return handoff.Claim{Status: handoff.ClaimDone}, nil
	}
	return s.Store.Claim(ctx, l)
}

type closes struct{ handoff.Store }

func (s closes) Complete(ctx context.Context, l handoff.Lease) error {
	l.Opens = handoff.OpensNothing
	return s.Store.Complete(ctx, l)
}

type startsAgain struct{ handoff.Store }

func (s startsAgain) Complete(ctx context.Context, l handoff.Lease) error {
	if l.Opens == handoff.OpensContinued {
		l.Opens = handoff.OpensNext
	}
	return s.Store.Complete(ctx, l)
}

type countsTheGivenBack struct{ handoff.Store }

func (s countsTheGivenBack) Complete(ctx context.Context, l handoff.Lease) error {
	if l.Opens == handoff.OpensUncounted {
		l.Opens = handoff.OpensContinued
	}
	return s.Store.Complete(ctx, l)
}

type buriesForGood struct{ handoff.Store }

func (s buriesForGood) Complete(ctx context.Context, l handoff.Lease) error {
	l.Letter = ""
	return s.Store.Complete(ctx, l)
}

// rankless treats a redrive as one more generation.
type rankless struct{ handoff.Store }

func (s rankless) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	l.Generation, l.Redrives = l.Generation+l.Redrives, 0
	return s.Store.Claim(ctx, l)
}

func (s rankless) Complete(ctx context.Context, l handoff.Lease) error {
	l.Generation, l.Redrives = l.Generation+l.Redrives, 0
	return s.Store.Complete(ctx, l)
}

type freesByAny struct{ handoff.Store }

func (s freesByAny) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	c, err := s.Store.Claim(ctx, l)
	if c.Status == handoff.ClaimDead && l.Freed != "" {
		l.Freed = c.Letter
		return s.Store.Claim(ctx, l)
	}
	return c, err
}

type runsTheReleased struct {
	handoff.Store

	released sync.Map
}

func (s *runsTheReleased) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	s.released.Store(l.Owner, true)
	return s.Store.Release(ctx, l, counted)
}

func (s *runsTheReleased) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	if _, ok := s.released.Load(l.Owner); ok {
		l.Owner += " again"
	}
	return s.Store.Claim(ctx, l)
}

// endsItsOwn lets only the generation that began an ending finish it.
type endsItsOwn struct {
	handoff.Store

	ends sync.Map
}

func (s *endsItsOwn) End(ctx context.Context, l handoff.Lease, note []byte) error {
	s.ends.Store(l.Key, l.Generation)
	return s.Store.End(ctx, l, note)
}

func (s *endsItsOwn) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	if g, ok := s.ends.Load(l.Key); ok && g != l.Generation {
		return handoff.Claim{Status: handoff.ClaimSuperseded}, nil
	}
	return s.Store.Claim(ctx, l)
}

// endsOnce keeps the first note and ignores later ones.
type endsOnce struct {
	handoff.Store

	ends sync.Map
}

func (s *endsOnce) End(ctx context.Context, l handoff.Lease, note []byte) error {
	if _, ended := s.ends.LoadOrStore(l.Key+l.Owner, true); ended {
		return nil
	}
	return s.Store.End(ctx, l, note)
}

type keepsForAll struct{ handoff.Store }

func (s keepsForAll) Keep(ctx context.Context, l handoff.Lease, memo []byte) error {
	if err := s.Store.Keep(ctx, l, memo); !errors.Is(err, handoff.ErrLeaseLost) {
		return err
	}
	return nil
}

type memoless struct{ handoff.Store }

func (s memoless) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	c, err := s.Store.Claim(ctx, l)
	c.Memo = nil
	return c, err
}

type endsMemos struct{ handoff.Store }

func (s endsMemos) End(ctx context.Context, l handoff.Lease, note []byte) error {
	if err := s.Keep(ctx, l, nil); err != nil {
		return err
	}
	return s.Store.End(ctx, l, note)
}

type secretive struct{ handoff.KeyStore }

func (s secretive) ShowKey(ctx context.Context, key string) (handoff.KeyRecord, error) {
	record, err := s.KeyStore.ShowKey(ctx, key)
	record.Letter = ""
	return record, err
}

type freesHeld struct{ handoff.KeyStore }

func (s freesHeld) FreeKey(ctx context.Context, key string) error {
	if err := s.KeyStore.FreeKey(ctx, key); !errors.Is(err, handoff.ErrKeyHeld) {
		return err
	}
	return nil
}
