package handofftest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
)

// TestDeadLetterStore tests that a [handoff.DeadLetterStore] keeps its contract.
// It calls newStore once for each subtest, and runs the subtests one at a time.
// Each store must start empty, and must be able to keep 200 letters that were
// buried within the last hour.
func TestDeadLetterStore(t *testing.T, newStore func(t *testing.T) handoff.DeadLetterStore) {
	t.Helper()
	for _, sub := range []struct {
		name string
		run  func(*letterTest)
	}{
		{"put and get", letterPutGet},
		{"put replaces", letterReplaced},
		{"not there", letterNotThere},
		{"delete", letterDelete},
		{"newest first", letterNewestFirst},
		{"of one kind", letterOfKind},
		{"pages", letterPages},
		{"pages while letters come", letterPagesWhilePut},
		{"bad queries", letterBadQueries},
		{"count by kind", letterCount},
		{"order of bytes", letterOrder},
		{"without payloads", letterNoPayloads},
		{"marked redriven", letterRedriven},
		{"put again after a redrive", letterPutAgain},
		{"retention", letterRetention},
		{"hostile content", letterHostile},
		{"large payload", letterLarge},
		{"concurrent puts", letterConcurrent},
		{"nothing is shared", letterNotShared},
		{"cancelled context", letterCancelled},
	} {
		t.Run(sub.name, func(t *testing.T) {
			sub.run(&letterTest{T: t, store: newStore(t), base: time.Now().Add(-time.Hour).Truncate(time.Millisecond)})
		})
	}
}

type letterTest struct {
	*testing.T
	store handoff.DeadLetterStore
	base  time.Time
}

// letter returns the nth letter of a test, buried n seconds after its base time.
func (t *letterTest) letter(n int, kind string) handoff.DeadLetter {
	return handoff.DeadLetter{
		ID:        fmt.Sprintf("letter-%03d.0", n),
		HandoffID: fmt.Sprintf("work-%03d", n),
		Task:      "task",
		Queue:     "emails",
		Kind:      kind,
		Target:    "https://worker.example.com/tasks/" + kind,
		Header:    map[string][]string{"Content-Type": {"application/json"}, "X-Several": {"a", "b"}},
		Payload:   fmt.Appendf(nil, `{"n":%d}`, n),
		Reasons:   []handoff.Reason{handoff.ReasonExhausted, handoff.ReasonExpired},
		Attempts:  5,
		FirstAt:   t.base,
		BuriedAt:  t.base.Add(time.Duration(n) * time.Second),
		LastErr:   "boom",
		Snoozes:   2,
		Redrives:  1,
		Key:       "key",
		Method:    "PUT",

		ServiceAccount: "caller@p.iam.gserviceaccount.com",
		Audience:       "https://worker.example.com",
	}
}

func (t *letterTest) put(letters ...handoff.DeadLetter) {
	t.Helper()
	for _, l := range letters {
		if err := t.store.Put(t.Context(), l); err != nil {
			t.Fatalf("Put: %v", err)
		}
	}
}

func (t *letterTest) list(query handoff.DeadLetterQuery) handoff.DeadLetterPage {
	t.Helper()
	page, err := t.store.List(t.Context(), query)
	if err != nil {
		t.Fatalf("List(%+v): %v", query, err)
	}
	return page
}

func (t *letterTest) wantIDs(what string, got []handoff.DeadLetter, want ...int) {
	t.Helper()
	var ids, wanted []string
	for _, l := range got {
		ids = append(ids, l.ID)
	}
	for _, n := range want {
		wanted = append(wanted, fmt.Sprintf("letter-%03d.0", n))
	}
	if !slices.Equal(ids, wanted) {
		t.Fatalf("%s: got %v, want %v", what, ids, wanted)
	}
}

func (t *letterTest) want(id string, want handoff.DeadLetter) {
	t.Helper()
	got, err := t.store.Get(t.Context(), id)
	if err != nil {
		t.Fatalf("Get(%q): %v", id, err)
	}
	same := got.ID == want.ID && got.HandoffID == want.HandoffID && got.Task == want.Task && got.Queue == want.Queue &&
		got.Kind == want.Kind && got.Target == want.Target && maps.EqualFunc(got.Header, want.Header, slices.Equal) &&
		bytes.Equal(got.Payload, want.Payload) && slices.Equal(got.Reasons, want.Reasons) && got.Attempts == want.Attempts &&
		got.FirstAt.Equal(want.FirstAt) && got.BuriedAt.Equal(want.BuriedAt) && got.LastErr == want.LastErr &&
		got.Snoozes == want.Snoozes && got.Redrives == want.Redrives && got.Key == want.Key &&
		got.Method == want.Method && got.ServiceAccount == want.ServiceAccount && got.Audience == want.Audience
	if !same {
		t.Fatalf("Get(%q):\n got %+v\nwant %+v", id, got, want)
	}
}

