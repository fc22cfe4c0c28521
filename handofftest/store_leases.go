package handofftest

import (
	"errors"
	"fmt"
	"time"

	"github.com/brillconsulting/handoff"
)

func firstClaim(t *storeTest) {
	c := t.acquire(lease("k", "a"))
	t.want("the first claim's Attempt", c.Attempt, 1)
	t.want("the first claim's Crashed", c.Crashed, false)
	if c.Token <= 0 {
		t.Fatalf("the first claim's Token is %d, want more than 0", c.Token)
	}
	if c.First.IsZero() || !c.First.Equal(c.First.Truncate(time.Microsecond)) {
		t.Fatalf("the first claim's First is %v, want a time in whole microseconds", c.First)
	}
}

func busy(t *storeTest) {
	t.acquire(lease("k", "a"))
	c := t.claim(lease("k", "b"))
	t.wantStatus("a claim of a leased key", c, handoff.ClaimBusy)
	if c.Left <= 0 || c.Left > leaseTTL {
		t.Fatalf("Left is %v, want more than 0 and at most %v", c.Left, leaseTTL)
	}
}

func leaseRunsOut(t *storeTest) {
	first := t.acquire(lasting(lease("k", "a"), brief))
	t.pass(brief)
	second := t.acquire(lasting(lease("k", "b"), brief))
	t.want("Crashed after a lease ran out", second.Crashed, true)
	t.want("Attempt after a lease ran out", second.Attempt, 2)
	t.wantTime("First of the second attempt", second.First, first.First)
	t.wantGrown(first, second)
	t.pass(brief)
	third := t.acquire(lease("k", "c"))
	t.want("Crashed after two leases ran out", third.Crashed, true)
	t.want("Attempt after two leases ran out", third.Attempt, 3)
	t.wantGrown(second, third)
}

func claimRepeated(t *storeTest) {
	t.acquire(lasting(lease("k", "a"), brief))
	t.pass(brief)
	first := t.acquire(lease("k", "b"))
	for range 3 {
		t.wantClaim("a claim repeated by its owner", t.claim(lasting(lease("k", "b"), 2*leaseTTL)), first)
	}
	if left := t.claim(lease("k", "c")).Left; left <= leaseTTL {
		t.Fatalf("a repeated claim did not renew the lease: %v are left, want over %v", left, leaseTTL)
	}
	t.must("release", t.store.Release(t.Context(), lease("k", "b"), true))
	t.want("Attempt after a repeated claim", t.acquire(lease("k", "d")).Attempt, first.Attempt+1)
}

