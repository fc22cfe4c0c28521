package redisstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/redistest"
	"github.com/brillconsulting/handoff/redisstore"
)

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	for name, addrs := range map[string]func(t *testing.T) []string{
		"miniredis": func(t *testing.T) []string { return []string{miniredis.RunT(t).Addr()} },
		"redis":     func(t *testing.T) []string { return []string{redistest.Start(t)} },
		"cluster":   func(t *testing.T) []string { return redistest.Cluster(t, 3).Addrs() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := connect(t, addrs(t)...)
			handofftest.TestDeadLetterStore(t, func(t *testing.T) handoff.DeadLetterStore {
				return redisstore.NewDeadLetters(rdb, &redisstore.DeadLetterOptions{Prefix: t.Name() + ":"})
			})
		})
	}
}

// TestDeadLettersAreBounded: the oldest go, by count and by age, and nothing of
// them stays behind.
func TestDeadLettersAreBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		options redisstore.DeadLetterOptions
		buried  func(n int) time.Time
	}{
		{"count", redisstore.DeadLetterOptions{MaxCount: 3}, func(n int) time.Time { return time.Now().Add(time.Duration(n-10) * time.Second) }},
		{"age", redisstore.DeadLetterOptions{MaxAge: 3*time.Hour + time.Minute}, func(n int) time.Time { return time.Now().Add(time.Duration(n-10) * time.Hour) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := miniredis.RunT(t)
			store := redisstore.NewDeadLetters(connect(t, server.Addr()), &tt.options)
			for n := 1; n <= 9; n++ {
				letter := handoff.DeadLetter{ID: fmt.Sprint(n), Kind: fmt.Sprint("kind-", n), BuriedAt: tt.buried(n)}
				assert.NoError(t, store.Put(t.Context(), letter))
			}
			page, err := store.List(t.Context(), handoff.DeadLetterQuery{})
			assert.NoError(t, err)
			var ids []string
			for _, l := range page.Letters {
				ids = append(ids, l.ID)
			}
			assert.Equal(t, ids, []string{"9", "8", "7"})
			counts, err := store.CountByKind(t.Context())
			assert.NoError(t, err)
			assert.Equal(t, len(counts), 3)
			assert.Equal(t, len(server.Keys()), 3+3+2) // letters, their kinds, two indexes
		})
	}
}

// TestReadingLettersRemovesNone: who looks at letters with bounds of its own, a
// command line for example, leaves those of the workers. What has expired is
// gone from lists and counts.
func TestReadingLettersRemovesNone(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := connect(t, server.Addr())
	workers := redisstore.NewDeadLetters(rdb, &redisstore.DeadLetterOptions{MaxAge: 60 * 24 * time.Hour})
	reader := redisstore.NewDeadLetters(rdb, &redisstore.DeadLetterOptions{MaxCount: 2})
	for n := range 5 {
		buried := time.Now().Add(-time.Duration(n) * 12 * 24 * time.Hour)
		assert.NoError(t, workers.Put(t.Context(), handoff.DeadLetter{ID: fmt.Sprint(n), Kind: "kind", BuriedAt: buried}))
	}
	count := func(store *redisstore.DeadLetters) (listed, counted int) {
		page, err := store.List(t.Context(), handoff.DeadLetterQuery{})
		assert.NoError(t, err)
		counts, err := store.CountByKind(t.Context())
		assert.NoError(t, err)
		return len(page.Letters), counts["kind"]
	}
	for _, store := range []*redisstore.DeadLetters{reader, workers} {
		listed, counted := count(store)
		assert.Equal(t, listed, 5)
		assert.Equal(t, counted, 5)
	}
	server.FastForward(61 * 24 * time.Hour)
	_, counted := count(reader)
	assert.Equal(t, counted, 0)
	assert.Equal(t, len(server.Keys()), 0)
}

func TestDeadLettersSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	store := redisstore.NewDeadLetters(nil, &redisstore.DeadLetterOptions{MaxAge: -1, MaxCount: -2})
	_, err := store.List(t.Context(), handoff.DeadLetterQuery{})
	assert.ErrorContains(t, err, "redisstore: list dead letters", "the redis client is nil", "MaxAge is -1ns and MaxCount is -2")
}