func letterPutGet(t *letterTest) {
	l := t.letter(1, "note")
	t.put(l)
	t.want(l.ID, l)
	if err := t.store.Put(t.Context(), handoff.DeadLetter{BuriedAt: time.Now()}); err == nil {
		t.Fatal("a letter without an ID was put")
	}
}

func letterReplaced(t *letterTest) {
	t.put(t.letter(1, "note"), t.letter(2, "note"))
	again := t.letter(1, "mail")
	again.BuriedAt, again.LastErr = t.base.Add(time.Minute), "again"
	t.put(again)
	t.want(again.ID, again)
	t.wantIDs("all", t.list(handoff.DeadLetterQuery{}).Letters, 1, 2)
	t.wantIDs("of its old kind", t.list(handoff.DeadLetterQuery{Kind: "note"}).Letters, 2)
	t.wantIDs("of its new kind", t.list(handoff.DeadLetterQuery{Kind: "mail"}).Letters, 1)
}

func letterNotThere(t *letterTest) {
	if _, err := t.store.Get(t.Context(), "nobody.0"); !errors.Is(err, handoff.ErrNoDeadLetter) {
		t.Fatalf("Get: got %v, want ErrNoDeadLetter", err)
	}
	if err := t.store.Delete(t.Context(), "nobody.0"); err != nil {
		t.Fatalf("Delete: %v", err)
	}
}

func letterDelete(t *letterTest) {
	t.put(t.letter(1, "note"), t.letter(2, "note"))
	if err := t.store.Delete(t.Context(), t.letter(1, "").ID); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	if _, err := t.store.Get(t.Context(), t.letter(1, "").ID); !errors.Is(err, handoff.ErrNoDeadLetter) {
		t.Fatalf("Get: got %v, want ErrNoDeadLetter", err)
	}
	t.wantIDs("all", t.list(handoff.DeadLetterQuery{}).Letters, 2)
	t.wantIDs("of the kind", t.list(handoff.DeadLetterQuery{Kind: "note"}).Letters, 2)
}

func letterNewestFirst(t *letterTest) {
	same := t.letter(4, "note")
	same.BuriedAt = t.letter(2, "").BuriedAt // letters buried at the same time are sorted by ID
	t.put(t.letter(2, "note"), same, t.letter(3, "note"), t.letter(1, "note"))
	t.wantIDs("all", t.list(handoff.DeadLetterQuery{}).Letters, 3, 2, 4, 1)
}

func letterOfKind(t *letterTest) {
	t.put(t.letter(1, "note"), t.letter(2, "mail"), t.letter(3, "note"), t.letter(4, ""))
	t.wantIDs("note", t.list(handoff.DeadLetterQuery{Kind: "note"}).Letters, 3, 1)
	t.wantIDs("nobody", t.list(handoff.DeadLetterQuery{Kind: "nobody"}).Letters)
	t.wantIDs("all", t.list(handoff.DeadLetterQuery{}).Letters, 4, 3, 2, 1)
}

// pages lists query page by page and returns all letters. It calls between after
// each page but the last.
func (t *letterTest) pages(query handoff.DeadLetterQuery, between func()) []handoff.DeadLetter {
	t.Helper()
	var all []handoff.DeadLetter
	for range 100 {
		page := t.list(query)
		if len(page.Letters) > query.Limit {
			t.Fatalf("the page has %d letters, want at most %d", len(page.Letters), query.Limit)
		}
		all = append(all, page.Letters...)
		if query.Cursor = page.Next; page.Next == "" {
			return all
		}
		between()
	}
	t.Fatal("List still returns a next page after 100 pages")
	return nil
}

func letterPages(t *letterTest) {
	for n := 1; n <= 7; n++ {
		l := t.letter(n, "note")
		if n <= 4 {
			l.BuriedAt = t.base // some pages end between letters of the same time
		}
		t.put(l)
	}
	for _, limit := range []int{1, 2, 3, 7, 100} {
		t.wantIDs(fmt.Sprint("limit ", limit), t.pages(handoff.DeadLetterQuery{Limit: limit}, func() {}), 7, 6, 5, 1, 2, 3, 4)
	}
}

