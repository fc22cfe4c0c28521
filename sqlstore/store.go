package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/brillconsulting/handoff"
)

// Store is a [handoff.Store] in SQL. It is safe for concurrent use. Get it from
// [DB.Store].
//
// Every method is one statement, but a claim of work that has a record is two, and
// with SQLite a renewal.
// None waits for a record that a transaction holds, as [DB.Run] does for as long as it runs: a claim of such a record is
// busy, and a lease that an open transaction of this process holds is kept. With
// SQLite all wait for an open transaction that writes.
//
// Expired records are removed by claims: each thousandth of a process removes up
// to two thousand.
type Store struct {
	db     *DB
	claims atomic.Uint64
}

var _ handoff.KeyStore = (*Store)(nil)

// Store returns the fence in this database.
func (db *DB) Store() *Store { return &Store{db: db} }

const (
	sweepEvery = 1000 // claims
	sweepBatch = 500  // rows a statement
	sweepMost  = 4    // statements in a row
)

// Claim implements [handoff.Store].
func (s *Store) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	if err := s.begin(ctx, l); err != nil {
		return handoff.Claim{}, fmt.Errorf("sqlstore: claim: %w", err)
	}
	var claim handoff.Claim
	err := s.db.retry(ctx, func() (err error) {
		claim, err = s.claim(ctx, l)
		return err
	})
	if err != nil {
		return handoff.Claim{}, fmt.Errorf("sqlstore: claim: %w", s.db.explain(err))
	}
	if s.claims.Add(1)%sweepEvery == 0 {
		s.db.sweep(ctx, s.db.sql.sweep)
	}
	return claim, nil
}

// claim tries the statement first that most claims need no more than: it is half
// as dear as the other one.
func (s *Store) claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	args := []any{name(l.Key), ownerOf(l.Owner), l.Redrives, l.Generation, micros(l.TTL), micros(l.Window)}
	if s.db.sql.claimNew != "" {
		var token int64
		err := s.db.queryRow(ctx, s.db.sql.claimNew, args...).Scan(&token)
		if !errors.Is(err, sql.ErrNoRows) {
			return handoff.Claim{Status: handoff.ClaimAcquired, Attempt: 1, Token: token, First: time.UnixMicro(token)}, err
		}
	}
	args = append(args, textOrNull(l.Freed))
	var c claimRow
	err := c.scan(s.db.queryRow(ctx, s.db.sql.claim, args...))
	if errors.Is(err, sql.ErrNoRows) && s.db.sql.found != "" {
		err = c.scan(s.db.queryRow(ctx, s.db.sql.found, args...))
	}
	if errors.Is(err, sql.ErrNoRows) { // the record was removed in between
		return handoff.Claim{Status: handoff.ClaimBusy, Left: time.Millisecond}, nil
	}
	return c.claim(), err
}

// claimRow is what the statement of a claim returns.
type claimRow struct {
	verdict string
	state   int
	attempt int
	token   int64
	first   int64
	crashed bool
	memo    []byte
	note    []byte
	letter  []byte
	left    int64
}

func (r *claimRow) scan(row *sql.Row) error {
	return row.Scan(&r.verdict, &r.state, &r.attempt, &r.token, &r.first, &r.crashed, &r.memo, &r.note, &r.letter, &r.left)
}

func (r *claimRow) claim() handoff.Claim {
	switch r.verdict {
	case "busy":
		return handoff.Claim{Status: handoff.ClaimBusy, Left: time.Duration(r.left) * time.Microsecond}
	case "done":
		return handoff.Claim{Status: handoff.ClaimDone}
	case "superseded":
		return handoff.Claim{Status: handoff.ClaimSuperseded}
	case "dead":
		return handoff.Claim{Status: handoff.ClaimDead, Letter: string(r.letter)}
	}
	c := handoff.Claim{Attempt: r.attempt, Token: r.token, First: time.UnixMicro(r.first)}
	if r.state == stateEnding {
		c.Status, c.Note = handoff.ClaimEnding, r.note
		return c
	}
	c.Status, c.Crashed, c.Memo = handoff.ClaimAcquired, r.crashed, r.memo
	return c
}

