package handofftest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
)

// TestStore tests that a [handoff.Store] keeps the contract that the router relies
// on. It calls newStore once for each subtest, and runs the subtests one at a
// time. The stores may share a server, as long as each starts empty.
//
// Some subtests wait until about 50 ms have passed by the store's clock. If that
// clock does not advance by itself, let newStore return a store with this method.
// TestStore then calls it instead of waiting:
//
//	Advance(d time.Duration) // moves the store's clock forward by d
//
// One subtest makes every possible call in every state that up to three calls by
// four owners can lead to, and compares the results with a model of the contract.
// The environment variable HANDOFF_HISTORY_DEPTH changes the three. Each further
// call makes the subtest take two to three times as long.
//
// TestStore does not test crashes, failovers or lost connections. Their tests are
// left to the store's own package.
func TestStore(t *testing.T, newStore func(t *testing.T) handoff.Store) {
	t.Helper()
	for _, sub := range storeTests {
		t.Run(sub.name, func(t *testing.T) {
			sub.run(&storeTest{T: t, store: newStore(t)})
		})
	}
}

var storeTests = []struct {
	name string
	run  func(*storeTest)
}{
	{"first claim", firstClaim},
	{"busy", busy},
	{"lease runs out", leaseRunsOut},
	{"claim repeated", claimRepeated},
	{"concurrent claims", concurrentClaims},
	{"many keys at once", manyKeys},
	{"complete", complete},
	{"release counted", releaseCounted},
	{"release uncounted", releaseUncounted},
	{"release keeps a crash in mind", releaseKeepsCrash},
	{"renew", renew},
	{"lease lost", leaseLost},
	{"wrong owner", wrongOwner},
	{"generations", generations},
	{"generation while leased", generationWhileLeased},
	{"window end", windowEnd},
	{"window slides", windowSlides},
	{"a released claim repeated", releasedClaimRepeated},
	{"done closes every generation", doneCloses},
	{"a higher generation of unfinished work", unfinishedSuperseded},
	{"completion opens the next generation", opens},
	{"redrive", redrive},
	{"dead until its letter is gone", deadUntilFreed},
	{"end", end},
	{"ending cut short", endingCutShort},
	{"ending released", endingReleased},
	{"ending and generations", endingAndGenerations},
	{"keep", keep},
	{"memo outlives", memoOutlives},
	{"every history", everyHistory},
	{"show key", showKey},
	{"free key", freeKey},
	{"context over", contextOver},
	{"bad lease", badLease},
	{"longest lease", longestLease},
	{"hostile strings", hostileStrings},
}

const (
	leaseTTL    = time.Minute
	leaseWindow = time.Hour
	brief       = 50 * time.Millisecond // of a lease that expires during the test
	grain       = 5 * time.Millisecond  // a store may round times up to milliseconds
	expiryWait  = 20 * time.Second      // how long pass waits for a lease to expire
)

// storeTest is a subtest of TestStore.
type storeTest struct {
	*testing.T
	store handoff.Store
}

func lease(key, owner string) handoff.Lease {
	return handoff.Lease{Key: key, Owner: owner, TTL: leaseTTL, Window: leaseWindow}
}

func lasting(l handoff.Lease, ttl time.Duration) handoff.Lease { l.TTL = ttl; return l }
func of(generation int, l handoff.Lease) handoff.Lease         { l.Generation = generation; return l }
func redriven(times int, l handoff.Lease) handoff.Lease        { l.Redrives = times; return l }
func opening(o handoff.Opening, l handoff.Lease) handoff.Lease { l.Opens = o; return l }
func dying(letter string, l handoff.Lease) handoff.Lease       { l.Letter = letter; return l }
func freed(letter string, l handoff.Lease) handoff.Lease       { l.Freed = letter; return l }

func (t *storeTest) claim(l handoff.Lease) handoff.Claim {
	t.Helper()
	c, err := t.store.Claim(t.Context(), l)
	t.must("claim", err)
	return c
}

func (t *storeTest) acquire(l handoff.Lease) handoff.Claim {
	t.Helper()
	c := t.claim(l)
	t.wantStatus(fmt.Sprintf("the claim of %.20q by %.20q", l.Key, l.Owner), c, handoff.ClaimAcquired)
	return c
}

// renewOne calls Renew with one lease. Like the other methods, it returns
// ErrLeaseLost if the lease is not held.
func (t *storeTest) renewOne(l handoff.Lease) error {
	return renewOne(t.Context(), t.store, l)
}

func renewOne(ctx context.Context, store handoff.Store, l handoff.Lease) error {
	held, err := store.Renew(ctx, []handoff.Lease{l})
	switch {
	case err != nil:
		return err
	case len(held) != 1:
		return fmt.Errorf("Renew of one lease returned %d results", len(held))
	case !held[0]:
		return handoff.ErrLeaseLost
	}
	return nil
}

// calls returns the methods of the store by name, all with the same signature.
func (t *storeTest) calls(ctx context.Context) map[string]func(handoff.Lease) error {
	return map[string]func(handoff.Lease) error{
		"claim":    func(l handoff.Lease) error { _, err := t.store.Claim(ctx, l); return err },
		"renew":    func(l handoff.Lease) error { return renewOne(ctx, t.store, l) },
		"complete": func(l handoff.Lease) error { return t.store.Complete(ctx, l) },
		"release":  func(l handoff.Lease) error { return t.store.Release(ctx, l, true) },
		"keep":     func(l handoff.Lease) error { return t.store.Keep(ctx, l, []byte("memo")) },
		"end":      func(l handoff.Lease) error { return t.store.End(ctx, l, []byte("note")) },
	}
}

