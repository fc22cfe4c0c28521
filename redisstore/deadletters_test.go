package redisstore_test

import (
	"fmt"
	"sync"
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

// TestDeadLettersAreBounded tests that Put removes other letters, the redriven
// first and then the oldest, and leaves no key of them behind.
func TestDeadLettersAreBounded(t *testing.T) {
	t.Parallel()
	letter := func(n int) handoff.DeadLetter {
		return handoff.DeadLetter{ID: fmt.Sprint(n), Kind: fmt.Sprint("kind-", n), BuriedAt: time.Now().Add(time.Duration(n) * time.Second), Payload: make([]byte, 1000)}
	}
	for name, tt := range map[string]struct {
		options redisstore.DeadLetterOptions
		put     []int
		redrive int
		want    []string
	}{
		"count":                              {redisstore.DeadLetterOptions{MaxCount: 3}, []int{1, 2, 3, 4, 5, 6}, 0, []string{"6", "5", "4"}},
		"bytes":                              {redisstore.DeadLetterOptions{MaxBytes: 4500}, []int{1, 2, 3, 4, 5, 6}, 0, []string{"6", "5", "4"}},
		"redriven first":                     {redisstore.DeadLetterOptions{MaxCount: 3}, []int{1, 2, 3, 4}, 2, []string{"4", "3", "1"}},
		"the oldest is the one that was put": {redisstore.DeadLetterOptions{MaxCount: 3}, []int{4, 3, 2, 1}, 0, []string{"4", "3", "1"}},
		"put again":                          {redisstore.DeadLetterOptions{MaxCount: 3}, []int{1, 2, 3, 1}, 0, []string{"3", "2", "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := miniredis.RunT(t)
			store := redisstore.NewDeadLetters(connect(t, server.Addr()), &tt.options)
			for _, n := range tt.put {
				l := letter(n)
				assert.NoError(t, store.Put(t.Context(), l))
				_, err := store.Get(t.Context(), l.ID)
				assert.NoError(t, err) // Put did not remove what it put
				if n == tt.redrive {
					assert.NoError(t, store.MarkRedriven(t.Context(), l.ID, l.BuriedAt))
				}
			}
			page, err := store.List(t.Context(), handoff.DeadLetterQuery{})
			assert.NoError(t, err)
			assert.Equal(t, letterIDs(page), tt.want)
			counts, err := store.CountByKind(t.Context())
			assert.NoError(t, err)
			assert.Equal(t, len(counts), 3)
			assert.Equal(t, len(server.Keys()), 3*3+3) // letter, payload and index of the kind; entries, bytes and index of all
			for _, n := range tt.put {
				assert.NoError(t, store.Delete(t.Context(), fmt.Sprint(n)))
			}
			assert.Equal(t, len(server.Keys()), 0)
		})
	}
}

func letterIDs(page handoff.DeadLetterPage) (ids []string) {
	for _, l := range page.Letters {
		ids = append(ids, l.ID)
	}
	return ids
}

// TestALetterThatIsTooLargeIsRefused: Put must not report success for a letter that
// it cannot keep.
func TestALetterThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	store := redisstore.NewDeadLetters(connect(t, miniredis.RunT(t).Addr()), &redisstore.DeadLetterOptions{MaxBytes: 1000})
	err := store.Put(t.Context(), handoff.DeadLetter{ID: "large", Payload: make([]byte, 1000)})
	assert.ErrorContains(t, err, "redisstore: put dead letter: the letter has ", " bytes, and DeadLetterOptions.MaxBytes is 1000")
}

// TestHolesDoNotEndAList: a letter can be gone while the indexes still name it,
// because Redis evicted it or another worker has a shorter MaxAge. Lists and counts
// leave out that letter and no other.
func TestHolesDoNotEndAList(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := connect(t, server.Addr())
	long := redisstore.NewDeadLetters(rdb, nil)
	brief := redisstore.NewDeadLetters(rdb, &redisstore.DeadLetterOptions{MaxAge: time.Second})
	for n := range 20 {
		store := long
		if n%3 > 0 {
			store = brief
		}
		assert.NoError(t, store.Put(t.Context(), handoff.DeadLetter{ID: fmt.Sprintf("%02d", n), Kind: "job", BuriedAt: time.UnixMicro(int64(20 - n))}))
	}
	server.FastForward(2 * time.Second)
	assert.Equal(t, listAll(t, long, handoff.DeadLetterQuery{Limit: 2}), []string{"00", "03", "06", "09", "12", "15", "18"})
	counts, err := long.CountByKind(t.Context())
	assert.NoError(t, err)
	assert.Equal(t, counts["job"], 7)
}

