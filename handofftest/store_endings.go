package handofftest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/brillconsulting/handoff"
)

func end(t *storeTest) {
	t.acquire(lease("k", "a"))
	t.must("end", t.store.End(t.Context(), lease("k", "a"), []byte("first")))
	t.must("end repeated", t.store.End(t.Context(), lease("k", "a"), []byte("second")))
	c := t.claim(lease("k", "b"))
	t.wantStatus("a claim of an ending key that is leased", c, handoff.ClaimBusy)
	if c.Left <= 0 || c.Left > leaseTTL {
		t.Fatalf("Left is %v, want more than 0 and at most %v", c.Left, leaseTTL)
	}
	t.wantAllLost("k", "b")
	c = t.claim(lease("k", "a"))
	t.wantStatus("a claim of an ending key by its owner", c, handoff.ClaimEnding)
	t.want("Note", string(c.Note), "second")
	for range 2 {
		t.must("complete of an ending, and its repeats", t.store.Complete(t.Context(), lease("k", "a")))
	}
	t.wantStatus("a claim after an ending", t.claim(lease("k", "c")), handoff.ClaimDone)
}

func endingCutShort(t *storeTest) {
	notes := map[string][]byte{
		"nil": nil, "empty": {}, "text": []byte("a note"),
		"binary": {0, 1, 255, '\r', '\n', 0}, "digits": []byte("1234567890"), "10 kB": bytes.Repeat([]byte("note"), 2500),
	}
	first, second := map[string]handoff.Claim{}, map[string]handoff.Claim{}
	for key, note := range notes {
		first[key] = t.acquire(lease(key, "a"))
		t.must("release", t.store.Release(t.Context(), lease(key, "a"), true))
		t.acquire(lease(key, "b"))
		kept := bytes.Clone(note)
		t.must("end", t.store.End(t.Context(), lease(key, "b"), kept))
		clear(kept) // the store must have copied it
		t.must("renew", t.renewOne(lasting(lease(key, "b"), brief)))
	}
	t.pass(brief)
	for key, note := range notes {
		c := t.claim(lease(key, "c"))
		t.wantStatus("a claim after an ending was cut short", c, handoff.ClaimEnding)
		t.want("Attempt", c.Attempt, 2)
		t.wantTime("First", c.First, first[key].First)
		t.wantGrown(first[key], c)
		if !bytes.Equal(c.Note, note) {
			t.Fatalf("Note is %q, want %q as passed to End", c.Note, note)
		}
		t.wantAllLost(key, "b")
		t.wantStatus("a claim while the ending is repeated", t.claim(lease(key, "d")), handoff.ClaimBusy)
		t.wantClaim("a claim of an ending repeated by its owner", t.claim(lasting(lease(key, "c"), brief)), c)
		second[key] = c
	}
	t.pass(brief)
	for key, note := range notes {
		c := t.claim(lease(key, "e"))
		t.wantStatus("a claim after an ending was cut short twice", c, handoff.ClaimEnding)
		t.want("Attempt", c.Attempt, 2)
		t.wantGrown(second[key], c)
		if !bytes.Equal(c.Note, note) {
			t.Fatalf("Note is %q the second time, want %q as passed to End", c.Note, note)
		}
		t.must("complete", t.store.Complete(t.Context(), lease(key, "e")))
		t.wantStatus("a claim after an ending", t.claim(lease(key, "f")), handoff.ClaimDone)
	}
}

func endingReleased(t *storeTest) {
	for _, counted := range []bool{true, false} {
		key := fmt.Sprint("k", counted)
		t.acquire(lease(key, "a"))
		t.must("end", t.store.End(t.Context(), lease(key, "a"), []byte("note")))
		for _, owner := range []string{"a", "b", "c"} {
			for range 2 {
				t.must("release, and its repeat", t.store.Release(t.Context(), lease(key, owner), counted))
			}
			t.wantNotHeld(key, owner)
			t.wantLost("complete after a release", t.store.Complete(t.Context(), lease(key, owner)))
			t.wantStatus("a claim of an ending by the owner that released it", t.claim(lease(key, owner)), handoff.ClaimBusy)
			c := t.claim(lease(key, string(owner[0]+1)))
			t.wantStatus("a claim after an ending was released", c, handoff.ClaimEnding)
			t.want("Attempt", c.Attempt, 1)
			t.want("Note", string(c.Note), "note")
		}
	}
}

