package memstore

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

	"github.com/brillconsulting/handoff"
)

// The bounds of DeadLetters.
const (
	letterAge   = 30 * 24 * time.Hour
	letterCount = 10_000
)

// DeadLetters is a [handoff.DeadLetterStore] in the memory of one process, for
// tests and local development: its letters go with the process. It keeps the
// newest 10,000, each for 30 days. It is safe for concurrent use.
type DeadLetters struct {
	mu      sync.Mutex
	letters map[string]handoff.DeadLetter
}

var _ handoff.DeadLetterStore = (*DeadLetters)(nil)

// NewDeadLetters returns an empty store.
func NewDeadLetters() *DeadLetters {
	return &DeadLetters{letters: make(map[string]handoff.DeadLetter)}
}

// Put implements [handoff.DeadLetterStore].
func (s *DeadLetters) Put(ctx context.Context, letter handoff.DeadLetter) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memstore: put dead letter: %w", err)
	}
	if letter.ID == "" {
		return errors.New("memstore: put dead letter: DeadLetter.ID is empty")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letters[letter.ID] = clone(letter)
	s.trim()
	return nil
}

// trim drops letters that are too old or too many.
func (s *DeadLetters) trim() {
	oldest := time.Now().Add(-letterAge)
	maps.DeleteFunc(s.letters, func(_ string, l handoff.DeadLetter) bool { return l.BuriedAt.Before(oldest) })
	if len(s.letters) > letterCount {
		last := slices.MaxFunc(slices.Collect(maps.Values(s.letters)), newestFirst)
		delete(s.letters, last.ID)
	}
}

// List implements [handoff.DeadLetterStore].
func (s *DeadLetters) List(ctx context.Context, query handoff.DeadLetterQuery) (handoff.DeadLetterPage, error) {
	after, cursorErr := parseLetterCursor(query.Cursor)
	limit, limitErr := query.PageSize()
	if err := errors.Join(ctx.Err(), cursorErr, limitErr); err != nil {
		return handoff.DeadLetterPage{}, fmt.Errorf("memstore: list dead letters: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trim()
	var found []handoff.DeadLetter
	for _, l := range s.letters {
		if (query.Kind == "" || query.Kind == l.Kind) && (query.Cursor == "" || newestFirst(l, after) > 0) {
			found = append(found, l)
		}
	}
	slices.SortFunc(found, newestFirst)
	var page handoff.DeadLetterPage
	if len(found) > limit {
		found = found[:limit]
		page.Next = letterCursor(found[limit-1])
	}
	for _, l := range found {
		page.Letters = append(page.Letters, clone(l))
	}
	return page, nil
}

// Get implements [handoff.DeadLetterStore].
func (s *DeadLetters) Get(ctx context.Context, id string) (handoff.DeadLetter, error) {
	if err := ctx.Err(); err != nil {
		return handoff.DeadLetter{}, fmt.Errorf("memstore: get dead letter: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trim()
	letter, ok := s.letters[id]
	if !ok {
		return handoff.DeadLetter{}, fmt.Errorf("memstore: get dead letter %q: %w", id, handoff.ErrNoDeadLetter)
	}
	return clone(letter), nil
}

// Delete implements [handoff.DeadLetterStore].
func (s *DeadLetters) Delete(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memstore: delete dead letter: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.letters, id)
	return nil
}

// CountByKind implements [handoff.DeadLetterStore].
func (s *DeadLetters) CountByKind(ctx context.Context) (map[string]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("memstore: count dead letters: %w", err)
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
func clone(l handoff.DeadLetter) handoff.DeadLetter {
	l.Header = http.Header(l.Header).Clone()
	l.Payload = bytes.Clone(l.Payload)
	l.Reasons = slices.Clone(l.Reasons)
	return l
}

func newestFirst(a, b handoff.DeadLetter) int {
	return cmp.Or(b.BuriedAt.Compare(a.BuriedAt), strings.Compare(a.ID, b.ID))
}

// letterCursor names the last letter of a page: what comes after it does not
// depend on letters that were put meanwhile.
func letterCursor(l handoff.DeadLetter) string {
	return strconv.FormatInt(l.BuriedAt.UnixNano(), 36) + "~" + l.ID
}

func parseLetterCursor(cursor string) (handoff.DeadLetter, error) {
	if cursor == "" {
		return handoff.DeadLetter{}, nil
	}
	at, id, ok := strings.Cut(cursor, "~")
	ns, err := strconv.ParseInt(at, 36, 64)
	if !ok || err != nil {
		return handoff.DeadLetter{}, errors.New("DeadLetterQuery.Cursor is not one that a page gave")
	}
	return handoff.DeadLetter{BuriedAt: time.Unix(0, ns), ID: id}, nil
}
