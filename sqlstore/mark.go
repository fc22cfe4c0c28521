package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/brillconsulting/handoff"
)

// ErrUnknown is returned when nobody can say whether a transaction committed.
var ErrUnknown = errors.New("sqlstore: it is not known whether the transaction committed")

// resolvePatience is how long the end of a transaction is waited for whose
// commit was not answered.
const resolvePatience = 5 * time.Second

// work is a claim that a transaction marks: as done, or with the memo of a step.
type work struct {
	held  *handoff.Held
	lease handoff.Lease
	step  bool
	memo  []byte
}

func (w work) key() string { return name(w.lease.Key) }

// mark returns the statement that marks the work, and its arguments. run names
// the transaction of a Run.
func (db *DB) mark(w work, run string) (statement string, args []any) {
	l := w.lease
	args = []any{w.key(), ownerOf(l.Owner), w.held.Token(), int64(l.Redrives), int64(l.Generation), micros(l.Window)}
	if db.dialect == Postgres {
		args = append(args, max(1, l.TTL.Milliseconds()), run)
	}
	switch note := w.held.Note(); {
	case w.step:
		args[5] = micros(l.TTL)
		return db.sql.keepTx, append(args, w.memo)
	case db.inbox:
		return db.sql.inbox, args
	case note != nil:
		return db.sql.markEnding, append(args, note)
	}
	return db.sql.mark, args
}

// workOf returns the claim that ctx runs.
func workOf(ctx context.Context) (work, error) {
	held, ok := handoff.HeldFromContext(ctx)
	if !ok {
		return work{}, errors.New("the context is not that of a handler, so there is no task to mark as done")
	}
	return work{held: held, lease: held.Lease()}, nil
}

// A mark that was sent is known from then until the handler has returned: so
// long the leases that an open transaction holds, or has ended, are kept.
type markState int

const (
	markOpen  markState = iota + 1 // its transaction is open, or was rolled back by its owner
	markRun                        // a Run is open
	markEnded                      // committed, or nobody can say
)

var errNested = errors.New("another transaction that marks this task is open: use that one, Run and CompleteTx cannot be nested")

// open notes a mark that is about to be sent, by markRun or markOpen. Beside an
// open one it would wait for it, in the same goroutine most likely: that is an
// error.
func (db *DB) open(ctx context.Context, w work, state markState) error {
	owner := w.lease.Owner
	db.mu.Lock()
	before, known := db.marks[owner]
	if before == markRun {
		db.mu.Unlock()
		return errNested
	}
	db.marks[owner] = state
	db.mu.Unlock()
	if !known {
		context.AfterFunc(ctx, func() { db.setMark(owner, 0) })
		return nil
	}
	err := db.checkNested(ctx, w)
	if err != nil {
		db.setMark(owner, before)
	}
	return err
}

// checkNested returns an error if a transaction that marks the work is open. It
// does not ask SQLite, where the answer would have to wait for the transaction that
// is about to mark: two that write are never open at once.
func (db *DB) checkNested(ctx context.Context, w work) error {
	if db.dialect == SQLite {
		return nil
	}
	var err error
	if db.inbox {
		_, err = db.committedInInbox(ctx, w, lockPause)
	} else {
		_, err = db.ask(ctx, 0, db.sql.committed, w.key(), ownerOf(w.lease.Owner))
	}
	if errors.Is(err, errLocked) {
		return errNested
	}
	return db.explain(err)
}

