package sql_test

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/fence"
	"github.com/brillconsulting/handoff/sqlstore"
)

var errBoom = errors.New("boom")

// fixture is what a row of a table has at hand.
type fixture struct {
	*worker
	db     *sqlstore.DB
	fence  string             // table
	cancel context.CancelFunc // of the request
}

func (b *fixture) effect(ctx context.Context, tx sqlstore.Tx) error {
	_, err := tx.ExecContext(ctx, b.insert(), "a")
	return err
}

// run is db.Run with the effect and what a row does after it.
func (b *fixture) run(ctx context.Context, after func(ctx context.Context, tx sqlstore.Tx) error) error {
	return b.db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
		return errors.Join(b.effect(ctx, tx), after(ctx, tx))
	})
}

func (b *fixture) begin(ctx context.Context) *sql.Tx {
	b.t.Helper()
	tx, err := b.pool.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		b.t.Error(err)
	}
	return tx
}

func nothing(context.Context, sqlstore.Tx) error { return nil }

// end is what the handler does and returns, and what then holds.
type end struct {
	handle  func(b *fixture, ctx context.Context) error
	status  int
	effects int
	state   string // of the record
	said    string // in the log
}

// ends is the table.
var ends = map[string]end{
	"committed":                {func(b *fixture, ctx context.Context) error { return b.run(ctx, nothing) }, 200, 1, "done", ""},
	"committed, then an error": {func(b *fixture, ctx context.Context) error { return errors.Join(b.run(ctx, nothing), errBoom) }, 200, 1, "done", "boom"},
	"committed, then permanent": {func(b *fixture, ctx context.Context) error {
		return errors.Join(b.run(ctx, nothing), handoff.Permanent(errBoom))
	}, 200, 1, "done", "boom"},
	"committed, then a panic":     {func(b *fixture, ctx context.Context) error { _ = b.run(ctx, nothing); panic("boom") }, 200, 1, "done", "boom"},
	"committed, then caller gone": {func(b *fixture, ctx context.Context) error { err := b.run(ctx, nothing); b.cancel(); return err }, 200, 1, "done", ""},
	"committed twice": {func(b *fixture, ctx context.Context) error {
		return errors.Join(b.run(ctx, nothing), b.run(ctx, nothing))
	}, 200, 1, "done", "already done"},
	"an error":                   {func(b *fixture, ctx context.Context) error { return b.run(ctx, boom) }, 500, 0, "idle", "boom"},
	"an error that is swallowed": {func(b *fixture, ctx context.Context) error { _ = b.run(ctx, boom); return nil }, 200, 0, "done", ""},
	"permanent":                  {func(b *fixture, ctx context.Context) error { return b.run(ctx, permanent) }, 205, 0, "dead", "boom"},
	"a panic":                    {func(b *fixture, ctx context.Context) error { return b.run(ctx, panics) }, 500, 0, "idle", "boom"},
	"a goroutine that ends":      {func(b *fixture, ctx context.Context) error { return b.goexit(ctx) }, 500, 0, "idle", "abandoned"},
	"the caller gone": {func(b *fixture, ctx context.Context) error {
		return b.run(ctx, func(context.Context, sqlstore.Tx) error { b.cancel(); return nil })
	}, 500, 0, "idle", "cancel"},
	"an error, then committed": {func(b *fixture, ctx context.Context) error { _ = b.run(ctx, boom); return b.run(ctx, nothing) }, 200, 1, "done", ""},
	"nested": {func(b *fixture, ctx context.Context) error {
		return b.run(ctx, func(ctx context.Context, _ sqlstore.Tx) error { return b.run(ctx, nothing) })
	}, 500, 0, "idle", "cannot be nested"},
	"completed inside": {func(b *fixture, ctx context.Context) error {
		return b.run(ctx, func(ctx context.Context, tx sqlstore.Tx) error { return b.db.CompleteTx(ctx, tx) })
	}, 500, 0, "idle", "cannot be nested"},
	"a savepoint":                {func(b *fixture, ctx context.Context) error { return b.run(ctx, savepoint) }, 200, 1, "done", ""},
	"COMMIT":                     {func(b *fixture, ctx context.Context) error { return b.run(ctx, statement(" commit ; ")) }, 500, 0, "idle", "COMMIT in the function"},
	"COMMIT in a query of a row": {func(b *fixture, ctx context.Context) error { return b.run(ctx, commitInRow) }, 500, 0, "idle", "COMMIT in the function"},
	"COMMIT after a comment": {func(b *fixture, ctx context.Context) error {
		return b.run(ctx, statement("-- name: End :exec\n/* a */ COMMIT"))
	}, 500, 0, "idle", "COMMIT in the function"},
	"ROLLBACK, then the effect": {func(b *fixture, ctx context.Context) error {
		return b.db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
			return errors.Join(statement("SELECT 1; ROLLBACK")(ctx, tx), b.effect(ctx, tx))
		})
	}, 500, 0, "idle", "ended the transaction"},
	"COMMIT that hides":            {func(b *fixture, ctx context.Context) error { return b.run(ctx, statement("SELECT 1; COMMIT")) }, 200, 1, "done", "ended the transaction"},
	"ROLLBACK that hides":          {func(b *fixture, ctx context.Context) error { return b.run(ctx, statement("SELECT 1; ROLLBACK")) }, 500, 0, "idle", "ended the transaction"},
	"COMMIT and BEGIN that hide":   {func(b *fixture, ctx context.Context) error { return b.run(ctx, statement("SELECT 1; COMMIT; BEGIN")) }, 200, 1, "done", "ended the transaction"},
	"a failed statement":           {func(b *fixture, ctx context.Context) error { return b.run(ctx, swallows) }, 500, 0, "idle", "did not return its error"},
	"refused at COMMIT":            {func(b *fixture, ctx context.Context) error { return b.run(ctx, b.twiceDeferred) }, 500, 0, "idle", "duplicate key"},
	"lease lost":                   {func(b *fixture, ctx context.Context) error { b.steal(); return b.run(ctx, nothing) }, 409, 0, "running", "lease lost"},
	"used after its end":           {func(b *fixture, ctx context.Context) error { return b.late(ctx) }, 200, 1, "done", "is over"},
	"own transaction":              {func(b *fixture, ctx context.Context) error { return b.own(ctx, (*sql.Tx).Commit, nil) }, 200, 1, "done", ""},
	"own transaction and an error": {func(b *fixture, ctx context.Context) error { return b.own(ctx, (*sql.Tx).Commit, errBoom) }, 200, 1, "done", "boom"},
	"own transaction, rolled back": {func(b *fixture, ctx context.Context) error { return b.own(ctx, (*sql.Tx).Rollback, nil) }, 500, 0, "idle", "did not commit"},
	"own, rolled back, permanent": {func(b *fixture, ctx context.Context) error {
		return b.own(ctx, (*sql.Tx).Rollback, handoff.Permanent(errBoom))
	}, 205, 0, "dead", "boom"},
	"own transaction, left open": {func(b *fixture, ctx context.Context) error { return b.own(ctx, leaveOpen(b), nil) }, 503, 0, "running", "not known"},
	"own, rolled back, then again": {func(b *fixture, ctx context.Context) error {
		_ = b.own(ctx, (*sql.Tx).Rollback, nil)
		return b.own(ctx, (*sql.Tx).Commit, nil)
	}, 200, 1, "done", ""},
	"own in two at once":       {func(b *fixture, ctx context.Context) error { return b.twoAtOnce(ctx) }, 500, 0, "idle", "cannot be nested"},
	"own that is over":         {func(b *fixture, ctx context.Context) error { return b.overBefore(ctx) }, 500, 0, "idle", "transaction has already been"},
	"a pool for a transaction": {func(b *fixture, ctx context.Context) error { return b.db.CompleteTx(ctx, b.pool) }, 500, 0, "idle", "is no transaction"},
	"no transaction":           {func(b *fixture, ctx context.Context) error { return b.db.CompleteTx(ctx, nil) }, 500, 0, "idle", "is nil"},
}