// pass returns when d has passed by the store's clock. It finds out by waiting
// until a lease of that length has expired.
func (t *storeTest) pass(d time.Duration) {
	t.Helper()
	d += grain
	if store, ok := t.store.(interface{ Advance(time.Duration) }); ok {
		store.Advance(d)
		return
	}
	probe := fmt.Sprintf("clock %d", time.Now().UnixNano())
	t.acquire(lasting(lease(probe, "a"), d))
	end := time.Now().Add(expiryWait)
	for t.claim(lease(probe, "b")).Status == handoff.ClaimBusy {
		if time.Now().After(end) {
			t.Fatalf("a lease of %v has not expired after %v: a store whose clock does not advance by itself needs a method Advance(time.Duration)", d, expiryWait)
		}
		time.Sleep(time.Millisecond)
	}
}

// together runs call n times concurrently.
func (t *storeTest) together(n int, call func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	start := make(chan struct{})
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			<-start
			errs[i] = call(i)
		})
	}
	close(start)
	calls.Wait()
	t.must("concurrent calls", errors.Join(errs...))
}

func (t *storeTest) must(what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: got error %v, want none", what, err)
	}
}

func (t *storeTest) want(what string, got, want any) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func (t *storeTest) wantTime(what string, got, want time.Time) {
	t.Helper()
	if !got.Equal(want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func (t *storeTest) wantStatus(what string, got handoff.Claim, want handoff.ClaimStatus) {
	t.Helper()
	if got.Status != want {
		t.Fatalf("%s: got %s, want %s", what, statusName(got.Status), statusName(want))
	}
}

func statusName(s handoff.ClaimStatus) string {
	switch s {
	case handoff.ClaimAcquired:
		return "acquired"
	case handoff.ClaimBusy:
		return "busy"
	case handoff.ClaimDone:
		return "done"
	case handoff.ClaimSuperseded:
		return "superseded"
	case handoff.ClaimEnding:
		return "ending"
	case handoff.ClaimDead:
		return "dead"
	}
	return fmt.Sprintf("status %d", s)
}

func (t *storeTest) wantClaim(what string, got, want handoff.Claim) {
	t.Helper()
	if !got.First.Equal(want.First) || !bytes.Equal(got.Note, want.Note) || !bytes.Equal(got.Memo, want.Memo) || got.Status != want.Status ||
		got.Attempt != want.Attempt || got.Token != want.Token || got.Crashed != want.Crashed {
		t.Fatalf("%s: got %+v, want the first claim's result, %+v", what, got, want)
	}
}

func (t *storeTest) wantGrown(before, after handoff.Claim) {
	t.Helper()
	if after.Token <= before.Token {
		t.Fatalf("the fencing token went from %d to %d, want it to grow", before.Token, after.Token)
	}
}

func (t *storeTest) wantLost(what string, err error) {
	t.Helper()
	if !errors.Is(err, handoff.ErrLeaseLost) {
		t.Fatalf("%s: got %v, want ErrLeaseLost", what, err)
	}
}

func (t *storeTest) wantNotHeld(key, owner string) {
	t.Helper()
	t.wantLost(fmt.Sprintf("renew of %q by %q", key, owner), t.renewOne(lease(key, owner)))
}

// wantAllLost requires that every call by an owner without the lease returns
// ErrLeaseLost.
func (t *storeTest) wantAllLost(key, owner string) {
	t.Helper()
	t.wantNotHeld(key, owner)
	for what, err := range map[string]error{
		"complete":          t.store.Complete(t.Context(), lease(key, owner)),
		"release counted":   t.store.Release(t.Context(), lease(key, owner), true),
		"release uncounted": t.store.Release(t.Context(), lease(key, owner), false),
		"complete opening":  t.store.Complete(t.Context(), opening(handoff.OpensNext, lease(key, owner))),
		"complete as dead":  t.store.Complete(t.Context(), dying("wrong", lease(key, owner))),
		"keep":              t.store.Keep(t.Context(), lease(key, owner), []byte("wrong")),
		"end":               t.store.End(t.Context(), lease(key, owner), []byte("wrong")),
	} {
		t.wantLost(fmt.Sprintf("%s of %q by %q", what, key, owner), err)
	}
}

// wantUntouched requires that refused calls changed nothing: owner "a" still
// holds key "held", and key "new" is unclaimed.
func (t *storeTest) wantUntouched() {
	t.Helper()
	c := t.claim(lease("held", "z"))
	t.wantStatus("a claim of a key that was held throughout", c, handoff.ClaimBusy)
	if c.Left > leaseTTL {
		t.Fatalf("a refused call renewed the lease: %v are left", c.Left)
	}
	t.must("release", t.store.Release(t.Context(), lease("held", "a"), true))
	t.want("Attempt of the key that was held", t.acquire(lease("held", "z")).Attempt, 2)
	c = t.acquire(lease("new", "z"))
	t.want("Attempt of the key that was not claimed", c.Attempt, 1)
	t.want("Crashed of the key that was not claimed", c.Crashed, false)
}
