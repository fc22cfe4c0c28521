package handofftest

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
)

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
					t.Fatalf("%s with an ended context: got %v, want %v", name, err, want)
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
		"negative redrives":   func(l *handoff.Lease) { l.Redrives = -1 },
		"unknown opening":     func(l *handoff.Lease) { l.Opens = 99 },
		"opening and letter":  func(l *handoff.Lease) { l.Opens, l.Letter = handoff.OpensNext, "letter" },
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
			t.Fatalf("the first claim of key %.20q is attempt %d: the store confuses it with another key", s, c.Attempt)
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
			memo := s[:min(len(s), handoff.MaxMemo)]
			t.must("keep", t.store.Keep(t.Context(), lease(s, s), []byte(memo)))
			t.must("end", t.store.End(t.Context(), lease(s, s), []byte(s)))
			t.must("release", t.store.Release(t.Context(), lease(s, s), true))
			if c := t.claim(lease(s, "z")); string(c.Note) != s {
				t.Fatalf("Note is %.20q, want %.20q", c.Note, s)
			}
			t.must("complete as dead", t.store.Complete(t.Context(), dying(s, lease(s, "z"))))
			t.want("Letter", t.claim(lease(s, "y")).Letter, s)
			t.want("Memo of a redrive", string(t.claim(redriven(1, lease(s, "x"))).Memo), memo)
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
		t.Fatalf("Left of the longest possible lease is %v, which is too short", c.Left)
	}
	t.must("complete", t.store.Complete(t.Context(), l))
	t.wantStatus("a claim after completion for the longest time", t.claim(lease("k", "b")), handoff.ClaimDone)
}