// The states of a record, as the column has them.
const (
	stateRunning = iota + 1
	stateIdle
	stateOpened
	stateEnding
	stateDone
	stateDead
)

var stateNames = map[int]string{
	stateRunning: "running", stateIdle: "idle", stateOpened: "opened", stateEnding: "ending", stateDone: "done", stateDead: "dead",
}

// sweep removes some of the rows that have expired.
func (db *DB) sweep(ctx context.Context, statement string) {
	for range sweepMost {
		result, err := db.exec(ctx, statement, sweepBatch)
		if err != nil {
			db.log.WarnContext(ctx, "sqlstore: expired rows could not be removed", "error", err)
			return
		}
		if n, err := result.RowsAffected(); err != nil || n < sweepBatch {
			return
		}
	}
}

// Renew implements [handoff.Store].
func (s *Store) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	held, err := s.renew(ctx, leases)
	if err != nil {
		return held, fmt.Errorf("sqlstore: renew: %w", s.db.explain(err))
	}
	return held, nil
}

func (s *Store) renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	if err := s.begin(ctx, leases...); err != nil {
		return nil, err
	}
	held := make([]bool, len(leases))
	var asked []int // places in leases
	for i := range leases {
		asked = append(asked, i)
	}
	// A row may be locked for a moment, by a claim or a release: what was
	// skipped is asked for again.
	err := s.db.unlocked(ctx, lockTimeout, func() (locked bool, err error) {
		asked, err = s.renewSome(ctx, leases, asked, held)
		return len(asked) > 0, err
	})
	return held, err
}

