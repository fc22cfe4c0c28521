package handoff

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// DeadLetter is a task that will not run again by itself, kept whole.
type DeadLetter struct {
	ID        string              // of the letter: one for each piece of work and generation
	Task      string              // task ID of the last delivery
	Queue     string              // queue ID
	Kind      string              // empty for a task without one
	HandoffID string              // empty for a foreign task
	Target    string              // URL that the task was delivered to
	Header    map[string][]string // the task's own headers, without credentials and without the service's
	Payload   []byte              // as the producer wrote it, inflated
	Reasons   []Reason            // every one that applied, the decisive one first
	Attempts  int                 // executions begun
	FirstAt   time.Time           // when it was first claimed
	BuriedAt  time.Time           // when it was buried
	LastErr   string              // text of the last error; the handler's own words
	Snoozes   int
	Redriven  string // letter ID that this work was redriven from, if any
}

// DeadLetterStore keeps what will not run again. Use [NewMemoryDeadLetters] in
// one process and redisstore.NewDeadLetters across processes. Every method
// must be safe for concurrent use and honour its context. An implementer
// proves itself with handofftest.TestDeadLetterStore.
type DeadLetterStore interface {
	// Put keeps a letter durably before it returns nil. A letter with the
	// same ID is replaced.
	Put(ctx context.Context, letter DeadLetter) error

	// List returns letters newest first (by BuriedAt, then ID).
	List(ctx context.Context, query DeadLetterQuery) (DeadLetterPage, error)

	// Get returns one letter, or ErrNoDeadLetter.
	Get(ctx context.Context, id string) (DeadLetter, error)

	// Delete removes one letter. One that is not there is no error.
	Delete(ctx context.Context, id string) error

	// CountByKind returns how many letters there are of each kind.
	CountByKind(ctx context.Context) (map[string]int, error)
}

// DeadLetterQuery says which letters to list.
type DeadLetterQuery struct {
	Kind   string // only of this kind; empty: all
	Cursor string // DeadLetterPage.Next of the page before; empty: the newest
	Limit  int    // at most this many; default 100, at most 1000
}

// DeadLetterPage is one page of letters.
type DeadLetterPage struct {
	Letters []DeadLetter
	Next    string // cursor of the next page; empty: this is the last
}

// ErrNoDeadLetter is returned for a letter that is not in the store.
var ErrNoDeadLetter = errors.New("handoff: no such dead letter")

// The bounds of MemoryDeadLetters.
const (
	memoryLetterAge   = 30 * 24 * time.Hour
	memoryLetterCount = 10_000
)

// Limits of [DeadLetterQuery].Limit.
const (
	defaultLetterLimit = 100
	maxLetterLimit     = 1000
)

// MemoryDeadLetters is a [DeadLetterStore] in the memory of one process, for
// tests and local development: its letters go with the process. It keeps the
// newest 10,000, each for 30 days. It is safe for concurrent use.
type MemoryDeadLetters struct {
	mu      sync.Mutex
	letters map[string]DeadLetter
}

var _ DeadLetterStore = (*MemoryDeadLetters)(nil)

// NewMemoryDeadLetters returns an empty store.
func NewMemoryDeadLetters() *MemoryDeadLetters {
	return &MemoryDeadLetters{letters: make(map[string]DeadLetter)}
}

// Put implements [DeadLetterStore].
func (s *MemoryDeadLetters) Put(ctx context.Context, letter DeadLetter) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("handoff: put dead letter: %w", err)
	}
	if letter.ID == "" {
		return errors.New("handoff: put dead letter: DeadLetter.ID is empty")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letters[letter.ID] = letter.clone()
	s.trim()
	return nil
}

// trim drops letters that are too old or too many.
func (s *MemoryDeadLetters) trim() {
	oldest := time.Now().Add(-memoryLetterAge)
	maps.DeleteFunc(s.letters, func(_ string, l DeadLetter) bool { return l.BuriedAt.Before(oldest) })
	if len(s.letters) > memoryLetterCount {
		last := slices.MaxFunc(slices.Collect(maps.Values(s.letters)), newestFirst)
		delete(s.letters, last.ID)
	}
}

// List implements [DeadLetterStore].
func (s *MemoryDeadLetters) List(ctx context.Context, query DeadLetterQuery) (DeadLetterPage, error) {
	after, err := parseLetterCursor(query.Cursor)
	if err := errors.Join(ctx.Err(), err); err != nil {
		return DeadLetterPage{}, fmt.Errorf("handoff: list dead letters: %w", err)
	}
	if query.Limit < 0 || query.Limit > maxLetterLimit {
		return DeadLetterPage{}, fmt.Errorf("handoff: list dead letters: DeadLetterQuery.Limit is %d; it must be 1 to %d, or 0 for %d", query.Limit, maxLetterLimit, defaultLetterLimit)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trim()
	var found []DeadLetter
	for _, l := range s.letters {
		if (query.Kind == "" || query.Kind == l.Kind) && (query.Cursor == "" || newestFirst(l, after) > 0) {
			found = append(found, l)
		}
	}
	slices.SortFunc(found, newestFirst)
	var page DeadLetterPage
	if limit := first(query.Limit, defaultLetterLimit); len(found) > limit {
		found = found[:limit]
		page.Next = letterCursor(found[limit-1])
	}
	for _, l := range found {
		page.Letters = append(page.Letters, l.clone())
	}
	return page, nil
}

// Get implements [DeadLetterStore].
func (s *MemoryDeadLetters) Get(ctx context.Context, id string) (DeadLetter, error) {
	if err := ctx.Err(); err != nil {
		return DeadLetter{}, fmt.Errorf("handoff: get dead letter: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trim()
	letter, ok := s.letters[id]
	if !ok {
		return DeadLetter{}, fmt.Errorf("handoff: get dead letter %q: %w", id, ErrNoDeadLetter)
	}
	return letter.clone(), nil
}

// Delete implements [DeadLetterStore].
func (s *MemoryDeadLetters) Delete(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("handoff: delete dead letter: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.letters, id)
	return nil
}

// CountByKind implements [DeadLetterStore].
func (s *MemoryDeadLetters) CountByKind(ctx context.Context) (map[string]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("handoff: count dead letters: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trim()
	counts := make(map[string]int)
	for _, l := range s.letters {
		counts[l.Kind]++
	}
	return counts, nil
}

// clone shares nothing that either side could change.
func (l DeadLetter) clone() DeadLetter {
	l.Header = http.Header(l.Header).Clone()
	l.Payload = bytes.Clone(l.Payload)
	l.Reasons = slices.Clone(l.Reasons)
	return l
}

func newestFirst(a, b DeadLetter) int {
	return cmp.Or(b.BuriedAt.Compare(a.BuriedAt), strings.Compare(a.ID, b.ID))
}

// letterCursor names the last letter of a page: what comes after it does not
// depend on letters that were put meanwhile.
func letterCursor(l DeadLetter) string {
	return strconv.FormatInt(l.BuriedAt.UnixNano(), 36) + "~" + l.ID
}

func parseLetterCursor(cursor string) (DeadLetter, error) {
	if cursor == "" {
		return DeadLetter{}, nil
	}
	at, id, ok := strings.Cut(cursor, "~")
	ns, err := strconv.ParseInt(at, 36, 64)
	if !ok || err != nil {
		return DeadLetter{}, errors.New("DeadLetterQuery.Cursor is not one that a page gave")
	}
	return DeadLetter{BuriedAt: time.Unix(0, ns), ID: id}, nil
}