func letterPagesWhilePut(t *letterTest) {
	for n := 1; n <= 6; n++ {
		t.put(t.letter(n, "note"))
	}
	newer := 100
	got := t.pages(handoff.DeadLetterQuery{Limit: 2, Kind: "note"}, func() {
		newer++
		t.put(t.letter(newer, "note"))
	})
	t.wantIDs("what was there at first", got, 6, 5, 4, 3, 2, 1)
}

func letterBadQueries(t *letterTest) {
	for _, query := range []handoff.DeadLetterQuery{{Limit: -1}, {Limit: 1001}, {Cursor: "nonsense"}, {Cursor: "~"}} {
		if _, err := t.store.List(t.Context(), query); err == nil {
			t.Errorf("List(%+v) returned no error", query)
		}
	}
}

func letterCount(t *letterTest) {
	t.put(t.letter(1, "note"), t.letter(2, "mail"), t.letter(3, "note"), t.letter(3, "note"))
	t.wantCounts(map[string]int{"note": 2, "mail": 1})
}

// letterOrder tests that letters buried at the same time are sorted by the bytes of
// their IDs, not by the locale of the store.
func letterOrder(t *letterTest) {
	ids := []string{"a-b", "aB", "a", "B", "é", "Z", "ab", "_", "b", "0", "\xff", "A"}
	for _, id := range ids {
		l := t.letter(1, "note")
		l.ID = id
		t.put(l)
	}
	slices.Sort(ids)
	var got []string
	for _, l := range t.pages(handoff.DeadLetterQuery{Limit: 1}, func() {}) {
		got = append(got, l.ID)
	}
	if !slices.Equal(got, ids) {
		t.Fatalf("listed as %q, want %q", got, ids)
	}
}

func letterNoPayloads(t *letterTest) {
	t.put(t.letter(1, "note"), t.letter(2, "mail"))
	for _, query := range []handoff.DeadLetterQuery{{NoPayloads: true}, {NoPayloads: true, Kind: "note"}} {
		for _, l := range t.list(query).Letters {
			if l.Payload != nil || l.LastErr != "boom" {
				t.Fatalf("NoPayloads: got payload %q and LastErr %q, want no payload and LastErr boom", l.Payload, l.LastErr)
			}
		}
	}
	t.want("letter-001.0", t.letter(1, "note"))
}

func (t *letterTest) mark(l handoff.DeadLetter) {
	t.Helper()
	if err := t.store.MarkRedriven(t.Context(), l.ID, l.BuriedAt); err != nil {
		t.Fatalf("MarkRedriven: %v", err)
	}
}

func (t *letterTest) redrivenAt(id string) time.Time {
	t.Helper()
	l, err := t.store.Get(t.Context(), id)
	if err != nil {
		t.Fatalf("Get(%q): %v", id, err)
	}
	return l.RedrivenAt
}

func letterRedriven(t *letterTest) {
	marked := t.letter(2, "note")
	t.put(t.letter(1, "note"), marked, t.letter(3, "mail"))
	t.mark(marked)
	at := t.redrivenAt(marked.ID)
	if since := time.Since(at); since < -time.Hour || since > time.Hour {
		t.Fatalf("RedrivenAt is %v, want about now", at)
	}
	t.mark(marked)
	if again := t.redrivenAt(marked.ID); !again.Equal(at) {
		t.Fatalf("RedrivenAt is %v after a second mark, want that of the first, %v", again, at)
	}
	t.want(marked.ID, marked) // a redriven letter is kept
	t.wantIDs("those that wait", t.list(handoff.DeadLetterQuery{}).Letters, 3, 1)
	t.wantIDs("of the kind", t.list(handoff.DeadLetterQuery{Kind: "note"}).Letters, 1)
	t.wantIDs("the redriven", t.list(handoff.DeadLetterQuery{Redriven: true}).Letters, 2)
	t.wantIDs("the redriven of the kind", t.list(handoff.DeadLetterQuery{Redriven: true, Kind: "note"}).Letters, 2)
	t.wantIDs("the redriven of another kind", t.list(handoff.DeadLetterQuery{Redriven: true, Kind: "mail"}).Letters)
	t.wantCounts(map[string]int{"note": 1, "mail": 1})

	other := t.letter(1, "note")
	other.BuriedAt = other.BuriedAt.Add(-time.Second)
	t.mark(other)
	if at := t.redrivenAt(other.ID); !at.IsZero() {
		t.Fatalf("a letter was marked as redriven at %v, by the BuriedAt of an earlier burial", at)
	}
	t.mark(t.letter(9, "note")) // does not exist
	if err := t.store.Delete(t.Context(), marked.ID); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	t.wantIDs("the redriven after a delete", t.list(handoff.DeadLetterQuery{Redriven: true}).Letters)
}

