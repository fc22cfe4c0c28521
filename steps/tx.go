package steps

import (
	"context"
	"fmt"
)

// Database is where [Tx] runs its transactions. A *sqlstore.DB is one, with
// sqlstore.Tx as T.
type Database[T any] interface {
	// RunStep runs fn in a transaction that first stores memo with the task of ctx. It
	// commits if fn returns nil; else it rolls back and returns fn's error. It returns
	// nil only if the transaction committed.
	RunStep(ctx context.Context, memo []byte, fn func(ctx context.Context, tx T) error) error
}

// Tx runs a step in a transaction of the database that is the router's Store: what fn
// wrote and the end of the step are one commit. So the step takes effect exactly once in
// that database, even if a worker dies.
//
//	err := steps.Tx(ctx, "invoice", db, func(ctx context.Context, tx sqlstore.Tx) error {
//		_, err := tx.ExecContext(ctx, `INSERT INTO invoices …`)
//		return err
//	})
//
// A Tx has no result: read what fn wrote from the database. fn may run more than once,
// as sqlstore.DB.Run says, but only one run commits. If fn returns an error, Tx returns
// it, and the step may run again. Apart from that, Tx is like [Do].
func Tx[T any](ctx context.Context, name string, db Database[T], fn func(ctx context.Context, tx T) error) error {
	r, err := of(ctx, name)
	if err != nil {
		return err
	}
	finished, err := r.begin(name)
	if err != nil {
		return err
	}
	if finished != nil {
		return r.noResult(finished, "a Tx")
	}
	defer r.leave()
	if err := r.whole(name, "Tx"); err != nil {
		return err
	}
	m := r.memo.with(name, nil) // no other step can change it now
	text, err := m.text(name, nil)
	if err != nil {
		return r.fail(err)
	}
	var failed error
	err = db.RunStep(ctx, text, func(ctx context.Context, tx T) error {
		if failed = fn(ctx, tx); failed == nil {
			failed = r.broken()
		}
		return failed
	})
	switch {
	case failed != nil && err != nil:
		return err // rolled back
	case err != nil:
		return r.fail(fmt.Errorf("steps: step %q: %w", name, err))
	}
	r.pass(m)
	return nil
}

// broken returns what every later step returns.
func (r *run) broken() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// pass notes that the step that runs has finished, and m is kept.
func (r *run) pass(m memo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.memo = m
	r.replayed++
}