func boom(context.Context, sqlstore.Tx) error      { return errBoom }
func permanent(context.Context, sqlstore.Tx) error { return handoff.Permanent(errBoom) }
func panics(context.Context, sqlstore.Tx) error    { panic("boom") }

func statement(text string) func(context.Context, sqlstore.Tx) error {
	return func(ctx context.Context, tx sqlstore.Tx) error {
		_, err := tx.ExecContext(ctx, text)
		return err
	}
}

func savepoint(ctx context.Context, tx sqlstore.Tx) error {
	for _, text := range []string{"SAVEPOINT s", "CREATE TABLE never (id int)", "ROLLBACK TO SAVEPOINT s", "RELEASE s"} {
		if err := statement(text)(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

func commitInRow(ctx context.Context, tx sqlstore.Tx) error {
	var n int
	return tx.QueryRowContext(ctx, "COMMIT").Scan(&n)
}

func swallows(ctx context.Context, tx sqlstore.Tx) error {
	_ = statement("SELECT 1/0")(ctx, tx)
	return nil
}

// goexit ends the goroutine inside Run, as a failed test does.
func (b *fixture) goexit(ctx context.Context) error {
	return b.run(ctx, func(context.Context, sqlstore.Tx) error { runtime.Goexit(); return nil })
}

func (b *fixture) twiceDeferred(ctx context.Context, tx sqlstore.Tx) error {
	_, err := tx.ExecContext(ctx, "SET CONSTRAINTS ALL DEFERRED")
	return errors.Join(err, b.effect(ctx, tx))
}

// steal gives the lease to another owner, as a claim after it ran out does.
func (b *fixture) steal() { exec(b.t, b.pool, `UPDATE `+b.fence+` SET owner = owner + 1`) }

func (b *fixture) late(ctx context.Context) error {
	var kept sqlstore.Tx
	err := b.run(ctx, func(_ context.Context, tx sqlstore.Tx) error { kept = tx; return nil })
	return errors.Join(err, b.effect(ctx, kept))
}

// own marks in a transaction of its own, ends that by end, and returns what it is told.
func (b *fixture) own(ctx context.Context, end func(*sql.Tx) error, returns error) error {
	tx := b.begin(ctx)
	if err := errors.Join(b.db.CompleteTx(ctx, tx), b.effect(ctx, tx)); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := end(tx); err != nil {
		return err
	}
	return returns
}

func leaveOpen(b *fixture) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		b.t.Cleanup(func() { _ = tx.Rollback() })
		return nil
	}
}

func (b *fixture) twoAtOnce(ctx context.Context) error {
	first, second := b.begin(ctx), b.begin(ctx)
	defer func() { _ = errors.Join(first.Rollback(), second.Rollback()) }()
	return errors.Join(b.db.CompleteTx(ctx, first), b.db.CompleteTx(ctx, second))
}

func (b *fixture) overBefore(ctx context.Context) error {
	tx := b.begin(ctx)
	_ = tx.Rollback()
	return b.db.CompleteTx(ctx, tx)
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for name, row := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, schema := connect(t), newSchema()
			db := inSchema(t, pool, schema)
			if err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			row.try(t, db, pool, quoted(schema)+".fence", nil)
		})
	}
}

