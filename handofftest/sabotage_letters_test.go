package handofftest_test

import (
	"context"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/memstore"
)

// letterSaboteurs each break a good DeadLetterStore in one way, as saboteurs
// break a Store.
var letterSaboteurs = map[string]struct {
	bites string
	store func(handoff.DeadLetterStore) handoff.DeadLetterStore
}{
	"loses puts":            {"put_and_get", func(s handoff.DeadLetterStore) handoff.DeadLetterStore { return losesPuts{s} }},
	"pages end early":       {"pages", func(s handoff.DeadLetterStore) handoff.DeadLetterStore { return endsEarly{s} }},
	"folds case":            {"order_of_bytes", func(s handoff.DeadLetterStore) handoff.DeadLetterStore { return foldsCase{s} }},
	"brings payloads":       {"without_payloads", func(s handoff.DeadLetterStore) handoff.DeadLetterStore { return bringsPayloads{s} }},
	"deletes the redriven":  {"marked_redriven", func(s handoff.DeadLetterStore) handoff.DeadLetterStore { return deletesRedriven{s} }},
	"marks nothing":         {"marked_redriven", func(s handoff.DeadLetterStore) handoff.DeadLetterStore { return marksNothing{s} }},
	"marks a later death":   {"put_again_after_a_redrive", func(s handoff.DeadLetterStore) handoff.DeadLetterStore { return marksAny{s} }},
	"counts the redriven":   {"marked_redriven", func(s handoff.DeadLetterStore) handoff.DeadLetterStore { return countsAllLetters{s} }},
	"forgets marks":         {"put_again_after_a_redrive", func(s handoff.DeadLetterStore) handoff.DeadLetterStore { return forgetsMarks{s} }},
	"keeps for no time":     {"retention", func(s handoff.DeadLetterStore) handoff.DeadLetterStore { return timeless{s} }},
	"replaces bytes":        {"hostile_content", func(s handoff.DeadLetterStore) handoff.DeadLetterStore { return replacesBytes{s} }},
	"works without context": {"cancelled_context", func(s handoff.DeadLetterStore) handoff.DeadLetterStore { return deafLetters{s} }},
}

// TestSabotagedLetters is run by TestDeadLetterStoreBites, in a process of its own.
func TestSabotagedLetters(t *testing.T) {
	name := os.Getenv("HANDOFF_SABOTAGE")
	if name == "" {
		t.Skip("is to fail: TestDeadLetterStoreBites runs it")
	}
	handofftest.TestDeadLetterStore(t, func(*testing.T) handoff.DeadLetterStore {
		return letterSaboteurs[name].store(memstore.NewDeadLetters())
	})
}

func TestDeadLetterStoreBites(t *testing.T) {
	t.Parallel()
	for name, saboteur := range letterSaboteurs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantBite(t, "TestSabotagedLetters", name, saboteur.bites)
		})
	}
}

type losesPuts struct{ handoff.DeadLetterStore }

func (losesPuts) Put(context.Context, handoff.DeadLetter) error { return nil }

type endsEarly struct{ handoff.DeadLetterStore }

func (s endsEarly) List(ctx context.Context, query handoff.DeadLetterQuery) (handoff.DeadLetterPage, error) {
	page, err := s.DeadLetterStore.List(ctx, query)
	page.Next = ""
	return page, err
}

type foldsCase struct{ handoff.DeadLetterStore }

func (s foldsCase) Put(ctx context.Context, letter handoff.DeadLetter) error {
	letter.ID = strings.ToLower(letter.ID)
	return s.DeadLetterStore.Put(ctx, letter)
}

type bringsPayloads struct{ handoff.DeadLetterStore }

func (s bringsPayloads) List(ctx context.Context, query handoff.DeadLetterQuery) (handoff.DeadLetterPage, error) {
	query.NoPayloads = false
	return s.DeadLetterStore.List(ctx, query)
}

type deletesRedriven struct{ handoff.DeadLetterStore }

func (s deletesRedriven) MarkRedriven(ctx context.Context, id string, _ time.Time) error {
	return s.Delete(ctx, id)
}

type marksNothing struct{ handoff.DeadLetterStore }

func (marksNothing) MarkRedriven(context.Context, string, time.Time) error { return nil }

type marksAny struct{ handoff.DeadLetterStore }

func (s marksAny) MarkRedriven(ctx context.Context, id string, buriedAt time.Time) error {
	if l, err := s.Get(ctx, id); err == nil {
		buriedAt = l.BuriedAt
	}
	return s.DeadLetterStore.MarkRedriven(ctx, id, buriedAt)
}

type countsAllLetters struct{ handoff.DeadLetterStore }

func (s countsAllLetters) CountByKind(ctx context.Context) (map[string]int, error) {
	counts, err := s.DeadLetterStore.CountByKind(ctx)
	if err != nil {
		return nil, err
	}
	counts = maps.Clone(counts)
	page, err := s.List(ctx, handoff.DeadLetterQuery{Redriven: true})
	for _, l := range page.Letters {
		counts[l.Kind]++
	}
	return counts, err
}

// forgetsMarks drops the redriven mark of every letter that is put again.
type forgetsMarks struct{ handoff.DeadLetterStore }

func (s forgetsMarks) Put(ctx context.Context, letter handoff.DeadLetter) error {
	if err := s.Delete(ctx, letter.ID); err != nil {
		return err
	}
	return s.DeadLetterStore.Put(ctx, letter)
}

type timeless struct{ handoff.DeadLetterStore }

func (timeless) Retention() time.Duration { return 0 }

type replacesBytes struct{ handoff.DeadLetterStore }

func (s replacesBytes) Put(ctx context.Context, letter handoff.DeadLetter) error {
	letter.LastErr = strings.ToValidUTF8(letter.LastErr, "\uFFFD")
	return s.DeadLetterStore.Put(ctx, letter)
}

type deafLetters struct{ handoff.DeadLetterStore }

func (s deafLetters) Put(ctx context.Context, letter handoff.DeadLetter) error {
	return s.DeadLetterStore.Put(context.WithoutCancel(ctx), letter)
}