// TestALetterWithoutItsPayload: a letter whose payload Redis has evicted counts as
// gone. A redrive of it would enqueue different work.
func TestALetterWithoutItsPayload(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	store := redisstore.NewDeadLetters(connect(t, server.Addr()), nil)
	for _, id := range []string{"whole", "cut", "empty"} {
		letter := handoff.DeadLetter{ID: id, Kind: "job", BuriedAt: time.Now(), Payload: []byte("{}")}
		if id == "empty" {
			letter.Payload = nil
		}
		assert.NoError(t, store.Put(t.Context(), letter))
	}
	assert.Equal(t, server.Del("handoff:{dead}:payload:cut"), true)
	_, err := store.Get(t.Context(), "cut")
	assert.ErrorIs(t, err, handoff.ErrNoDeadLetter)
	counts, err := store.CountByKind(t.Context())
	assert.NoError(t, err)
	assert.Equal(t, counts["job"], 2)
	assert.Equal(t, len(listAll(t, store, handoff.DeadLetterQuery{NoPayloads: true})), 2)
	for _, id := range []string{"whole", "empty"} {
		_, err := store.Get(t.Context(), id)
		assert.NoError(t, err)
	}
}

// TestManyHolesInARow tests more missing letters in a row than one script skips.
func TestManyHolesInARow(t *testing.T) {
	t.Parallel()
	rdb := connect(t, redistest.Start(t))
	store := redisstore.NewDeadLetters(rdb, nil)
	const letters = 4000
	var puts sync.WaitGroup
	for worker := range 8 {
		puts.Go(func() {
			for n := worker; n < letters; n += 8 {
				if err := store.Put(t.Context(), handoff.DeadLetter{ID: fmt.Sprintf("%04d", n), Kind: "job", BuriedAt: time.UnixMicro(int64(letters - n))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	puts.Wait()
	for n := range letters {
		if n >= 10 && n < letters-10 {
			assert.NoError(t, rdb.Del(t.Context(), fmt.Sprintf("handoff:{dead}:letter:%04d", n)).Err())
		}
	}
	assert.Equal(t, len(listAll(t, store, handoff.DeadLetterQuery{Limit: 7, Kind: "job"})), 20)
	counts, err := store.CountByKind(t.Context())
	assert.NoError(t, err)
	assert.Equal(t, counts["job"], 20)
}

func listAll(t *testing.T, store handoff.DeadLetterStore, query handoff.DeadLetterQuery) (ids []string) {
	t.Helper()
	for {
		page, err := store.List(t.Context(), query)
		assert.NoError(t, err)
		ids = append(ids, letterIDs(page)...)
		if query.Cursor = page.Next; page.Next == "" {
			return ids
		}
	}
}

// TestPagesAreBoundedInBytes: a page holds one large letter, or all of them without
// payloads. No letter is left out.
func TestPagesAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	rdb := connect(t, redistest.Start(t))
	store := redisstore.NewDeadLetters(rdb, nil)
	const letters = 20
	for n := range letters {
		l := handoff.DeadLetter{ID: fmt.Sprint(n), Kind: "job", BuriedAt: time.Now(), Payload: make([]byte, 300<<10)}
		assert.NoError(t, store.Put(t.Context(), l))
	}
	listed, pages := 0, 0
	for query := (handoff.DeadLetterQuery{}); ; pages++ {
		page, err := store.List(t.Context(), query)
		assert.NoError(t, err)
		size := 0
		for _, l := range page.Letters {
			size += len(l.Payload)
		}
		if size > 1<<20 {
			t.Errorf("a page of %d bytes", size)
		}
		listed += len(page.Letters)
		if query.Cursor = page.Next; page.Next == "" {
			break
		}
	}
	assert.Equal(t, listed, letters)
	page, err := store.List(t.Context(), handoff.DeadLetterQuery{NoPayloads: true})
	assert.NoError(t, err)
	assert.Equal(t, len(page.Letters), letters)
	assert.Equal(t, page.Next, "")
}

// TestReadingLettersRemovesNone: a reader with smaller limits, such as the handoff
// command, removes no letters of the workers. Expired letters are left out of lists
// and counts.
func TestReadingLettersRemovesNone(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := connect(t, server.Addr())
	workers := redisstore.NewDeadLetters(rdb, &redisstore.DeadLetterOptions{MaxAge: 60 * 24 * time.Hour})
	reader := redisstore.NewDeadLetters(rdb, &redisstore.DeadLetterOptions{MaxCount: 2})
	for n := range 5 {
		assert.NoError(t, workers.Put(t.Context(), handoff.DeadLetter{ID: fmt.Sprint(n), Kind: "kind", BuriedAt: time.Now()}))
	}
	server.FastForward(59 * 24 * time.Hour)
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
	server.FastForward(2 * 24 * time.Hour)
	_, counted := count(reader)
	assert.Equal(t, counted, 0)
	assert.Equal(t, len(server.Keys()), 0)
}

func TestDeadLettersSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	store := redisstore.NewDeadLetters(nil, &redisstore.DeadLetterOptions{MaxAge: -1, MaxCount: -2})
	_, err := store.List(t.Context(), handoff.DeadLetterQuery{})
	assert.ErrorContains(t, err, "redisstore: list dead letters", "the redis client is nil", "MaxAge is -1ns, MaxCount is -2 and MaxBytes is 0")
}