// try returns the record of the task.
func (row end) try(t *testing.T, db *sqlstore.DB, pool *sql.DB, table string, change func(*handoff.RouterConfig)) handoff.KeyRecord {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := &fixture{newWorker(t, pool, db.Store(), change), db, table, cancel}
	status := deliverGoexit(ctx, b.worker, func(ctx context.Context) error { return row.handle(b, ctx) })
	record, err := db.Store().ShowKey(t.Context(), fence.IDKey("a"))
	if err != nil {
		t.Fatal(err)
	}
	if n := b.count(); status != row.status || n != row.effects || record.State != row.state || !strings.Contains(b.log.String(), row.said) {
		t.Errorf("status %d, %d effects, the record %s, want %d, %d, %s and %q in the log:\n%s",
			status, n, record.State, row.status, row.effects, row.state, row.said, b.log)
	}
	if row.state == "running" {
		return record
	}
	if err := b.Shutdown(t.Context()); err != nil { // until no lease is being renewed
		t.Error(err)
	}
	if pool.Stats().InUse > 0 {
		t.Errorf("%d connections were not given back", pool.Stats().InUse)
	}
	return record
}

// deliverGoexit delivers in a goroutine of its own, since the handler may end it.
func deliverGoexit(ctx context.Context, w *worker, handle func(ctx context.Context) error) int {
	status := 500 // a server that loses its goroutine closes the connection
	done := make(chan struct{})
	go func() {
		defer close(done)
		status = w.deliver(ctx, "a", handle)
	}()
	<-done
	return status
}

func TestRunElsewhere(t *testing.T) {
	t.Parallel()
	db, _ := postgres(t)
	err := db.Run(t.Context(), nothing)
	if err == nil || !strings.Contains(err.Error(), "not that of a handler") {
		t.Fatalf("got %v", err)
	}
}
