package sqlstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/brillconsulting/handoff"
)

// RunStep is like [DB.Run] for a part of a task: it runs fn in a transaction that also
// stores memo with the task, as [handoff.Held.Keep] does, instead of marking the task as
// done. What fn wrote and the memo are one commit. A later attempt finds the memo,
// and so what is done. Package steps calls it in steps.Tx.
//
// memo must be another than before, and have at most [handoff.MaxMemo] bytes. The
// router's Store must be [DB.Store]. Once RunStep has returned nil, the memo is stored,
// and the lease is a whole one again. After [ErrUnknown] the attempt should end: the
// next one finds the memo if the transaction committed.
func (db *DB) RunStep(ctx context.Context, memo []byte, fn func(ctx context.Context, tx Tx) error) error {
	w, err := db.stepOf(ctx, memo)
	if err != nil {
		return fmt.Errorf("sqlstore: run a step: %w", err)
	}
	return db.run(ctx, w, fn)
}

// KeepTx is like [DB.RunStep] in a transaction of the caller's own: what else the
// transaction does and the memo are one commit. Call it first in the transaction, for the
// reason that [DB.CompleteTx] has. Call [handoff.Held.Kept] when it has committed. If it
// was not, or nobody can say, end the attempt: the next one finds the memo if the
// transaction committed.
//
// The lease is renewed when the transaction is over. After one that took longer than the
// lease, another delivery may take over the task first: the next call that names the lease
// then returns [handoff.ErrLeaseLost].
func (db *DB) KeepTx(ctx context.Context, tx Execer, memo []byte) error {
	w, err := db.stepOf(ctx, memo)
	if err = errors.Join(checkTx(tx), err); err == nil {
		err = db.markTx(ctx, tx, w)
	}
	if err != nil {
		return fmt.Errorf("sqlstore: keep in a transaction: %w", err)
	}
	return nil
}

// stepOf returns the claim that ctx runs, to be marked with memo.
func (db *DB) stepOf(ctx context.Context, memo []byte) (work, error) {
	w, err := workOf(ctx)
	switch {
	case err != nil:
		return w, err
	case db.inbox:
		return w, errors.New("Config.Inbox is for a router with another Store; a memo is kept in the transaction only if the router's Store is DB.Store")
	case len(memo) == 0 || len(memo) > handoff.MaxMemo:
		return w, fmt.Errorf("the memo has %d bytes, must be 1 to %d", len(memo), handoff.MaxMemo)
	case bytes.Equal(memo, w.held.Memo()):
		return w, errors.New("the memo is the one before; it must say what is done now")
	}
	w.step, w.memo = true, memo
	return w, nil
}

// commit returns the statements that commit a Run or a step.
func (db *DB) commit(w work, run string) string {
	switch {
	case db.dialect == SQLite:
		return db.sql.commit // a Run is shorter than a lease
	case w.step:
		return inline(db.sql.keepCommit, run, w.key(), micros(w.lease.TTL))
	}
	return inline(db.sql.commit, run)
}
