package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// The inbox is for routers whose Store is another: a Run inserts the key of its
// work, and finds there what was done before. Rows live as long as the record of
// the work would.

// committedInInbox is [DB.committed] for a mark in the inbox. The error wraps
// errLocked if a transaction still holds the row after wait.
func (db *DB) committedInInbox(ctx context.Context, w work, wait time.Duration) (done bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*resolvePatience)
	defer cancel()
	if db.sql.probeInbox == "" {
		done, err = db.askInbox(ctx, w)
	} else {
		done, err = db.probeInbox(ctx, w, wait)
	}
	if sqlState(err) == "55P03" { // lock_not_available
		err = errors.Join(errLocked, err)
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrUnknown, db.explain(err))
	}
	return done, nil
}

// askInbox is for a dialect whose question waits for open transactions by itself.
func (db *DB) askInbox(ctx context.Context, w work) (done bool, err error) {
	err = db.retry(ctx, func() error {
		return db.queryRow(ctx, db.sql.committedInbox, w.key(), ownerOf(w.lease.Owner)).Scan(&done)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return done, err
}

func (db *DB) probeInbox(ctx context.Context, w work, wait time.Duration) (done bool, err error) {
	conn, err := db.pool.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer db.rollback(ctx, conn)
	if _, err := conn.ExecContext(ctx, inline(db.sql.probeInbox, w.key(), wait.Milliseconds())); err != nil {
		return false, err
	}
	err = conn.QueryRowContext(ctx, db.sql.committedInbox, w.key(), ownerOf(w.lease.Owner)).Scan(&done)
	return done, err
}

// sweepInbox removes some of the rows that have expired, now and then.
func (db *DB) sweepInbox(ctx context.Context) {
	if db.runs.Add(1)%sweepEvery == 0 {
		db.sweep(ctx, db.sql.sweepInbox)
	}
}