// endingAndGenerations tests that a claim of any rank takes over an ending that
// was released, with its note.
func endingAndGenerations(t *storeTest) {
	old := of(1, lease("k", "a"))
	first := t.acquire(old)
	t.must("end", t.store.End(t.Context(), old, []byte("note")))
	claims := map[string]func(owner string) handoff.Lease{
		"a lower generation":  func(owner string) handoff.Lease { return lease("k", owner) },
		"the same generation": func(owner string) handoff.Lease { return of(1, lease("k", owner)) },
		"a higher generation": func(owner string) handoff.Lease { return of(2, lease("k", owner)) },
		"a redrive":           func(owner string) handoff.Lease { return redriven(1, lease("k", owner)) },
	}
	for what, claim := range claims {
		t.wantStatus("a claim of "+what+" while ending", t.claim(claim("busy")), handoff.ClaimBusy)
	}
	t.must("release", t.store.Release(t.Context(), old, true))
	for what, claim := range claims {
		c := t.claim(claim(what))
		t.wantStatus("a claim of "+what+" after an ending was released", c, handoff.ClaimEnding)
		t.want("Note", string(c.Note), "note")
		t.want("Attempt", c.Attempt, 1)
		t.wantGrown(first, c)
		t.wantClaim("the same repeated", t.claim(claim(what)), c)
		t.must("release", t.store.Release(t.Context(), claim(what), true))
		first = c
	}
	t.wantStatus("a claim by another rank's owner", t.claim(of(2, lease("k", "z"))), handoff.ClaimEnding)
	t.must("complete by another rank's owner", t.store.Complete(t.Context(), dying("letter", of(2, lease("k", "z")))))
	t.wantStatus("a claim of the dead", t.claim(of(2, lease("k", "y"))), handoff.ClaimDead)
	t.wantStatus("a redrive of the dead", t.claim(redriven(1, lease("k", "y"))), handoff.ClaimAcquired)
}

func doneCloses(t *storeTest) {
	t.acquire(of(1, lease("k", "a")))
	t.must("complete", t.store.Complete(t.Context(), of(1, lease("k", "a"))))
	for what, l := range map[string]handoff.Lease{
		"a lower generation":  lease("k", "b"),
		"the same generation": of(1, lease("k", "b")),
		"the next generation": of(2, lease("k", "b")),
		"a redrive":           redriven(1, lease("k", "b")),
		"a freed letter":      freed("letter", lease("k", "b")),
		"its own owner":       of(1, lease("k", "a")),
	} {
		t.wantStatus("a claim of done work by "+what, t.claim(l), handoff.ClaimDone)
	}
}

// unfinishedSuperseded tests work that was snoozed without being marked: its
// copy, of the next generation, supersedes it.
func unfinishedSuperseded(t *storeTest) {
	for what, leave := range map[string]func(l handoff.Lease){
		"idle":    func(l handoff.Lease) { t.must("release", t.store.Release(t.Context(), l, true)) },
		"crashed": func(l handoff.Lease) { t.must("renew", t.renewOne(lasting(l, brief))); t.pass(brief) },
	} {
		for rank, next := range map[string]handoff.Lease{"generation": of(1, lease(what, "b")), "redrive": redriven(1, lease(what, "b"))} {
			next.Key = what + rank
			old := lease(next.Key, "a")
			first := t.acquire(old)
			t.must("keep", t.store.Keep(t.Context(), old, []byte("memo")))
			leave(old)
			c := t.acquire(next)
			t.want("Attempt of a higher "+rank+" of "+what+" work", c.Attempt, 1)
			t.want("Crashed of a higher "+rank+" of "+what+" work", c.Crashed, false)
			t.want("Memo of a higher "+rank+" of "+what+" work", string(c.Memo), "memo")
			t.wantGrown(first, c)
			t.wantAllLost(next.Key, "a")
			t.wantStatus("a claim of the lower one", t.claim(lease(next.Key, "c")), handoff.ClaimSuperseded)
		}
	}
}