func concurrentClaims(t *storeTest) {
	const owners, rounds = 32, 4
	var last handoff.Claim
	for round := range rounds {
		claims := make([]handoff.Claim, owners)
		t.together(owners, func(i int) error {
			var err error
			claims[i], err = t.store.Claim(t.Context(), lease("k", fmt.Sprint(round, i)))
			return err
		})
		winner := -1
		for i, c := range claims {
			switch {
			case c.Status == handoff.ClaimAcquired && winner >= 0:
				t.Fatalf("round %d: both owner %d and owner %d acquired the key", round, winner, i)
			case c.Status == handoff.ClaimAcquired:
				winner = i
			default:
				t.wantStatus("the claim of an owner that came second", c, handoff.ClaimBusy)
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: no owner acquired the key", round)
		}
		t.want("Attempt", claims[winner].Attempt, round+1)
		t.wantGrown(last, claims[winner])
		last = claims[winner]
		t.must("release", t.store.Release(t.Context(), lease("k", fmt.Sprint(round, winner)), true))
	}
}

func manyKeys(t *storeTest) {
	const keys = 200
	claims := make([]handoff.Claim, keys)
	t.together(keys, func(i int) error {
		l := lease(fmt.Sprint("k", i), fmt.Sprint("owner", i))
		var err error
		if claims[i], err = t.store.Claim(t.Context(), l); err != nil {
			return err
		}
		if i%2 == 0 {
			return t.store.Complete(t.Context(), l)
		}
		return t.store.Release(t.Context(), l, true)
	})
	for i, c := range claims {
		t.want(fmt.Sprintf("status of the claim of key %d", i), c.Status, handoff.ClaimAcquired)
		again := t.claim(lease(fmt.Sprint("k", i), "again"))
		if i%2 == 0 {
			t.wantStatus("a claim of a completed key", again, handoff.ClaimDone)
		} else {
			t.want("Attempt of a released key", again.Attempt, 2)
		}
	}
}

func complete(t *storeTest) {
	t.acquire(lease("k", "a"))
	for range 3 {
		t.must("complete by the owner, and its repeats", t.store.Complete(t.Context(), lease("k", "a")))
	}
	t.wantStatus("a claim after completion", t.claim(lease("k", "b")), handoff.ClaimDone)
	t.wantStatus("the owner's own claim after completion", t.claim(lease("k", "a")), handoff.ClaimDone)
	t.wantNotHeld("k", "a")
	t.wantLost("complete of a key that another owner completed", t.store.Complete(t.Context(), lease("k", "b")))
	t.wantLost("release after completion", t.store.Release(t.Context(), lease("k", "a"), true))
	t.wantLost("end after completion", t.store.End(t.Context(), lease("k", "a"), nil))
	t.wantStatus("a claim after completion", t.claim(lease("k", "c")), handoff.ClaimDone)
}

func releaseCounted(t *storeTest) {
	first := t.acquire(lease("k", "a"))
	for range 3 {
		t.must("release by the owner, and its repeats", t.store.Release(t.Context(), lease("k", "a"), true))
	}
	second := t.acquire(lease("k", "b"))
	t.want("Attempt after a counted release", second.Attempt, 2)
	t.want("Crashed after a release", second.Crashed, false)
	t.wantTime("First of the second attempt", second.First, first.First)
	t.wantGrown(first, second)
	t.wantLost("release of a key that another owner holds", t.store.Release(t.Context(), lease("k", "a"), true))
	t.wantStatus("a claim of a leased key", t.claim(lease("k", "c")), handoff.ClaimBusy)
}

func releaseUncounted(t *storeTest) {
	last := t.acquire(lease("k", "a"))
	t.must("release", t.store.Release(t.Context(), lease("k", "a"), true))
	for _, owner := range []string{"b", "c", "d"} {
		c := t.acquire(lease("k", owner))
		t.want("Attempt after an uncounted release", c.Attempt, 2)
		t.wantGrown(last, c)
		last = c
		for range 3 {
			t.must("release by the owner, and its repeats", t.store.Release(t.Context(), lease("k", owner), false))
		}
	}
}

func releaseKeepsCrash(t *storeTest) {
	t.acquire(lasting(lease("k", "a"), brief))
	t.pass(brief)
	t.want("Crashed after a lease ran out", t.acquire(lease("k", "b")).Crashed, true)
	t.must("release", t.store.Release(t.Context(), lease("k", "b"), false))
	c := t.acquire(lease("k", "c"))
	t.want("Crashed after a crash and an uncounted release", c.Crashed, true)
	t.want("Attempt after a crash and an uncounted release", c.Attempt, 2)
	t.must("release", t.store.Release(t.Context(), lease("k", "c"), true))
	t.want("Crashed after a crash and a counted release", t.acquire(lease("k", "d")).Crashed, false)
}

func renew(t *storeTest) {
	held, err := t.store.Renew(t.Context(), nil)
	t.must("renew of nothing", err)
	t.want("results of Renew without leases", len(held), 0)

	t.acquire(lease("k1", "a"))
	t.acquire(lease("k2", "b"))
	t.acquire(lease("k3", "c"))
	t.must("release", t.store.Release(t.Context(), lease("k3", "c"), true))
	t.acquire(lease("k4", "d"))
	t.must("end", t.store.End(t.Context(), lease("k4", "d"), nil))
	held, err = t.store.Renew(t.Context(), []handoff.Lease{
		lasting(lease("k1", "a"), 2*leaseTTL),
		lease("k2", "not b"),
		lease("k3", "c"),
		lease("absent", "a"),
		lasting(lease("k4", "d"), 2*leaseTTL),
	})
	t.must("renew", err)
	t.want("held after renewal", fmt.Sprint(held), "[true false false false true]")
	for _, key := range []string{"k1", "k4"} {
		c := t.claim(lease(key, "z"))
		t.wantStatus("a claim of a renewed key", c, handoff.ClaimBusy)
		if c.Left <= leaseTTL {
			t.Fatalf("a renewal did not extend the lease: %v are left, want over %v", c.Left, leaseTTL)
		}
	}

	held, err = t.store.Renew(t.Context(), []handoff.Lease{lasting(lease("k1", "a"), brief)})
	t.must("renew", err)
	t.want("held after renewal", fmt.Sprint(held), "[true]")
	t.pass(brief)
	t.want("Attempt after the renewed lease ran out", t.acquire(lease("k1", "z")).Attempt, 2)
}

func leaseLost(t *storeTest) {
	t.acquire(lasting(lease("k", "slow"), brief))
	t.pass(brief)
	t.acquire(lease("k", "new"))
	t.wantAllLost("k", "slow")
	t.must("complete", t.store.Complete(t.Context(), lease("k", "new")))
	t.wantAllLost("k", "slow")
	t.wantStatus("a claim after completion", t.claim(lease("k", "z")), handoff.ClaimDone)
}

func wrongOwner(t *storeTest) {
	t.wantAllLost("absent", "a")
	t.want("Attempt of a key that was never claimed", t.acquire(lease("absent", "z")).Attempt, 1)

	t.acquire(lease("k", "owner"))
	for _, other := range []string{"o", "owner2", "OWNER", "wner", "owner\x00"} {
		t.wantAllLost("k", other)
	}
	c := t.claim(lease("k", "z"))
	t.wantStatus("a claim after calls by wrong owners", c, handoff.ClaimBusy)
	t.must("complete by the owner after calls by wrong ones", t.store.Complete(t.Context(), lease("k", "owner")))
}

func generations(t *storeTest) {
	first := t.acquire(of(1, lease("k", "a")))
	t.must("release", t.store.Release(t.Context(), of(1, lease("k", "a")), true))
	t.wantStatus("a claim of a lower generation", t.claim(lease("k", "b")), handoff.ClaimSuperseded)
	t.want("Attempt after a claim of a lower generation", t.acquire(of(1, lease("k", "c"))).Attempt, 2)
	t.must("complete", t.store.Complete(t.Context(), opening(handoff.OpensNext, of(1, lease("k", "c")))))

	second := t.acquire(of(2, lease("k", "d")))
	t.want("Attempt of a higher generation", second.Attempt, 1)
	t.want("Crashed of a higher generation", second.Crashed, false)
	t.wantGrown(first, second)
	if second.First.Before(first.First) {
		t.Fatalf("First of a higher generation is %v, before the lower one's %v", second.First, first.First)
	}
	t.must("complete", t.store.Complete(t.Context(), of(2, lease("k", "d"))))
	t.must("complete repeated in a higher generation", t.store.Complete(t.Context(), of(2, lease("k", "d"))))
	for g := range 3 {
		t.wantStatus(fmt.Sprintf("a claim of generation %d after 2 completed", g), t.claim(of(g, lease("k", "e"))), handoff.ClaimDone)
	}
	t.acquire(lease("skips", "a"))
	t.must("release", t.store.Release(t.Context(), lease("skips", "a"), true))
	t.want("Attempt after skipped generations", t.acquire(of(1000, lease("skips", "f"))).Attempt, 1)
}

func generationWhileLeased(t *storeTest) {
	t.acquire(of(1, lease("k", "a")))
	t.wantStatus("a claim of a lower generation", t.claim(lease("k", "b")), handoff.ClaimSuperseded)
	t.wantStatus("a claim of a higher generation while leased", t.claim(of(2, lease("k", "c"))), handoff.ClaimBusy)
	t.must("renew", t.renewOne(lasting(of(1, lease("k", "a")), brief)))
	t.pass(brief)
	c := t.acquire(of(2, lease("k", "d")))
	t.want("Attempt of a higher generation after a lease ran out", c.Attempt, 1)
	t.want("Crashed of a higher generation after a lease ran out", c.Crashed, false)
	t.wantAllLost("k", "a")
}

func windowEnd(t *storeTest) {
	shortly := func(owner string) handoff.Lease {
		l := lasting(lease("k", owner), brief)
		l.Window = brief
		return l
	}
	last := t.acquire(shortly("a"))
	for what, end := range map[string]func(handoff.Lease) error{
		"complete": func(l handoff.Lease) error { return t.store.Complete(t.Context(), l) },
		"release":  func(l handoff.Lease) error { return t.store.Release(t.Context(), l, true) },
		"end":      func(l handoff.Lease) error { return t.store.End(t.Context(), l, nil) },
		"keep":     func(l handoff.Lease) error { return t.store.Keep(t.Context(), l, []byte("memo")) },
		"dead":     func(l handoff.Lease) error { return t.store.Complete(t.Context(), dying("letter", l)) },
		"opened":   func(l handoff.Lease) error { return t.store.Complete(t.Context(), opening(handoff.OpensNext, l)) },
		"nothing":  func(handoff.Lease) error { return nil },
	} {
		// With such a short window the record may be gone before the call.
		if err := end(shortly("a")); err != nil && !errors.Is(err, handoff.ErrLeaseLost) {
			t.Fatalf("%s: %v", what, err)
		}
		t.pass(brief)
		c := t.acquire(shortly("a"))
		t.want("length of the memo in a new window after "+what, len(c.Memo), 0)
		t.want("Attempt in a new window after "+what, c.Attempt, 1)
		t.want("Crashed in a new window after "+what, c.Crashed, false)
		t.wantGrown(last, c)
		last = c
	}
}

func windowSlides(t *storeTest) {
	const first = 10 * brief
	keys := map[string]string{}
	for what, change := range map[string]func(handoff.Lease) error{
		"claim":    func(l handoff.Lease) error { _, err := t.store.Claim(t.Context(), l); return err },
		"renew":    t.renewOne,
		"complete": func(l handoff.Lease) error { return t.store.Complete(t.Context(), l) },
		"release":  func(l handoff.Lease) error { return t.store.Release(t.Context(), l, true) },
		"end":      func(l handoff.Lease) error { return t.store.End(t.Context(), l, nil) },
		"keep":     func(l handoff.Lease) error { return t.store.Keep(t.Context(), l, []byte("memo")) },
		"dead":     func(l handoff.Lease) error { return t.store.Complete(t.Context(), dying("letter", l)) },
		"opened":   func(l handoff.Lease) error { return t.store.Complete(t.Context(), opening(handoff.OpensContinued, l)) },
	} {
		for try := 0; keys[what] == ""; try++ { // on a slow machine the first window may end before the change
			if try == 5 {
				t.Fatalf("%s within %v of a claim never succeeded", what, first)
			}
			key := fmt.Sprint(what, try)
			l := lasting(lease(key, "a"), first)
			l.Window = first
			t.acquire(l)
			if err := change(lease(key, "a")); err != nil {
				t.wantLost(what, err)
				continue
			}
			keys[what] = key
		}
	}
	shorter := lease("shorter", "a")
	t.acquire(shorter)
	shorter.TTL, shorter.Window = brief, brief
	t.must("complete", t.store.Complete(t.Context(), shorter))

	t.pass(first)
	for what, key := range keys {
		if c := t.claim(lease(key, "z")); c.Status == handoff.ClaimAcquired && c.Attempt == 1 {
			t.Fatalf("the record has expired %v after a %s with a window of %v", first, what, leaseWindow)
		}
	}
	t.want("Attempt after a completion with a shorter window", t.acquire(lease("shorter", "z")).Attempt, 1)
}