func letterPutAgain(t *letterTest) {
	l := t.letter(1, "note")
	t.put(l)
	t.mark(l)
	l.RedrivenAt = time.Time{}
	t.put(l) // repeats the burial
	if t.redrivenAt(l.ID).IsZero() {
		t.Fatal("a repeated burial removed the redriven mark of its letter")
	}
	t.wantIDs("those that wait", t.list(handoff.DeadLetterQuery{}).Letters)
	l.BuriedAt, l.RedrivenAt = l.BuriedAt.Add(time.Minute), t.base
	t.put(l) // the work died again
	if at := t.redrivenAt(l.ID); !at.IsZero() {
		t.Fatalf("RedrivenAt is %v after the work died again, want zero", at)
	}
	t.wantIDs("those that wait", t.list(handoff.DeadLetterQuery{}).Letters, 1)
	t.wantCounts(map[string]int{"note": 1})
	t.mark(t.letter(1, "note")) // a late call, for the earlier burial
	t.wantIDs("those that wait", t.list(handoff.DeadLetterQuery{}).Letters, 1)
}

func letterRetention(t *letterTest) {
	if r := t.store.Retention(); r <= 0 {
		t.Fatalf("Retention is %v, want it positive", r)
	}
}

func (t *letterTest) wantCounts(want map[string]int) {
	t.Helper()
	counts, err := t.store.CountByKind(t.Context())
	if err != nil || !maps.Equal(counts, want) {
		t.Fatalf("CountByKind: got %v, %v, want %v", counts, err, want)
	}
}

func letterHostile(t *letterTest) {
	l := t.letter(1, "note")
	l.Payload = make([]byte, 256)
	for i := range l.Payload {
		l.Payload[i] = byte(i)
	}
	l.LastErr = "{}\"'\n\x00 </script> ünïcode"
	l.Header = map[string][]string{"X-Odd": {"~", "", "a\tb", "caf\xe9", "\xff\xfe\U0010ff41\U0010fffd"}}
	l.LastErr += "\xc3\x28"
	for _, id := range []string{"plain", "with ~ tilde", "{brace}", "*", "new\nline", strings.Repeat("x", 500)} {
		l.ID = id
		t.put(l)
		t.want(id, l)
	}
	if got := t.pages(handoff.DeadLetterQuery{Limit: 1}, func() {}); len(got) != 6 {
		t.Fatalf("%d letters listed, want 6", len(got))
	}
}

func letterLarge(t *letterTest) {
	l := t.letter(1, "note")
	l.Payload = bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	t.put(l)
	t.want(l.ID, l)
}

func letterConcurrent(t *letterTest) {
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() {
			if err := t.store.Put(t.Context(), t.letter(n, fmt.Sprint("kind-", n%3))); err != nil {
				t.Errorf("Put: %v", err)
			}
		})
	}
	wg.Wait()
	if got := t.pages(handoff.DeadLetterQuery{Limit: 30}, func() {}); len(got) != 100 {
		t.Fatalf("%d letters listed, want 100", len(got))
	}
}

// letterNotShared tests that the store shares no memory with its callers:
// changing a letter after Put or Get changes nothing in the store.
func letterNotShared(t *letterTest) {
	l := t.letter(1, "note")
	t.put(l)
	spoil := func(l handoff.DeadLetter) {
		l.Payload[0], l.Header["X-Several"][0], l.Reasons[0] = 'X', "spoilt", "spoilt"
	}
	spoil(l)
	got, err := t.store.Get(t.Context(), l.ID)
	if err != nil {
		t.Fatal(err)
	}
	spoil(got)
	spoil(t.list(handoff.DeadLetterQuery{}).Letters[0])
	t.want(l.ID, t.letter(1, "note"))
}

func letterCancelled(t *letterTest) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := t.store.Get(ctx, "x")
	_, listErr := t.store.List(ctx, handoff.DeadLetterQuery{})
	_, countErr := t.store.CountByKind(ctx)
	for what, err := range map[string]error{
		"MarkRedriven": t.store.MarkRedriven(ctx, "x", t.base), "Put": t.store.Put(ctx, t.letter(1, "note")), "Get": getErr, "List": listErr, "Delete": t.store.Delete(ctx, "x"), "CountByKind": countErr,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", what, err)
		}
	}
	t.wantIDs("all", t.list(handoff.DeadLetterQuery{}).Letters)
}
