package sql_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/brillconsulting/handoff/steps"
)

// step is steps.Tx with an effect of the step's name, and what a row does after it.
func (b *fixture) step(ctx context.Context, name string, after func(ctx context.Context, tx sqlstore.Tx) error) error {
	return steps.Tx(ctx, name, b.db, func(ctx context.Context, tx sqlstore.Tx) error {
		_, err := tx.ExecContext(ctx, b.insert(), name)
		return errors.Join(err, after(ctx, tx))
	})
}

// inside is a handler with a step "a" that does after in its transaction.
func inside(after func(ctx context.Context, tx sqlstore.Tx) error) func(b *fixture, ctx context.Context) error {
	return func(b *fixture, ctx context.Context) error { return b.step(ctx, "a", after) }
}

// insideB is inside for what needs the fixture.
func insideB(after func(b *fixture, ctx context.Context, tx sqlstore.Tx) error) func(b *fixture, ctx context.Context) error {
	return func(b *fixture, ctx context.Context) error {
		return b.step(ctx, "a", func(ctx context.Context, tx sqlstore.Tx) error { return after(b, ctx, tx) })
	}
}

// keepOwn keeps a memo in a transaction of its own, and ends that by end.
func (b *fixture) keepOwn(ctx context.Context, memo string, end func(*sql.Tx) error) error {
	tx := b.begin(ctx)
	if err := errors.Join(b.db.KeepTx(ctx, tx, []byte(memo)), b.effect(ctx, tx)); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return end(tx)
}

// stepEnd is the end of a handler with a step, and the steps that the next attempt
// would not run again. A record that is done has no memo.
type stepEnd struct {
	end

	done []string
}

var stepEnds = map[string]stepEnd{
	"committed":                {end{inside(nothing), 200, 1, "done", ""}, nil},
	"committed, then an error": {end{func(b *fixture, ctx context.Context) error { return errors.Join(b.step(ctx, "a", nothing), errBoom) }, 500, 1, "idle", "boom"}, []string{"a"}},
	"committed, then a panic":  {end{func(b *fixture, ctx context.Context) error { _ = b.step(ctx, "a", nothing); panic("boom") }, 500, 1, "idle", "boom"}, []string{"a"}},
	"two": {end{func(b *fixture, ctx context.Context) error {
		return errors.Join(b.step(ctx, "a", nothing), b.step(ctx, "b", boom))
	}, 500, 1, "idle", "boom"}, []string{"a"}},
	"the same twice": {end{func(b *fixture, ctx context.Context) error {
		return errors.Join(b.step(ctx, "a", nothing), b.step(ctx, "a", nothing))
	}, 500, 1, "idle", "two steps have the name"}, []string{"a"}},
	"a step, then Run": {end{func(b *fixture, ctx context.Context) error {
		return errors.Join(b.step(ctx, "b", nothing), b.run(ctx, nothing))
	}, 200, 2, "done", ""}, nil},
	"Run, then a step": {end{func(b *fixture, ctx context.Context) error {
		return errors.Join(b.run(ctx, nothing), b.step(ctx, "b", nothing))
	}, 200, 1, "done", "lease lost"}, nil},
	"an error":                   {end{inside(boom), 500, 0, "idle", "boom"}, nil},
	"an error that is swallowed": {end{func(b *fixture, ctx context.Context) error { _ = b.step(ctx, "a", boom); return nil }, 200, 0, "done", ""}, nil},
	"an error, then again": {end{func(b *fixture, ctx context.Context) error {
		_ = b.step(ctx, "a", boom)
		return errors.Join(b.step(ctx, "a", nothing), errBoom)
	}, 500, 1, "idle", "boom"}, []string{"a"}},
	"permanent":             {end{inside(permanent), 205, 0, "dead", "boom"}, nil},
	"a panic":               {end{inside(panics), 500, 0, "idle", "boom"}, nil},
	"a goroutine that ends": {end{inside(func(context.Context, sqlstore.Tx) error { runtime.Goexit(); return nil }), 500, 0, "idle", "abandoned"}, nil},
	"the caller gone":       {end{insideB(func(b *fixture, _ context.Context, _ sqlstore.Tx) error { b.cancel(); return nil }), 500, 0, "idle", "cancel"}, nil},
	"a nested step": {end{insideB(func(b *fixture, ctx context.Context, _ sqlstore.Tx) error { _ = b.step(ctx, "b", nothing); return nil }),
		500, 0, "idle", "steps run one after the other"}, nil},
	"Run inside": {end{insideB(func(b *fixture, ctx context.Context, _ sqlstore.Tx) error { return b.run(ctx, nothing) }), 500, 0, "idle", "cannot be nested"}, nil},
	"CompleteTx inside": {end{insideB(func(b *fixture, ctx context.Context, tx sqlstore.Tx) error { return b.db.CompleteTx(ctx, tx) }),
		500, 0, "idle", "cannot be nested"}, nil},
	"KeepTx inside": {end{insideB(func(b *fixture, ctx context.Context, tx sqlstore.Tx) error { return b.db.KeepTx(ctx, tx, []byte("x")) }),
		500, 0, "idle", "cannot be nested"}, nil},
	"inside Run": {end{func(b *fixture, ctx context.Context) error {
		return b.run(ctx, func(ctx context.Context, _ sqlstore.Tx) error { return b.step(ctx, "b", nothing) })
	}, 500, 0, "idle", "a Run of this task is open"}, nil},
	"a savepoint":         {end{inside(savepoint), 200, 1, "done", ""}, nil},
	"COMMIT":              {end{inside(statement("COMMIT")), 500, 0, "idle", "COMMIT in the function"}, nil},
	"COMMIT that hides":   {end{inside(statement("SELECT 1; COMMIT")), 500, 1, "idle", "ended the transaction"}, []string{"a"}},
	"ROLLBACK that hides": {end{inside(statement("SELECT 1; ROLLBACK")), 500, 0, "idle", "ended the transaction"}, nil},
	"a failed statement":  {end{inside(swallows), 500, 0, "idle", "did not return its error"}, nil},
	"refused at COMMIT": {end{insideB(func(b *fixture, ctx context.Context, tx sqlstore.Tx) error { return b.twiceDeferred(ctx, tx) }),
		500, 0, "idle", "duplicate key"}, nil},
	"lease lost": {end{func(b *fixture, ctx context.Context) error { b.steal(); return b.step(ctx, "a", nothing) }, 409, 0, "running", "lease lost"}, nil},

	"lease lost after a step": {end{func(b *fixture, ctx context.Context) error {
		err := b.step(ctx, "b", nothing)
		b.steal()
		return errors.Join(err, b.step(ctx, "a", nothing))
	}, 409, 1, "running", "lease lost"}, []string{"b"}},

	"own transaction": {end{func(b *fixture, ctx context.Context) error {
		return errors.Join(b.keepOwn(ctx, `{"v":1,"done":[{"n":"a"}]}`, (*sql.Tx).Commit), errBoom)
	}, 500, 1, "idle", "boom"}, []string{"a"}},
	"own, rolled back": {end{func(b *fixture, ctx context.Context) error {
		return errors.Join(b.keepOwn(ctx, `{"v":1}`, (*sql.Tx).Rollback), errBoom)
	}, 500, 0, "idle", "boom"}, nil},
	"own, then Run": {end{func(b *fixture, ctx context.Context) error {
		return errors.Join(b.keepOwn(ctx, "x", (*sql.Tx).Rollback), b.run(ctx, nothing))
	}, 200, 1, "done", ""}, nil},
	"a pool for transaction": {end{func(b *fixture, ctx context.Context) error { return b.db.KeepTx(ctx, b.pool, []byte("x")) }, 500, 0, "idle", "is no transaction"}, nil},
	"no memo":                {end{func(b *fixture, ctx context.Context) error { return b.db.RunStep(ctx, nil, nothing) }, 500, 0, "idle", "the memo has 0 bytes"}, nil},
	"a memo that is too long": {end{func(b *fixture, ctx context.Context) error {
		return b.db.RunStep(ctx, make([]byte, handoff.MaxMemo+1), nothing)
	}, 500, 0, "idle", "must be 1 to 4096"}, nil},
	"the memo before": {end{func(b *fixture, ctx context.Context) error {
		memo := []byte(`{"v":1,"done":[{"n":"x"}]}`)
		return errors.Join(b.db.RunStep(ctx, memo, nothing), b.db.RunStep(ctx, memo, nothing))
	}, 500, 0, "idle", "the memo is the one before"}, []string{"x"}},
}

