package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// Run runs fn in a transaction that also marks the task of ctx as done: what fn
// wrote and the mark are one commit. Call it in a handler whose router has
// [DB.Store] as its Store, or set [Config].Inbox where it has another.
//
//	handoff.Handle(router, func(ctx context.Context, c ChargeCard) error {
//		return db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
//			_, err := tx.ExecContext(ctx, `UPDATE accounts SET …`)
//			return err
//		})
//	})
//
// The mark comes first. So fn does not run if the lease is lost, for which Run
// returns [handoff.ErrLeaseLost], or if the work is done, for which it returns
// [handoff.ErrAlreadyDone]. No other delivery of the task can begin until the
// transaction is over. If fn returns an error or panics, all is rolled back, the
// mark included, and Run returns that error.
//
// Once Run has returned nil the task is done, whatever the handler returns. Where
// the response to COMMIT was lost, Run asks the database; if that cannot say
// within 5 s either, the error is [ErrUnknown], and the task is delivered again
// once its lease is over.
//
// A transaction that the database refused because of another one
// (serialization_failure, deadlock_detected) is begun again, three times in all:
// fn must be fit to be repeated, and must return the database's error. It must
// not end the transaction; savepoints are allowed. PostgreSQL ends the
// transaction if fn sends no statement for as long as the router's lease.
//
// In SQLite the transaction holds the lock of all writers, so no other task is
// claimed meanwhile and no lease renewed. Run begins it with BEGIN IMMEDIATE, and
// ends the context of fn, and the transaction, after a third of the router's lease.
func (db *DB) Run(ctx context.Context, fn func(ctx context.Context, tx Tx) error) error {
	w, err := workOf(ctx)
	if err != nil {
		return fmt.Errorf("sqlstore: run: %w", err)
	}
	return db.run(ctx, w, fn)
}

// run runs fn in a transaction that marks the work.
func (db *DB) run(ctx context.Context, w work, fn func(ctx context.Context, tx Tx) error) error {
	err := db.check(ctx)
	if err == nil {
		err = db.open(ctx, w, markRun)
	}
	if err != nil {
		return fmt.Errorf("sqlstore: run: %w", err)
	}
	r := &run{db: db, work: w, id: strconv.FormatUint(rand.Uint64(), 36)}
	defer func() { db.setMark(w.lease.Owner, r.state) }()
	for try := 1; ; try++ {
		err := r.once(ctx, fn)
		if r.state != 0 || try == conflictTries || !isConflict(err) || sleep(ctx, time.Duration(try)*lockPause) != nil {
			return err
		}
	}
}

// run is one call of Run.
type run struct {
	db    *DB
	work  work
	id    string    // of the transaction, in a setting that ends with it
	leave func()    // ends its turn
	state markState // when Run returns
}

// once is one try.
func (r *run) once(ctx context.Context, fn func(ctx context.Context, tx Tx) error) error {
	leave, err := r.db.takeTurn(ctx)
	if err != nil {
		return fmt.Errorf("sqlstore: run: %w", err)
	}
	r.leave = leave
	defer leave()
	conn, err := r.db.pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("sqlstore: run: %w", r.db.explain(err))
	}
	defer conn.Close()
	if err := r.begin(ctx, conn); err != nil {
		r.db.rollback(ctx, conn)
		return fmt.Errorf("sqlstore: run: %w", err)
	}
	if err := r.call(ctx, conn, fn); err != nil {
		return err
	}
	return r.commit(ctx, conn)
}

// begin begins the transaction and marks the work: in one message, where messages
// take time.
func (r *run) begin(ctx context.Context, conn *sql.Conn) (err error) {
	statement, args := r.db.mark(r.work, r.id)
	var result sql.Result
	if r.db.dialect == SQLite {
		err = r.db.begin(ctx, conn, r.db.sql.begin)
		if err == nil {
			result, err = conn.ExecContext(ctx, statement, r.db.args(args...)...)
		}
	} else {
		result, err = conn.ExecContext(ctx, "BEGIN"+isolations[r.db.isolation]+"; "+inline(statement, args...))
	}
	if err != nil {
		return r.db.explain(err)
	}
	return r.db.hit(ctx, conn, r.work, result)
}

// begin begins a transaction, as soon as the database is not busy.
func (db *DB) begin(ctx context.Context, conn *sql.Conn, statement string) error {
	return db.repeat(ctx, func() error {
		_, err := conn.ExecContext(ctx, statement)
		return err
	})
}

