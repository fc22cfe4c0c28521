package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/gob"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
)

// What bounds the letters, and a page of them.
const (
	letterAge   = 30 * 24 * time.Hour
	letterCount = 10_000
	pageBytes   = 8 << 20
)

// DeadLetters is a [handoff.DeadLetterStore] in SQL. It is safe for concurrent
// use. It keeps 10,000 letters, each for 30 days from when it was put; beyond
// that, Put removes the redriven first, then the oldest. Get it from
// [DB.DeadLetters].
type DeadLetters struct{ db *DB }

var _ handoff.DeadLetterStore = (*DeadLetters)(nil)

// DeadLetters returns the store of dead letters in this database.
func (db *DB) DeadLetters() *DeadLetters { return &DeadLetters{db} }

// Retention implements [handoff.DeadLetterStore].
func (s *DeadLetters) Retention() time.Duration { return letterAge }

// Put implements [handoff.DeadLetterStore].
func (s *DeadLetters) Put(ctx context.Context, letter handoff.DeadLetter) error {
	if letter.ID == "" {
		return errors.New("sqlstore: put dead letter: DeadLetter.ID is empty")
	}
	payload, buried := letter.Payload, letter.BuriedAt.UnixMicro()
	letter.Payload, letter.RedrivenAt = nil, time.Time{}
	var text bytes.Buffer
	err := gob.NewEncoder(&text).Encode(letter)
	if err == nil {
		err = s.exec(ctx, s.db.sql.putLetter, letter.ID, bytesName(letter.Kind), buried, text.Bytes(), payload)
	}
	if err != nil {
		return wrapLetter("put dead letter", err)
	}
	if err := s.exec(ctx, s.db.sql.trimLetters, letter.ID, letterCount); err != nil {
		s.db.log.WarnContext(ctx, "sqlstore: old dead letters could not be removed", "error", err) // this one is kept
	}
	return nil
}

// exec runs a statement whose first parameters are the ID of a letter and the
// retention.
func (s *DeadLetters) exec(ctx context.Context, statement, id string, more ...any) error {
	if err := s.db.check(ctx); err != nil {
		return err
	}
	_, err := s.db.exec(ctx, statement, append([]any{bytesName(id), micros(letterAge)}, more...)...)
	return s.db.explain(err)
}

// List implements [handoff.DeadLetterStore].
func (s *DeadLetters) List(ctx context.Context, query handoff.DeadLetterQuery) (handoff.DeadLetterPage, error) {
	limit, limitErr := query.PageSize()
	at, after, cursorErr := parseCursor(query.Cursor)
	err := errors.Join(limitErr, cursorErr)
	if err == nil {
		err = s.db.check(ctx)
	}
	if err != nil {
		return handoff.DeadLetterPage{}, wrapLetter("list dead letters", err)
	}
	// One more than asked for shows whether there is another page.
	statement, args := s.db.sql.listLetters, []any{after, micros(letterAge), at, limit + 1, query.Redriven, !query.NoPayloads, pageBytes}
	if query.Kind != "" {
		statement, args = s.db.sql.listKind, append(args, bytesName(query.Kind))
	}
	rows, err := s.db.query(ctx, statement, args...)
	if err != nil {
		return handoff.DeadLetterPage{}, wrapLetter("list dead letters", s.db.explain(err))
	}
	page, err := readPage(rows, limit)
	return page, wrapLetter("list dead letters", err)
}

func readPage(rows *sql.Rows, limit int) (handoff.DeadLetterPage, error) {
	defer rows.Close()
	var page handoff.DeadLetterPage
	var found int
	for rows.Next() && len(page.Letters) < limit {
		letter, err := scanLetter(rows, &found)
		if err != nil {
			return handoff.DeadLetterPage{}, err
		}
		page.Letters = append(page.Letters, letter)
	}
	if n := len(page.Letters); n > 0 && n < found {
		last := page.Letters[n-1]
		page.Next = strconv.FormatInt(last.BuriedAt.UnixMicro(), 10) + "~" + last.ID
	}
	return page, rows.Err()
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

func scanLetter(row scanner, more ...any) (letter handoff.DeadLetter, err error) {
	var text, payload []byte
	var redriven sql.NullInt64
	if err := row.Scan(append([]any{&text, &payload, &redriven}, more...)...); err != nil {
		return letter, err
	}
	if gob.NewDecoder(bytes.NewReader(text)).Decode(&letter) != nil {
		return letter, errors.New("the stored value is not a dead letter") // the error must not quote it
	}
	letter.Payload = payload
	if redriven.Valid {
		letter.RedrivenAt = time.UnixMicro(redriven.Int64)
	}
	return letter, nil
}

// Get implements [handoff.DeadLetterStore].
func (s *DeadLetters) Get(ctx context.Context, id string) (letter handoff.DeadLetter, err error) {
	err = s.db.check(ctx)
	if err == nil {
		letter, err = scanLetter(s.db.queryRow(ctx, s.db.sql.getLetter, bytesName(id), micros(letterAge)))
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%q: %w", id, handoff.ErrNoDeadLetter)
	}
	return letter, wrapLetter("get dead letter", s.db.explain(err))
}

// Delete implements [handoff.DeadLetterStore].
func (s *DeadLetters) Delete(ctx context.Context, id string) error {
	err := s.db.check(ctx)
	if err == nil {
		_, err = s.db.exec(ctx, s.db.sql.deleteLetter, bytesName(id))
	}
	return wrapLetter("delete dead letter", s.db.explain(err))
}

// MarkRedriven implements [handoff.DeadLetterStore].
func (s *DeadLetters) MarkRedriven(ctx context.Context, id string, buriedAt time.Time) error {
	return wrapLetter("mark dead letter", s.exec(ctx, s.db.sql.markLetter, id, buriedAt.UnixMicro()))
}

// CountByKind implements [handoff.DeadLetterStore].
func (s *DeadLetters) CountByKind(ctx context.Context) (map[string]int, error) {
	if err := s.db.check(ctx); err != nil {
		return nil, wrapLetter("count dead letters", err)
	}
	rows, err := s.db.query(ctx, s.db.sql.countLetters, nil, micros(letterAge))
	if err != nil {
		return nil, wrapLetter("count dead letters", s.db.explain(err))
	}
	defer rows.Close()
	counts := make(map[string]int)
	for rows.Next() {
		var kind []byte
		var n int
		if err := rows.Scan(&kind, &n); err != nil {
			return nil, wrapLetter("count dead letters", err)
		}
		counts[string(kind)] = n
	}
	return counts, wrapLetter("count dead letters", rows.Err())
}

func wrapLetter(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("sqlstore: %s: %w", verb, err)
}

// parseCursor takes apart what names the last letter of the page before. The
// empty cursor is before the newest.
func parseCursor(cursor string) (at int64, after []byte, err error) {
	if cursor == "" {
		return 1<<63 - 1, []byte{}, nil
	}
	before, id, ok := strings.Cut(cursor, "~")
	at, err = strconv.ParseInt(before, 10, 64)
	if !ok || err != nil {
		return 0, nil, errors.New("DeadLetterQuery.Cursor is not the Next of a page")
	}
	return at, bytesName(id), nil
}