// renewSome sets held for the leases that were asked for, and returns those
// whose rows are locked by a stranger.
func (s *Store) renewSome(ctx context.Context, leases []handoff.Lease, asked []int, held []bool) (locked []int, err error) {
	list := make([][4]any, len(asked))
	for i, place := range asked {
		l := leases[place]
		// Numbers as strings: JSON's own are not exact everywhere.
		list[i] = [4]any{name(l.Key), decimal(ownerOf(l.Owner)), decimal(micros(l.TTL)), decimal(micros(l.Window))}
	}
	text, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	if s.db.sql.extend != "" {
		if _, err := s.db.exec(ctx, s.db.sql.extend, string(text)); err != nil {
			return nil, err
		}
	}
	rows, err := s.db.query(ctx, s.db.sql.renew, string(text))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	lost := make(map[int]bool)
	for rows.Next() {
		var i int
		var state string
		if err := rows.Scan(&i, &state); err != nil {
			return nil, err
		}
		marked := state != "lost" && s.db.marked(leases[asked[i]])
		lost[asked[i]] = !marked
		if state == "locked" && !marked {
			locked = append(locked, asked[i])
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for _, place := range asked {
		held[place] = !lost[place]
	}
	return locked, nil
}

// Keep implements [handoff.Store].
func (s *Store) Keep(ctx context.Context, l handoff.Lease, memo []byte) error {
	if len(memo) > handoff.MaxMemo {
		return fmt.Errorf("sqlstore: keep: a memo of %d bytes; the most is %d", len(memo), handoff.MaxMemo)
	}
	s.db.mu.Lock()
	inside := s.db.marks[l.Owner] == markRun
	s.db.mu.Unlock()
	if inside { // it would wait for the Run, which waits for it
		return errors.New("sqlstore: keep: a Run of this task is open, and holds its record: keep the memo, or begin the step, outside of it")
	}
	if len(memo) == 0 {
		memo = nil
	}
	return s.change(ctx, "keep", l, s.db.sql.keep, memo)
}

// End implements [handoff.Store].
func (s *Store) End(ctx context.Context, l handoff.Lease, note []byte) error {
	return s.change(ctx, "end", l, s.db.sql.end, note)
}

// Complete implements [handoff.Store].
func (s *Store) Complete(ctx context.Context, l handoff.Lease) error {
	return s.change(ctx, "complete", l, s.db.sql.complete, int(l.Opens), textOrNull(l.Letter))
}

// Release implements [handoff.Store].
func (s *Store) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	return s.change(ctx, "release", l, s.db.sql.release, counted)
}

// change runs a statement that changes a record which its owner holds.
func (s *Store) change(ctx context.Context, verb string, l handoff.Lease, statement string, more ...any) error {
	err := s.begin(ctx, l)
	if err == nil {
		args := append([]any{name(l.Key), ownerOf(l.Owner), micros(l.Window)}, more...)
		err = s.db.changed(ctx, handoff.ErrLeaseLost, statement, args...)
	}
	if err != nil {
		return fmt.Errorf("sqlstore: %s: %w", verb, err)
	}
	return nil
}

// begin is what every call of the Store does first.
func (s *Store) begin(ctx context.Context, leases ...handoff.Lease) error {
	for _, l := range leases {
		if err := l.Validate(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.check(ctx)
}

// ShowKey implements [handoff.KeyStore].
func (s *Store) ShowKey(ctx context.Context, key string) (handoff.KeyRecord, error) {
	err := s.checkKey(ctx, key)
	var r handoff.KeyRecord
	if err == nil {
		r, err = s.db.show(ctx, s.db.pool, key)
	}
	if err != nil {
		return handoff.KeyRecord{}, fmt.Errorf("sqlstore: show key: %w", s.db.explain(err))
	}
	return r, nil
}

func (db *DB) show(ctx context.Context, q querier, key string) (r handoff.KeyRecord, err error) {
	var state int
	var letter []byte
	var owner, first, leaseEnd, expires int64
	err = q.QueryRowContext(ctx, db.sql.show, db.args(name(key))...).
		Scan(&state, &owner, &r.Redrives, &r.Generation, &r.Attempt, &r.Token, &first, &leaseEnd, &letter, &r.Memo, &expires)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return handoff.KeyRecord{State: "absent"}, nil
	case err != nil:
		return handoff.KeyRecord{}, err
	}
	r.State, r.Owner, r.Letter = stateNames[state], decimal(owner), string(letter)
	r.First, r.Expires = time.UnixMicro(first), time.UnixMicro(expires)
	if leaseEnd > 0 {
		r.Held = time.UnixMicro(leaseEnd)
	}
	return r, nil
}

// FreeKey implements [handoff.KeyStore].
func (s *Store) FreeKey(ctx context.Context, key string) error {
	err := s.checkKey(ctx, key)
	var answer string
	if err == nil {
		answer, err = s.db.ask(ctx, lockTimeout, s.db.sql.free, name(key))
	}
	if answer == noRow && err == nil {
		var record handoff.KeyRecord
		if record, err = s.db.show(ctx, s.db.pool, key); !record.Held.IsZero() {
			answer = "held"
		}
	}
	if answer == "held" || errors.Is(err, errLocked) {
		err = handoff.ErrKeyHeld
	}
	if err != nil {
		return fmt.Errorf("sqlstore: free key: %w", s.db.explain(err))
	}
	return nil
}

func (s *Store) checkKey(ctx context.Context, key string) error {
	if key == "" {
		return errors.New("the key is empty")
	}
	return s.db.check(ctx)
}

// textOrNull is a text that may be any bytes.
func textOrNull(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// forever keeps sums of times within an int64.
const forever = 100 * 365 * 24 * time.Hour

// micros rounds up, so that a short time is not none.
func micros(d time.Duration) int64 { return int64((min(d, forever)-1)/time.Microsecond) + 1 }
