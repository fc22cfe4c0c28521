package handofftest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
)

func bury(t *storeTest) {
	t.acquire(lease("k", "a"))
	t.must("bury", t.store.Bury(t.Context(), lease("k", "a"), []byte("first")))
	t.must("bury repeated", t.store.Bury(t.Context(), lease("k", "a"), []byte("second")))
	c := t.claim(lease("k", "b"))
	t.wantStatus("a claim of a burying key that is leased", c, handoff.ClaimBusy)
	if c.Left <= 0 || c.Left > leaseTTL {
		t.Fatalf("Left is %v, want it over 0 and at most %v", c.Left, leaseTTL)
	}
	t.wantAllLost("k", "b")
	t.must("complete of a burial, and its repeats", t.store.Complete(t.Context(), lease("k", "a")))
	t.must("complete of a burial, and its repeats", t.store.Complete(t.Context(), lease("k", "a")))
	t.wantStatus("a claim after a burial", t.claim(lease("k", "c")), handoff.ClaimDone)
}

func burialCutShort(t *storeTest) {
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
		t.must("bury", t.store.Bury(t.Context(), lease(key, "b"), kept))
		clear(kept) // the store must have its own copy
		t.must("renew", t.renewOne(lasting(lease(key, "b"), brief)))
	}
	t.pass(brief)
	for key, note := range notes {
		c := t.claim(lease(key, "c"))
		t.wantStatus("a claim after a burial was cut short", c, handoff.ClaimBurying)
		t.want("Attempt", c.Attempt, 2)
		t.wantTime("First", c.First, first[key].First)
		t.wantGrown(first[key], c)
		if !bytes.Equal(c.Note, note) {
			t.Fatalf("Note is %q, want the %q that was buried", c.Note, note)
		}
		t.wantAllLost(key, "b")
		t.wantStatus("a claim while the burial is repeated", t.claim(lease(key, "d")), handoff.ClaimBusy)
		t.wantClaim("a claim of a burial repeated by its owner", t.claim(lasting(lease(key, "c"), brief)), c)
		second[key] = c
	}
	t.pass(brief)
	for key, note := range notes {
		c := t.claim(lease(key, "e"))
		t.wantStatus("a claim after a burial was cut short twice", c, handoff.ClaimBurying)
		t.want("Attempt", c.Attempt, 2)
		t.wantGrown(second[key], c)
		if !bytes.Equal(c.Note, note) {
			t.Fatalf("Note is %q the second time, want the %q that was buried", c.Note, note)
		}
		t.must("complete", t.store.Complete(t.Context(), lease(key, "e")))
		t.wantStatus("a claim after a burial", t.claim(lease(key, "f")), handoff.ClaimDone)
	}
}

func buryingReleased(t *storeTest) {
	for _, counted := range []bool{true, false} {
		key := fmt.Sprint("k", counted)
		t.acquire(lease(key, "a"))
		t.must("bury", t.store.Bury(t.Context(), lease(key, "a"), []byte("note")))
		for _, owner := range []string{"a", "b", "c"} {
			t.must("release", t.store.Release(t.Context(), lease(key, owner), counted))
			t.must("release repeated", t.store.Release(t.Context(), lease(key, owner), counted))
			t.wantNotHeld(key, owner)
			t.wantLost("complete after a release", t.store.Complete(t.Context(), lease(key, owner)))
			c := t.claim(lease(key, string(owner[0]+1)))
			t.wantStatus("a claim after a burial was released", c, handoff.ClaimBurying)
			t.want("Attempt", c.Attempt, 1)
			t.want("Note", string(c.Note), "note")
		}
	}
}

func buryingAndGenerations(t *storeTest) {
	old := of(1, lease("k", "a"))
	first := t.acquire(old)
	t.must("bury", t.store.Bury(t.Context(), old, []byte("note")))
	t.wantStatus("a claim of a lower generation", t.claim(lease("k", "b")), handoff.ClaimDone)
	t.wantStatus("a claim of a higher generation while burying", t.claim(of(2, lease("k", "c"))), handoff.ClaimBusy)
	t.must("release", t.store.Release(t.Context(), old, true))
	second := t.acquire(of(2, lease("k", "d")))
	t.want("Attempt of a generation after a buried one", second.Attempt, 1)
	t.want("length of its note", len(second.Note), 0)
	t.wantGrown(first, second)
}