func opens(t *storeTest) {
	for name, o := range map[string]handoff.Opening{"next": handoff.OpensNext, "continued": handoff.OpensContinued, "uncounted": handoff.OpensUncounted} {
		first := t.acquire(lease(name, "a"))
		t.must("keep", t.store.Keep(t.Context(), lease(name, "a"), []byte("memo")))
		t.must("release", t.store.Release(t.Context(), lease(name, "a"), true))
		t.acquire(lease(name, "b"))
		for range 2 {
			t.must("complete that opens, and its repeat", t.store.Complete(t.Context(), opening(o, lease(name, "b"))))
		}
		t.wantNotHeld(name, "b")
		t.wantLost("release after completion", t.store.Release(t.Context(), lease(name, "b"), true))
		t.wantLost("keep after completion", t.store.Keep(t.Context(), lease(name, "b"), nil))
		t.wantStatus("a claim of the generation that completed", t.claim(lease(name, "b")), handoff.ClaimSuperseded)
		t.wantStatus("a claim of the generation that completed", t.claim(lease(name, "c")), handoff.ClaimSuperseded)

		t.pass(0) // otherwise both first claims could have the same time
		c := t.acquire(of(1, lease(name, "d")))
		want := map[string]int{"next": 1, "continued": 3, "uncounted": 2}[name]
		t.want("Attempt of a generation that was opened as "+name, c.Attempt, want)
		t.want("Crashed of a generation that was opened", c.Crashed, false)
		t.want("Memo of a generation that was opened", string(c.Memo), "memo")
		t.wantGrown(first, c)
		if same := c.First.Equal(first.First); same != (o != handoff.OpensNext) {
			t.Fatalf("First of a generation that was opened as %s is %v; before it was %v", name, c.First, first.First)
		}
		t.wantLost("complete by the generation before", t.store.Complete(t.Context(), opening(o, lease(name, "b"))))
		t.must("release uncounted", t.store.Release(t.Context(), of(1, lease(name, "d")), false))
		t.want("Attempt after an uncounted release", t.acquire(of(1, lease(name, "e"))).Attempt, want)
		t.must("complete", t.store.Complete(t.Context(), of(1, lease(name, "e"))))
		t.wantStatus("a claim after completion", t.claim(of(2, lease(name, "f"))), handoff.ClaimDone)
	}
}

// redrive tests that Redrives ranks above Generation, and that a higher one
// claims dead work.
func redrive(t *storeTest) {
	first := t.acquire(of(3, lease("k", "a")))
	t.must("keep", t.store.Keep(t.Context(), of(3, lease("k", "a")), []byte("memo")))
	t.must("end", t.store.End(t.Context(), of(3, lease("k", "a")), []byte("note")))
	for range 2 {
		t.must("complete as dead, and its repeat", t.store.Complete(t.Context(), dying("letter", of(3, lease("k", "a")))))
	}
	t.wantLost("complete as dead by another owner", t.store.Complete(t.Context(), dying("letter", of(3, lease("k", "b")))))
	for what, l := range map[string]handoff.Lease{
		"a lower generation": lease("k", "b"), "the same generation": of(3, lease("k", "b")),
		"a higher generation": of(4, lease("k", "b")), "its own owner": of(3, lease("k", "a")),
	} {
		c := t.claim(l)
		t.wantStatus("a claim of dead work by "+what, c, handoff.ClaimDead)
		t.want("Letter", c.Letter, "letter")
	}
	c := t.acquire(redriven(1, lease("k", "c")))
	t.want("Attempt of a redrive", c.Attempt, 1)
	t.want("Crashed of a redrive", c.Crashed, false)
	t.want("Memo of a redrive", string(c.Memo), "memo")
	t.wantGrown(first, c)
	t.wantLost("complete by who was redriven", t.store.Complete(t.Context(), dying("letter", of(3, lease("k", "a")))))
	t.wantStatus("a claim of who was redriven", t.claim(of(5, lease("k", "d"))), handoff.ClaimSuperseded)
	t.must("complete as dead", t.store.Complete(t.Context(), dying("second letter", redriven(1, lease("k", "c")))))
	c = t.claim(redriven(1, lease("k", "e")))
	t.wantStatus("a claim of a redrive that died", c, handoff.ClaimDead)
	t.want("Letter of a redrive that died", c.Letter, "second letter")
	t.acquire(redriven(2, lease("k", "f")))
}

// deadUntilFreed tests that work stays dead until a claim names its letter in
// Freed.
func deadUntilFreed(t *storeTest) {
	first := t.acquire(redriven(1, lease("k", "a")))
	t.must("keep", t.store.Keep(t.Context(), redriven(1, lease("k", "a")), []byte("memo")))
	t.must("complete as dead", t.store.Complete(t.Context(), dying("letter", redriven(1, lease("k", "a")))))
	for _, wrong := range []string{"", "lette", "letter2", "LETTER"} {
		t.wantStatus(fmt.Sprintf("a claim with %q as the letter that is gone", wrong), t.claim(freed(wrong, lease("k", "b"))), handoff.ClaimDead)
	}
	c := t.acquire(freed("letter", lease("k", "c")))
	t.want("Attempt of freed work", c.Attempt, 1)
	t.want("length of its memo", len(c.Memo), 0)
	t.wantGrown(first, c)
	t.wantClaim("the same claim repeated", t.claim(freed("letter", lease("k", "c"))), c)
	t.wantStatus("another claim with the letter that is gone", t.claim(freed("letter", lease("k", "d"))), handoff.ClaimBusy)
	t.must("complete", t.store.Complete(t.Context(), lease("k", "c")))
	t.wantStatus("a claim after completion", t.claim(freed("letter", lease("k", "e"))), handoff.ClaimDone)
}

