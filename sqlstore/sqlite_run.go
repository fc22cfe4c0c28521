package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// The drivers for SQLite share no type for its errors, but their texts, which are
// SQLite's own.

// isBusy reports whether another connection held the lock for too long. Nothing was
// changed then.
func (db *DB) isBusy(err error) bool {
	return db.says(err, "database is locked", "database table is locked")
}

// isOver reports whether there was no transaction to end.
func (db *DB) isOver(err error) bool { return db.says(err, "no transaction is active") }

func (db *DB) says(err error, texts ...string) bool {
	if err == nil || db.dialect != SQLite {
		return false
	}
	for _, text := range texts {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// hintSQLite is [DB.hint] for SQLite.
func (db *DB) hintSQLite(err error) string {
	switch {
	case db.says(err, "no such table", "no such column", "has no column"):
		return fmt.Sprintf("no tables of this version whose names begin with %q: run DB.Migrate, or the files of sqlstore.Migrations", db.schema+"_")
	case db.says(err, "readonly database"):
		return "the database takes no writes; its file and its folder must be writable"
	case db.says(err, "disk is full"):
		return "the database's disk is full"
	case db.isBusy(err):
		return "another transaction went on writing to the database; transactions must be short, and begin with BEGIN IMMEDIATE"
	}
	return ""
}

// errRunLimit is the cause of the end of a context that limit returned.
var errRunLimit = errors.New("while a Run is open in SQLite, no other task can be claimed and no lease renewed")

// limit returns the context of the function of a Run. With SQLite it ends after a
// third of the lease, so that the leases of other tasks can be renewed. The
// transaction then ends too, although the function may go on. Release must be
// called when that has returned; it returns why the context ended, if it did.
func (r *run) limit(parent context.Context, conn *sql.Conn) (ctx context.Context, release func() error) {
	if r.db.dialect != SQLite {
		return parent, func() error { return context.Cause(parent) }
	}
	after := r.work.lease.TTL / 3
	cause := fmt.Errorf("sqlstore: run: the function was ended after %v, a third of the router's lease: %w", after, errRunLimit)
	ctx, cancel := context.WithTimeoutCause(parent, after, cause)
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		r.db.rollback(ctx, conn)
		// For what the function still sends: see runTx.sent.
		if _, err := conn.ExecContext(context.WithoutCancel(ctx), "BEGIN"); err != nil {
			discard(conn)
		}
		r.leave()
	})
	return ctx, sync.OnceValue(func() error {
		defer cancel()
		if !stop() {
			<-ended
		}
		return context.Cause(ctx)
	})
}

// notCommitted finds out what an error of COMMIT means, or of the statement before
// it.
func (r *run) notCommitted(ctx context.Context, conn *sql.Conn, err error) error {
	r.db.rollback(ctx, conn)
	if r.db.says(err, "no such savepoint") {
		return errEnded
	}
	_ = conn.Close() // it may be the only one of the pool, which will be asked
	return r.resolve(ctx, r.db.explain(err))
}