func contextOver(t *storeTest) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	t.acquire(lease("held", "a"))
	for want, ctx := range map[error]context.Context{context.Canceled: cancelled, context.DeadlineExceeded: late} {
		for name, call := range t.calls(ctx) {
			for _, l := range []handoff.Lease{lease("new", "a"), lasting(lease("held", "a"), 2*leaseTTL)} {
				if err := call(l); !errors.Is(err, want) {
					t.Fatalf("%s with a context that is over: got %v, want %v", name, err, want)
				}
			}
		}
	}
	t.wantUntouched()
}

func badLease(t *storeTest) {
	t.acquire(lease("held", "a"))
	for name, spoil := range map[string]func(*handoff.Lease){
		"no TTL":              func(l *handoff.Lease) { l.TTL = 0 },
		"negative TTL":        func(l *handoff.Lease) { l.TTL = -time.Second },
		"no window":           func(l *handoff.Lease) { l.Window = 0 },
		"window under TTL":    func(l *handoff.Lease) { l.TTL, l.Window = 2*leaseTTL, leaseTTL },
		"negative generation": func(l *handoff.Lease) { l.Generation = -1 },
		"empty owner":         func(l *handoff.Lease) { l.Owner = "" },
		"empty key":           func(l *handoff.Lease) { l.Key = "" },
	} {
		for verb, call := range t.calls(t.Context()) {
			for _, key := range []string{"held", "new"} {
				l := lease(key, "a")
				spoil(&l)
				if err := call(l); err == nil || errors.Is(err, handoff.ErrLeaseLost) {
					t.Fatalf("%s with %s: got %v, want an error that names the field", verb, name, err)
				}
			}
		}
	}
	t.wantUntouched()
}

func hostileStrings(t *storeTest) {
	hostile := []string{
		"k", "K", "k ", " k", "0", "1", "-1", "1234567890123456789", "nil", "*", "k?", "[k]", "%s%d%n", `\`, `"`, "'",
		"{", "}", "{}", "{k}", "k{k}", "}k{", "{}k", "{{k}}", ":", "k:", ":k", "k:k", "\r\n", "k\r\nk", "$1\r\nk\r\n", "\n", "\x00", "k\x00", "\x00k",
		"\xff", "\xff\xfe", "\xc3\x28", "ключ", "鍵", "🔑", "../../k", strings.Repeat("k", 10_000), strings.Repeat("k", 10_001), strings.Repeat("\x00\n{", 3_333),
	}
	for i, s := range hostile {
		if c := t.acquire(lease(s, s)); c.Attempt != 1 {
			t.Fatalf("the first claim of key %.20q is attempt %d: it is taken for another key", s, c.Attempt)
		}
		t.wantStatus("a claim by another owner", t.claim(lease(s, hostile[(i+1)%len(hostile)])), handoff.ClaimBusy)
	}
	for i, s := range hostile {
		t.must("renew", t.renewOne(lease(s, s)))
		switch i % 3 {
		case 0:
			t.must("complete", t.store.Complete(t.Context(), lease(s, s)))
			t.wantStatus("a claim after completion", t.claim(lease(s, "z")), handoff.ClaimDone)
		case 1:
			t.must("release", t.store.Release(t.Context(), lease(s, s), true))
			t.want("Attempt after a release", t.acquire(lease(s, "z")).Attempt, 2)
		case 2:
			t.must("bury", t.store.Bury(t.Context(), lease(s, s), []byte(s)))
			t.must("release", t.store.Release(t.Context(), lease(s, s), true))
			if c := t.claim(lease(s, "z")); string(c.Note) != s {
				t.Fatalf("Note is %.20q, want %.20q", c.Note, s)
			}
		}
	}
}

func longestLease(t *storeTest) {
	const ever = time.Duration(math.MaxInt64)
	l := lasting(lease("k", "a"), ever)
	l.Window = ever
	t.acquire(l)
	c := t.claim(lease("k", "b"))
	t.wantStatus("a claim of a key that is leased for the longest time", c, handoff.ClaimBusy)
	if c.Left < 24*time.Hour {
		t.Fatalf("Left of the longest lease is %v", c.Left)
	}
	t.must("complete", t.store.Complete(t.Context(), l))
	t.wantStatus("a claim after completion for the longest time", t.claim(lease("k", "b")), handoff.ClaimDone)
}
