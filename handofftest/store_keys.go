package handofftest

import (
	"errors"
	"time"

	"github.com/brillconsulting/handoff"
)

// keys returns the store as a handoff.KeyStore, or skips the subtest if it is not
// one.
func (t *storeTest) keys() handoff.KeyStore {
	t.Helper()
	store, ok := t.store.(handoff.KeyStore)
	if !ok {
		t.Skip("the store does not implement handoff.KeyStore")
	}
	return store
}

func (t *storeTest) show(key string) handoff.KeyRecord {
	t.Helper()
	record, err := t.keys().ShowKey(t.Context(), key)
	t.must("show key", err)
	return record
}

func showKey(t *storeTest) {
	if got := t.show("k"); got.State != "absent" {
		t.Fatalf("ShowKey of a key without a record returned %+v", got)
	}
	claimed := t.acquire(of(2, redriven(1, lease("k", "a"))))
	t.must("keep", t.store.Keep(t.Context(), lease("k", "a"), []byte("memo")))
	t.wantShown("running", claimed)
	got := t.show("k")
	t.want("Owner is empty", got.Owner == "", false)
	t.want("Memo", string(got.Memo), "memo")
	t.wantNear("Held", got.Held, leaseTTL)
	t.wantNear("Expires", got.Expires, leaseWindow)

	t.must("release", t.store.Release(t.Context(), lease("k", "a"), true))
	t.wantShown("idle", claimed)
	t.want("Held of an idle key is zero", t.show("k").Held.IsZero(), true)

	claimed = t.acquire(of(2, redriven(1, lease("k", "b"))))
	t.must("end", t.store.End(t.Context(), lease("k", "b"), []byte("note")))
	t.wantShown("ending", claimed)
	t.must("complete as dead", t.store.Complete(t.Context(), dying("letter", lease("k", "b"))))
	t.wantShown("dead", claimed)
	t.want("Letter", t.show("k").Letter, "letter")

	t.acquire(lease("opened", "a"))
	t.must("complete", t.store.Complete(t.Context(), opening(handoff.OpensContinued, lease("opened", "a"))))
	got = t.show("opened")
	t.want("State of an opened key", got.State, "opened")
	t.want("Generation of an opened key", got.Generation, 1)

	t.acquire(lease("done", "a"))
	t.must("complete", t.store.Complete(t.Context(), lease("done", "a")))
	got = t.show("done")
	t.want("State of a done key", got.State, "done")
	t.wantNear("Expires of a done key", got.Expires, leaseWindow)
	t.want("Held of a done key is zero", got.Held.IsZero(), true)
}

func (t *storeTest) wantShown(state string, claimed handoff.Claim) {
	t.Helper()
	got := t.show("k")
	if got.State != state || got.Redrives != 1 || got.Generation != 2 || got.Attempt != claimed.Attempt ||
		got.Token != claimed.Token || !got.First.Equal(claimed.First) {
		t.Fatalf("ShowKey returned %+v, want state %s, redrive 1, generation 2, and what Claim returned: %+v", got, state, claimed)
	}
}

// wantNear compares a time with the test's clock. It allows for a store that uses
// another clock.
func (t *storeTest) wantNear(what string, got time.Time, in time.Duration) {
	t.Helper()
	if off := time.Until(got) - in; off > in/2 || off < -in/2 {
		t.Fatalf("%s is %v, want it %v from now", what, got, in)
	}
}

func freeKey(t *storeTest) {
	store := t.keys()
	t.must("free of an absent key", store.FreeKey(t.Context(), "absent"))
	last := t.acquire(of(1, lease("k", "a")))
	if err := store.FreeKey(t.Context(), "k"); !errors.Is(err, handoff.ErrKeyHeld) {
		t.Fatalf("FreeKey of a leased key: got %v, want ErrKeyHeld", err)
	}
	t.wantStatus("a claim after a refused free", t.claim(of(1, lease("k", "b"))), handoff.ClaimBusy)
	for what, leave := range map[string]func(handoff.Lease) error{
		"idle":   func(l handoff.Lease) error { return t.store.Release(t.Context(), l, true) },
		"done":   func(l handoff.Lease) error { return t.store.Complete(t.Context(), l) },
		"dead":   func(l handoff.Lease) error { return t.store.Complete(t.Context(), dying("letter", l)) },
		"opened": func(l handoff.Lease) error { return t.store.Complete(t.Context(), opening(handoff.OpensNext, l)) },
		"ending": func(l handoff.Lease) error {
			return errors.Join(t.store.End(t.Context(), l, nil), t.store.Release(t.Context(), l, true))
		},
	} {
		t.must("keep", t.store.Keep(t.Context(), lease("k", "a"), []byte("memo")))
		t.must(what, leave(lease("k", "a")))
		t.must("free", store.FreeKey(t.Context(), "k"))
		t.want("State of a freed key", t.show("k").State, "absent")
		t.pass(0) // a freed key has no earlier token, so the next one is made from the time
		c := t.acquire(lease("k", "a"))
		t.want("Attempt after a free of what was "+what, c.Attempt, 1)
		t.want("length of its memo", len(c.Memo), 0)
		t.wantGrown(last, c)
		last = c
	}
	if _, err := store.ShowKey(t.Context(), ""); err == nil {
		t.Fatal("ShowKey accepted an empty key")
	}
	if err := store.FreeKey(t.Context(), ""); err == nil {
		t.Fatal("FreeKey accepted an empty key")
	}
}