func TestStepEnds(t *testing.T) {
	t.Parallel()
	for name, row := range stepEnds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, schema := connect(t), newSchema()
			db := inSchema(t, pool, schema)
			if err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			row.wantDone(t, row.try(t, db, pool, quoted(schema)+".fence", nil))
		})
		if notOnSQLite[name] {
			continue
		}
		t.Run(name+" on SQLite", func(t *testing.T) {
			t.Parallel()
			db, pool := inFile(t)
			row.wantDone(t, row.try(t, db, pool, quoted(oddSchema+"_fence"), nil))
		})
	}
}

func (row stepEnd) wantDone(t *testing.T, record handoff.KeyRecord) {
	t.Helper()
	progress, err := steps.ParseProgress(record.Memo)
	if err != nil || !reflect.DeepEqual(progress.Done, row.done) {
		t.Errorf("the next attempt would find %q done (%v), want %q", progress.Done, err, row.done)
	}
}

// TestStepElsewhere: a step is kept in the transaction only where the router's Store
// is in the same database.
func TestStepElsewhere(t *testing.T) {
	t.Parallel()
	db, pool := postgres(t)
	inboxed, inbox := withInbox(t)
	for name, world := range map[string]struct {
		db   *sqlstore.DB
		w    *worker
		want string
	}{
		"another Store": {db, newWorker(t, pool, memstore.New(), nil), "Store must be DB.Store"},
		"an inbox":      {inboxed, inbox, "Store is DB.Store"},
	} {
		var said error
		status := world.w.deliver(t.Context(), "a", func(ctx context.Context) error {
			said = steps.Tx(ctx, "a", world.db, func(context.Context, sqlstore.Tx) error { t.Error("the step ran"); return nil })
			return said
		})
		if status != http.StatusInternalServerError || said == nil || !strings.Contains(said.Error(), world.want) {
			t.Errorf("%s: status %d, %v, want %q", name, status, said, world.want)
		}
	}
}
