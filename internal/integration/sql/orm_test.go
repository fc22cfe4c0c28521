package sql_test

import (
	"context"
	"database/sql"
	"net/http"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// queries is what sqlc generates: New takes a DBTX, and sqlstore.Tx is one.
type queries struct{ db dbtx }

type dbtx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// effectRow is a row of a worker's table, for gorm and bun.
type effectRow struct {
	Task string
}

// TestLibraries: effect, mark and the next task in one transaction, through what
// people use beside database/sql. docs/sql.md shows the same lines.
func TestLibraries(t *testing.T) {
	t.Parallel()
	s := newShop(t, "q")
	w := newWorker(t, s.pool, s.db.Store(), nil)
	gdb, err := gorm.Open(gormpostgres.New(gormpostgres.Config{Conn: s.pool}), &gorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	bdb := bun.NewDB(s.pool, pgdialect.New())

	inRun := map[string]func(ctx context.Context, tx sqlstore.Tx, id string) error{
		"sqlc": func(ctx context.Context, tx sqlstore.Tx, id string) error {
			q := queries{tx}
			_, err := q.db.ExecContext(ctx, w.insert(), id)
			return err
		},
		"gorm": func(ctx context.Context, tx sqlstore.Tx, id string) error {
			g := gdb.Session(&gorm.Session{Context: ctx, SkipDefaultTransaction: true})
			g.Statement.ConnPool = tx
			return g.Table(w.effects).Create(&effectRow{id}).Error
		},
		"bun": func(ctx context.Context, tx sqlstore.Tx, id string) error {
			_, err := bdb.NewInsert().Conn(tx).Model(&effectRow{id}).ModelTableExpr(w.effects).Exec(ctx)
			return err
		},
		"ent": func(ctx context.Context, tx sqlstore.Tx, id string) error {
			driver := entsql.NewDriver(dialect.Postgres, entsql.Conn{ExecQuerier: tx}) // for ent.NewClient(ent.Driver(driver))
			query, args := entsql.Dialect(dialect.Postgres).Insert(w.effects).Columns("task").Values(id).Query()
			return driver.Exec(ctx, query, args, nil)
		},
	}
	n := 0
	for name, insert := range inRun {
		status := w.deliver(t.Context(), name, func(ctx context.Context) error {
			return s.db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
				if err := insert(ctx, tx, name); err != nil {
					return err
				}
				_, err := s.outbox.Enqueue(ctx, tx, order{}, handoff.OnQueue("q"))
				return err
			})
		})
		n++
		if status != http.StatusOK || w.count() != n {
			t.Errorf("%s: status %d, %d effects, want %d\n%s", name, status, w.count(), n, w.log)
		}
	}

	// In transactions of their own.
	err = gdb.WithContext(t.Context()).Transaction(func(g *gorm.DB) error {
		_, err := s.outbox.Enqueue(t.Context(), g.Statement.ConnPool, order{}, handoff.OnQueue("q"))
		return err
	})
	if err != nil {
		t.Errorf("gorm: %v", err)
	}
	err = bdb.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
		_, err := s.outbox.Enqueue(ctx, tx.Tx, order{}, handoff.OnQueue("q"))
		return err
	})
	if err != nil {
		t.Errorf("bun: %v", err)
	}
	if _, err := s.outbox.Enqueue(t.Context(), gdb.Statement.ConnPool, order{}, handoff.OnQueue("q")); err == nil {
		t.Error("gorm outside a transaction was taken for one")
	}
	s.send()
	s.want("q", n+2, 0)
}