func releasedClaimRepeated(t *storeTest) {
	for _, counted := range []bool{true, false} {
		key := fmt.Sprint("k", counted)
		first := t.acquire(lease(key, "a"))
		t.must("release", t.store.Release(t.Context(), lease(key, "a"), counted))
		for range 2 {
			c := t.claim(lease(key, "a"))
			t.wantStatus("a claim repeated by an owner that has released", c, handoff.ClaimBusy)
			t.want("Left", c.Left, time.Duration(0))
		}
		t.wantNotHeld(key, "a")
		c := t.acquire(lease(key, "b"))
		t.want("Attempt", c.Attempt, map[bool]int{true: 2, false: 1}[counted])
		t.want("Crashed", c.Crashed, false)
		t.wantGrown(first, c)
	}
}

func keep(t *storeTest) {
	t.want("length of the memo of a first claim", len(t.acquire(lease("k", "a")).Memo), 0)
	memo := []byte("first")
	t.must("keep", t.store.Keep(t.Context(), lease("k", "a"), memo))
	clear(memo) // the store must have copied it
	t.want("Memo of a claim repeated", string(t.acquire(lease("k", "a")).Memo), "first")
	binary := append(bytes.Repeat([]byte{0, 255, '\n', ' ', '9'}, handoff.MaxMemo/5), "9"...)
	for range 2 {
		t.must("keep of another memo, and its repeat", t.store.Keep(t.Context(), lease("k", "a"), binary))
	}
	if err := t.store.Keep(t.Context(), lease("k", "a"), append(binary, "more"...)); err == nil {
		t.Fatalf("Keep accepted a memo of more than %d bytes", handoff.MaxMemo)
	}
	t.wantLost("keep by another owner", t.store.Keep(t.Context(), lease("k", "b"), []byte("wrong")))
	t.wantLost("keep of an absent key", t.store.Keep(t.Context(), lease("absent", "a"), []byte("wrong")))
	t.must("release", t.store.Release(t.Context(), lease("k", "a"), true))
	t.wantLost("keep after a release", t.store.Keep(t.Context(), lease("k", "a"), []byte("wrong")))
	got := t.acquire(lease("k", "c")).Memo
	if !bytes.Equal(got, binary) {
		t.Fatalf("Memo is %q, want the last one passed to Keep, %q", got, binary)
	}
	got[0]++ // the store must have returned a copy
	if got := t.acquire(lease("k", "c")).Memo; !bytes.Equal(got, binary) {
		t.Fatalf("Memo is %q after the caller changed its copy, want it unchanged", got)
	}
	t.must("keep of nothing", t.store.Keep(t.Context(), lease("k", "c"), nil))
	t.want("length of the memo after nothing was kept", len(t.acquire(lease("k", "c")).Memo), 0)
	t.must("complete", t.store.Complete(t.Context(), lease("k", "c")))
	t.wantLost("keep after completion", t.store.Keep(t.Context(), lease("k", "c"), []byte("wrong")))
}

// memoOutlives tests that a memo survives crashes, renewals and an ending.
func memoOutlives(t *storeTest) {
	t.acquire(lease("k", "a"))
	t.must("keep", t.store.Keep(t.Context(), lease("k", "a"), []byte("memo")))
	t.must("renew", t.renewOne(lasting(lease("k", "a"), brief)))
	t.pass(brief)
	t.want("Memo after a lease ran out", string(t.acquire(lease("k", "b")).Memo), "memo")
	t.wantLost("keep by an owner that lost the lease", t.store.Keep(t.Context(), lease("k", "a"), []byte("wrong")))
	t.must("end", t.store.End(t.Context(), lease("k", "b"), []byte("note")))
	t.must("release", t.store.Release(t.Context(), lease("k", "b"), true))
	t.want("Note", string(t.claim(lease("k", "c")).Note), "note")
	t.must("complete as dead", t.store.Complete(t.Context(), dying("letter", lease("k", "c"))))
	t.want("Letter", t.claim(lease("k", "d")).Letter, "letter")
	t.want("Memo after an ending, of a redrive", string(t.acquire(redriven(1, lease("k", "e"))).Memo), "memo")
}