// CompleteTx marks the task of ctx as done in a transaction of the caller's own:
// what else the transaction does and the mark are one commit. Call it first in
// the transaction: called last, a renewal of the lease in the meantime fails a
// transaction that is REPEATABLE READ or SERIALIZABLE.
//
// When the handler has returned, the router asks the database. If the transaction
// committed, the task is done, whatever the handler returned. If it was rolled
// back, the handler's error counts, and nil is a failure. If it is still open 5 s
// later, the delivery is Unavailable.
//
// It returns [handoff.ErrLeaseLost] or [handoff.ErrAlreadyDone] as [DB.Run] does;
// roll the transaction back then. PostgreSQL ends a transaction that sends no
// statement for as long as the router's lease. SQLite does not: until it is over,
// no other task is claimed and no lease is renewed.
func (db *DB) CompleteTx(ctx context.Context, tx Execer) error {
	w, err := workOf(ctx)
	if err = errors.Join(checkTx(tx), err); err == nil {
		err = db.markTx(ctx, tx, w)
	}
	if err != nil {
		return fmt.Errorf("sqlstore: complete in a transaction: %w", err)
	}
	return nil
}

// markTx marks the work in a transaction of the caller's own.
func (db *DB) markTx(ctx context.Context, tx Execer, w work) error {
	if err := db.checkIn(ctx, tx); err != nil {
		return err
	}
	if err := db.open(ctx, w, markOpen); err != nil {
		return err
	}
	statement, args := db.mark(w, "")
	result, err := tx.ExecContext(ctx, statement, db.args(args...)...)
	if err == nil {
		err = db.hit(ctx, db.querier(tx), w, result)
	}
	if err != nil {
		db.setMark(w.lease.Owner, 0)
		return db.explain(err)
	}
	db.tell(w, func(ctx context.Context) (bool, error) { return db.committed(ctx, w) })
	return nil
}

// tell has the router ask committed, when the handler has returned. A step leaves
// nothing to ask for.
func (db *DB) tell(w work, committed func(ctx context.Context) (bool, error)) {
	switch {
	case w.step:
	case db.inbox:
		w.held.MarkedBeside(committed)
	default:
		w.held.Marked(committed)
	}
}

// hit returns nil if a statement that marks hit its row.
func (db *DB) hit(ctx context.Context, q querier, w work, result sql.Result) error {
	n, err := result.RowsAffected()
	if err == nil && n != 1 {
		err = db.refused(ctx, q, w)
	}
	return err
}

// setMark notes what became of a mark; 0 is for none.
func (db *DB) setMark(owner string, state markState) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if state == 0 {
		delete(db.marks, owner)
		return
	}
	db.marks[owner] = state
}

// marked reports whether a transaction of this process has marked the work of l,
// and its handler has not returned.
func (db *DB) marked(l handoff.Lease) bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.marks[l.Owner] != 0
}

// committed asks the database whether the mark was committed. It waits until no
// other transaction holds the row, since a plain read shows the row as it was
// while a COMMIT is still on its way.
func (db *DB) committed(ctx context.Context, w work) (bool, error) {
	if db.inbox {
		return db.committedInInbox(ctx, w, resolvePatience)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*resolvePatience)
	defer cancel()
	statement, args := db.sql.committed, []any{w.key(), ownerOf(w.lease.Owner)}
	if w.step {
		statement, args = db.sql.kept, append(args, w.memo)
	}
	answer, err := db.ask(ctx, resolvePatience, statement, args...)
	switch {
	case err != nil:
		return false, fmt.Errorf("%w: %w", ErrUnknown, db.explain(err))
	case answer == "changed":
		return true, nil
	case answer == "lost":
		return false, nil
	}
	return false, fmt.Errorf("%w: the record of the task is gone, or of another delivery", ErrUnknown)
}

// refused says why a mark hit no row. It asks in the transaction, which may hold the
// only connection.
func (db *DB) refused(ctx context.Context, q querier, w work) error {
	if db.inbox {
		return handoff.ErrAlreadyDone
	}
	record, err := db.show(ctx, q, w.lease.Key)
	switch {
	case err != nil:
		return err
	case record.State == "absent":
		return fmt.Errorf("there is no record of this task in schema %q: the router's Store must be DB.Store of this database; with another Store set Config.Inbox", db.schema)
	case record.Owner == decimal(ownerOf(w.lease.Owner)) && (record.State == stateNames[stateDone] || record.State == stateNames[stateEnding]):
		return handoff.ErrAlreadyDone
	}
	return handoff.ErrLeaseLost
}
