package memstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/brillconsulting/handoff"
)

// Limits of DeadLetters.
const (
	letterAge   = 30 * 24 * time.Hour
	letterCount = 10_000
)

// DeadLetters is a [handoff.DeadLetterStore] in memory, for tests and local
// development. Its letters are lost when the process ends. It keeps at most 10,000
// letters, each for 30 days. When there are more, Put removes others: the redriven
// ones first, then the oldest. It is safe for concurrent use.
type DeadLetters struct {
	mu      sync.Mutex
	letters map[string]kept
}

// kept is a letter and the time at which it was put.
type kept struct {
	handoff.DeadLetter

	at time.Time
}

var _ handoff.DeadLetterStore = (*DeadLetters)(nil)

// NewDeadLetters returns an empty store.
func NewDeadLetters() *DeadLetters {
	return &DeadLetters{letters: make(map[string]kept)}
}

// Retention implements [handoff.DeadLetterStore].
func (s *DeadLetters) Retention() time.Duration { return letterAge }

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
	letter.RedrivenAt = time.Time{}
	if old, ok := s.find(letter.ID); ok && old.BuriedAt.Equal(letter.BuriedAt) {
		letter.RedrivenAt = old.RedrivenAt
	}
	s.letters[letter.ID] = kept{clone(letter), time.Now()}
	if len(s.letters) > letterCount {
		s.makeRoom(letter.ID)
	}
	return nil
}

// makeRoom removes expired letters. If there are still too many, it removes one
// more: the oldest redriven letter, or else the oldest of all. It never removes the
// letter with the ID except.
func (s *DeadLetters) makeRoom(except string) {
	var last *kept
	for id, l := range s.letters {
		switch {
		case l.over():
			delete(s.letters, id)
		case id != except && (last == nil || goesBefore(l, *last)):
			last = &l
		}
	}
	if len(s.letters) > letterCount {
		delete(s.letters, last.ID)
	}
}

func goesBefore(a, b kept) bool {
	if redriven := !a.RedrivenAt.IsZero(); redriven == b.RedrivenAt.IsZero() {
		return redriven
	}
	return newestFirst(a.DeadLetter, b.DeadLetter) > 0
}

func (l *kept) over() bool { return time.Since(l.at) >= letterAge }

// find returns a letter. It removes the letter if it has expired.
func (s *DeadLetters) find(id string) (l kept, ok bool) {
	l, ok = s.letters[id]
	if ok && l.over() {
		delete(s.letters, id)
		return kept{}, false
	}
	return l, ok
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
	var found []handoff.DeadLetter
	for _, l := range s.letters {
		if !l.over() && l.RedrivenAt.IsZero() != query.Redriven && (query.Kind == "" || query.Kind == l.Kind) &&
			(query.Cursor == "" || newestFirst(l.DeadLetter, after) > 0) {
			found = append(found, l.DeadLetter)
		}
	}
	slices.SortFunc(found, newestFirst)
	var page handoff.DeadLetterPage
	if len(found) > limit {
		found = found[:limit]
		page.Next = letterCursor(found[limit-1])
	}
	for _, l := range found {
		if query.NoPayloads {
			l.Payload = nil
		}
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
	letter, ok := s.find(id)
	if !ok {
		return handoff.DeadLetter{}, fmt.Errorf("memstore: get dead letter %q: %w", id, handoff.ErrNoDeadLetter)
	}
	return clone(letter.DeadLetter), nil
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

// MarkRedriven implements [handoff.DeadLetterStore].
func (s *DeadLetters) MarkRedriven(ctx context.Context, id string, buriedAt time.Time) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memstore: mark dead letter: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.find(id); ok && l.BuriedAt.Equal(buriedAt) && l.RedrivenAt.IsZero() {
		l.RedrivenAt = time.Now()
		s.letters[id] = l
	}
	return nil
}

// CountByKind implements [handoff.DeadLetterStore].
func (s *DeadLetters) CountByKind(ctx context.Context) (map[string]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("memstore: count dead letters: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := make(map[string]int)
	for _, l := range s.letters {
		if !l.over() && l.RedrivenAt.IsZero() {
			counts[l.Kind]++
		}
	}
	return counts, nil
}

// clone returns a deep copy.
func clone(l handoff.DeadLetter) handoff.DeadLetter {
	l.Header = http.Header(l.Header).Clone()
	l.Payload = bytes.Clone(l.Payload)
	l.Reasons = slices.Clone(l.Reasons)
	return l
}

func newestFirst(a, b handoff.DeadLetter) int {
	return cmp.Or(b.BuriedAt.Compare(a.BuriedAt), strings.Compare(a.ID, b.ID))
}

// letterCursor returns a cursor that names the last letter of a page. Letters put
// later do not change what follows it.
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
		return handoff.DeadLetter{}, errors.New("DeadLetterQuery.Cursor is not the Next of a page")
	}
	return handoff.DeadLetter{BuriedAt: time.Unix(0, ns), ID: id}, nil
}