// call runs the user's function, and rolls back unless it returned nil.
func (r *run) call(ctx context.Context, conn *sql.Conn, fn func(ctx context.Context, tx Tx) error) (err error) {
	ctx, release := r.limit(ctx, conn)
	tx := &runTx{ctx: ctx, conn: conn, dialect: r.db.dialect}
	returned := false
	defer func() { // also in a panic, and when fn ends its goroutine
		tx.over.Store(true)
		_ = release()
		if !returned || err != nil {
			r.db.rollback(ctx, conn)
		}
	}()
	err = fn(ctx, tx)
	returned = true
	ended := release()
	if misuse := tx.misuse.Load(); misuse != nil {
		err = *misuse
	}
	switch {
	case errors.Is(ended, errRunLimit):
		err = errors.Join(ended, err)
	case err == nil:
		err = ended // the lease is lost, or the time is over
	}
	if r.db.isBusy(err) { // no statement of tx is: it holds the lock
		err = fmt.Errorf("sqlstore: run: the function waited for another transaction, or by the pool for its own; write by tx alone: %w", err)
	}
	if sqlState(err) == idleTimeout {
		err = fmt.Errorf("sqlstore: run: the function sent no statement for %v, the router's lease: %w", r.work.lease.TTL, err)
	}
	return err
}

// idleTimeout is idle_in_transaction_session_timeout.
const idleTimeout = "25P03"

// rollback ends the transaction, if one is open. A connection that does not answer
// is closed, so that the database ends it.
func (db *DB) rollback(ctx context.Context, conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resolvePatience)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil && !db.isOver(err) {
		discard(conn)
	}
}

// discard keeps a connection in an unknown state out of the pool.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// commit ends the transaction, and finds out whether it committed.
func (r *run) commit(ctx context.Context, conn *sql.Conn) error {
	r.ended(r.ask) // until more is known
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), resolvePatience)
	defer cancel()
	_, err := conn.ExecContext(within, r.db.commit(r.work, r.id))
	r.leave()
	if err == nil {
		r.committed()
		if r.db.inbox {
			r.db.sweepInbox(ctx)
		}
		return nil
	}
	if r.db.dialect == SQLite {
		return r.notCommitted(ctx, conn, err)
	}
	switch state := sqlState(err); {
	case state == "22012": // division_by_zero: of the statement before COMMIT
		discard(conn)
		return errEnded
	case state == "25P02": // in_failed_sql_transaction
		r.db.rollback(ctx, conn)
		r.gone()
		return fmt.Errorf("sqlstore: run: rolled back, because a statement failed and the function did not return its error: %w", err)
	case isRefusal(state):
		r.db.rollback(ctx, conn)
		r.gone()
		return fmt.Errorf("sqlstore: run: commit: %w", r.db.explain(err))
	}
	discard(conn)
	return r.resolve(ctx, r.db.explain(err))
}

var errEnded = fmt.Errorf("sqlstore: run: the function ended the transaction; it must return nil to commit and an error to roll back: %w", ErrUnknown)

// isRefusal reports whether the database has refused a COMMIT. It may have
// carried one out that it reports the end of the connection for.
func isRefusal(state string) bool {
	if len(state) != len("40001") {
		return false
	}
	switch state[:2] {
	case "08", "57", "58", "XX": // connection, operator, system, internal
		return false
	}
	return state != idleTimeout
}

// resolve asks whether a transaction committed whose end was not seen.
func (r *run) resolve(ctx context.Context, cause error) error {
	done, err := r.ask(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("sqlstore: run: %w: %w", err, cause)
	case !done:
		r.gone()
		return fmt.Errorf("sqlstore: run: rolled back: %w", cause)
	}
	r.committed()
	return nil
}

func (r *run) ask(ctx context.Context) (bool, error) { return r.db.committed(ctx, r.work) }

// ended notes that COMMIT was sent, and whom the router asks what came of it.
func (r *run) ended(committed func(ctx context.Context) (bool, error)) {
	r.state = markEnded
	r.db.tell(r.work, committed)
}

// committed notes that the transaction committed. After a step the work goes on,
// and its lease is renewed as any.
func (r *run) committed() {
	if r.work.step {
		r.state = 0
		r.work.held.Kept(r.work.memo)
		return
	}
	r.ended(func(context.Context) (bool, error) { return true, nil })
}

// gone notes that the mark was rolled back.
func (r *run) gone() {
	r.state = 0
	r.db.tell(r.work, nil)
}
