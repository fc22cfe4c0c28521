package sql_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/sqlstore/pgxtx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// TestPgxTx: mark, effect and the next task in one transaction of pgx.
func TestPgxTx(t *testing.T) {
	t.Parallel()
	s := newShop(t, "q")
	pool, err := pgxpool.New(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	w := newWorker(t, s.pool, s.db.Store(), nil)
	in := func(ctx context.Context, end func(pgx.Tx, context.Context) error) error {
		tx, err := pool.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(context.WithoutCancel(ctx))
		if err := s.db.CompleteTx(ctx, pgxtx.New(tx)); err != nil {
			return err
		}
		_, effectErr := tx.Exec(ctx, w.insert(), "a")
		_, enqueueErr := s.outbox.Enqueue(ctx, pgxtx.New(tx), order{}, handoff.OnQueue("q"))
		if err := errors.Join(effectErr, enqueueErr); err != nil {
			return err
		}
		return end(tx, ctx)
	}
	rolledBack := w.deliver(t.Context(), "a", func(ctx context.Context) error { return in(ctx, pgx.Tx.Rollback) })
	s.send()
	s.want("q", 0, 0)
	if rolledBack != http.StatusInternalServerError || w.count() != 0 {
		t.Fatalf("rolled back: status %d, %d effects\n%s", rolledBack, w.count(), w.log)
	}
	committed := w.deliver(t.Context(), "a", func(ctx context.Context) error { return in(ctx, pgx.Tx.Commit) })
	s.send()
	s.want("q", 1, 0)
	if committed != http.StatusOK || w.count() != 1 {
		t.Fatalf("committed: status %d, %d effects\n%s", committed, w.count(), w.log)
	}
	if _, err := s.outbox.Enqueue(t.Context(), pgxtx.New(nil), order{}, handoff.OnQueue("q")); err == nil || !strings.Contains(err.Error(), "is nil") {
		t.Fatalf("a nil transaction: %v", err)
	}
}
