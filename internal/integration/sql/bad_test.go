package sql_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/sqlstore"
)

// badWorlds spoil a database, and mend it. $ is the schema.
var badWorlds = map[string]struct{ spoil, mend, settings, want string }{
	"no table": {`ALTER TABLE $.fence RENAME TO f; ALTER TABLE $.outbox RENAME TO o; ALTER TABLE $.letter RENAME TO l`,
		`ALTER TABLE $.f RENAME TO fence; ALTER TABLE $.o RENAME TO outbox; ALTER TABLE $.l RENAME TO letter`, "", "run DB.Migrate"},
	"an older schema": {`UPDATE $.migration SET version = version - 100`, `UPDATE $.migration SET version = version + 100`, "", "run DB.Migrate"},
	"a newer schema":  {`INSERT INTO $.migration (version, least) VALUES (1000, 999)`, `DELETE FROM $.migration WHERE version = 1000`, "", "deploy a newer one"},
	"a replica":       {``, ``, "-cdefault_transaction_read_only=on", "connect to the primary"},
	// The server says what it says of a full disk.
	"a full disk": {`CREATE FUNCTION $.full() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no space left on device'' USING ERRCODE = ''disk_full''; END';
CREATE TRIGGER f BEFORE INSERT OR UPDATE ON $.fence EXECUTE FUNCTION $.full();
CREATE TRIGGER o BEFORE INSERT OR UPDATE ON $.outbox EXECUTE FUNCTION $.full();
CREATE TRIGGER l BEFORE INSERT OR UPDATE ON $.letter EXECUTE FUNCTION $.full()`, `DROP FUNCTION $.full CASCADE`, "", "the database's disk is full"},
}

// TestBadDatabase: every way in says what to do, the task is left to the service, and
// runs once the database is mended.
func TestBadDatabase(t *testing.T) {
	t.Parallel()
	for name, world := range badWorlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, "q")
			w := newWorker(t, s.pool, s.db.Store(), nil)
			pool, err := sql.Open("pgx", server.URL()+"&options="+url.QueryEscape(world.settings))
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			bad := inSchema(t, pool, s.schema)
			spoilt := newWorker(t, s.pool, bad.Store(), nil)
			spoilt.effects = w.effects
			of := func(statements string) string { return strings.ReplaceAll(statements, "$", quoted(s.schema)) }
			runs := func(db *sqlstore.DB) func(context.Context) error {
				return func(ctx context.Context) error {
					return db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
						_, err := tx.ExecContext(ctx, w.insert(), "a")
						return err
					})
				}
			}

			status := w.deliver(t.Context(), "a", func(ctx context.Context) error {
				exec(t, s.pool, of(world.spoil))
				defer exec(t, s.pool, of(world.mend))
				return runs(bad)(ctx)
			})
			if status != http.StatusInternalServerError || !strings.Contains(w.log.String(), world.want) || w.count() != 0 {
				t.Errorf("Run: status %d, %d effects, want 500, 0 and %q in the log:\n%s", status, w.count(), world.want, w.log)
			}

			exec(t, s.pool, of(world.spoil))
			errs := map[string]error{"put": bad.DeadLetters().Put(t.Context(), handoff.DeadLetter{ID: "a"})}
			_, errs["claim"] = bad.Store().Claim(t.Context(), lease("k", "o"))
			errs["enqueue"] = enqueueIn(t, pool, bad.Outbox(s.client))
			for what, err := range errs {
				if err == nil || !strings.HasPrefix(err.Error(), "sqlstore: ") || !strings.Contains(err.Error(), world.want) {
					t.Errorf("%s: %v, want %q", what, err, world.want)
				}
			}
			if status := spoilt.deliver(t.Context(), "a", runs(bad)); status != http.StatusServiceUnavailable {
				t.Errorf("a delivery: status %d, want 503", status)
			}
			exec(t, s.pool, of(world.mend))
			if status := w.deliver(t.Context(), "a", runs(s.db)); status != http.StatusOK || w.count() != 1 {
				t.Errorf("mended: status %d, %d effects\n%s", status, w.count(), w.log)
			}
			if err := enqueueIn(t, s.pool, s.outbox); err != nil {
				t.Error(err)
			}
			s.send()
			s.want("q", 1, 0)
		})
	}
}

// enqueueIn enqueues in a transaction, and commits it if that went well.
func enqueueIn(t *testing.T, pool *sql.DB, outbox *sqlstore.Outbox) error {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := outbox.Enqueue(t.Context(), tx, order{}, handoff.OnQueue("q")); err != nil {
		return err
	}
	return tx.Commit()
}

// TestBadTransaction: each way in says what is wrong with a transaction, and a task
// that is marked in it runs again.
func TestBadTransaction(t *testing.T) {
	t.Parallel()
	s := newShop(t, "q")
	name := fmt.Sprintf("other_%d", schemas.Add(1))
	exec(t, s.pool, `CREATE DATABASE `+name)
	elsewhere, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere.Path = "/" + name
	pool, err := sql.Open("pgx", elsewhere.String())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for want, open := range map[string]func() sqlstore.Tx{
		"must be of the same database": func() sqlstore.Tx { return beginIn(t, pool) },
		"already been": func() sqlstore.Tx {
			tx := beginIn(t, s.pool)
			_ = tx.Rollback()
			return tx
		},
		"is no transaction": func() sqlstore.Tx { return s.pool },
		"is nil":            func() sqlstore.Tx { return nil },
	} {
		w := newWorker(t, s.pool, s.db.Store(), nil)
		for what, call := range map[string]func(context.Context) error{
			"complete": func(ctx context.Context) error { return s.db.CompleteTx(ctx, open()) },
			"keep":     func(ctx context.Context) error { return s.db.KeepTx(ctx, open(), []byte("memo")) },
			"enqueue": func(ctx context.Context) error {
				_, err := s.outbox.Enqueue(ctx, open(), order{}, handoff.OnQueue("q"))
				return err
			},
		} {
			id := strings.ReplaceAll(want, " ", "-") + what
			var said error
			status := w.deliver(t.Context(), id, func(ctx context.Context) error { said = call(ctx); return said })
			if status != http.StatusInternalServerError || said == nil || !strings.HasPrefix(said.Error(), "sqlstore: ") || !strings.Contains(said.Error(), want) {
				t.Errorf("%s: status %d, %v, want %q", what, status, said, want)
			}
			if status := w.deliver(t.Context(), id, func(context.Context) error { return nil }); status != http.StatusOK {
				t.Errorf("%s, the next attempt: status %d", what, status)
			}
		}
	}
	tx := beginIn(t, s.pool)
	_, err = s.outbox.EnqueueRequest(t.Context(), tx, handoff.Request{URL: "http://127.0.0.1:1/", Body: make([]byte, 1<<20)}, handoff.OnQueue("q"))
	if err == nil || !strings.Contains(err.Error(), "1048576") {
		t.Errorf("a body over the limit: %v", err)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
	s.want("q", 0, 0)
}

// beginIn begins a transaction that ends with the test, if not before.
func beginIn(t *testing.T, pool *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}
