package sql_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/brillconsulting/handoff/sqlstore/sqlitetest"
	"modernc.org/sqlite"
)

func onSQLite(pool *sql.DB) bool {
	_, ok := pool.Driver().(*sqlite.Driver)
	return ok
}

// oddSchema begins the names of tables in the tests with a file.
const oddSchema = `odd "schema'`

// inFile and inMemory return a new database with the tables, and its pool.
func inFile(t *testing.T) (*sqlstore.DB, *sql.DB) {
	t.Helper()
	return sqlitetest.New(t, filepath.Join(t.TempDir(), "a ?.db"), sqlstore.Config{Schema: oddSchema})
}

func inMemory(t *testing.T) (*sqlstore.DB, *sql.DB) {
	t.Helper()
	return sqlitetest.New(t, ":memory:", sqlstore.Config{})
}

func TestStoreOnSQLite(t *testing.T) {
	if raceDetector {
		t.Skip("takes minutes, in a driver that is translated from C; CI runs it without the race detector")
	}
	t.Parallel()
	for name, open := range map[string]func(*testing.T) (*sqlstore.DB, *sql.DB){"file": inFile, "memory": inMemory} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handofftest.TestStore(t, func(t *testing.T) handoff.Store {
				db, _ := open(t)
				return db.Store()
			})
		})
	}
}

func TestDeadLettersOnSQLite(t *testing.T) {
	t.Parallel()
	handofftest.TestDeadLetterStore(t, func(t *testing.T) handoff.DeadLetterStore {
		db, _ := inFile(t)
		return db.DeadLetters()
	})
}

// notOnSQLite are the ends that need PostgreSQL: its deferred constraints, its errors
// that end a transaction, two transactions that write.
var notOnSQLite = map[string]bool{"refused at COMMIT": true, "a failed statement": true, "own in two at once": true}

// endsOnSQLite are those that need SQLite.
var endsOnSQLite = map[string]end{
	"refused at its COMMIT":        {func(b *fixture, ctx context.Context) error { b.checkForeignKeys(); return b.run(ctx, b.orphan) }, 500, 0, "idle", "FOREIGN KEY"},
	"a failed constraint":          {func(b *fixture, ctx context.Context) error { return b.run(ctx, b.twice) }, 200, 1, "done", ""},
	"an interrupted statement":     {func(b *fixture, ctx context.Context) error { return b.run(ctx, b.interrupted) }, 500, 0, "idle", "ended the transaction"},
	"a third of the lease":         {func(b *fixture, ctx context.Context) error { return b.run(ctx, untilEnd) }, 500, 0, "idle", "a third of the router's lease"},
	"a third of it, unnoticed":     {func(b *fixture, ctx context.Context) error { return b.run(ctx, b.writesOn) }, 500, 0, "idle", "a third of the router's lease"},
	"locks gone before it returns": {func(b *fixture, ctx context.Context) error { return b.run(ctx, b.hangs) }, 500, 1, "idle", "a third of the router's lease"},
}

func TestEndsOnSQLite(t *testing.T) {
	t.Parallel()
	for _, table := range []map[string]end{ends, endsOnSQLite} {
		for name, row := range table {
			if notOnSQLite[name] {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				db, pool := inFile(t)
				row.try(t, db, pool, quoted(oddSchema+"_fence"), row.short)
			})
			if row.state == "running" && row.status == http.StatusServiceUnavailable || name == "locks gone before it returns" {
				continue // in memory, nobody can look while a transaction is open
			}
			t.Run(name+" in memory", func(t *testing.T) {
				t.Parallel()
				db, pool := inMemory(t)
				row.try(t, db, pool, "handoff_fence", row.short)
			})
		}
	}
}

// short is for the rows that wait for a third of the lease.
func (row end) short(c *handoff.RouterConfig) {
	if strings.Contains(row.said, "third") {
		c.Lease = 3 * time.Second
	}
}

// checkForeignKeys sets what is a setting of each connection.
func (b *fixture) checkForeignKeys() {
	b.pool.SetMaxOpenConns(1)
	exec(b.t, b.pool, `PRAGMA foreign_keys = ON`)
}

// orphan breaks a constraint that is looked at by COMMIT.
func (b *fixture) orphan(ctx context.Context, tx sqlstore.Tx) error {
	_, err := tx.ExecContext(ctx, `CREATE TABLE child (task text REFERENCES `+b.effects+` (task) DEFERRABLE INITIALLY DEFERRED)`)
	if err == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO child VALUES ('none')`)
	}
	return err
}

// twice has a statement fail that leaves the transaction as it was.
func (b *fixture) twice(ctx context.Context, tx sqlstore.Tx) error {
	if err := b.effect(ctx, tx); err == nil || !strings.Contains(err.Error(), "UNIQUE") {
		b.t.Errorf("a second effect: %v", err)
	}
	return nil
}

// interrupted swallows the error of a statement that SQLite rolled all back for, and
// writes again.
func (b *fixture) interrupted(ctx context.Context, tx sqlstore.Tx) error {
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err := tx.ExecContext(short, `INSERT INTO `+b.effects+` WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT i FROM n`)
	if err == nil {
		b.t.Error("an endless statement ended")
	}
	return b.effect(ctx, tx)
}

func untilEnd(ctx context.Context, _ sqlstore.Tx) error {
	<-ctx.Done()
	return nil
}

// writesOn does not look at its context.
func (b *fixture) writesOn(ctx context.Context, tx sqlstore.Tx) error {
	<-ctx.Done()
	if err := b.effect(context.WithoutCancel(ctx), tx); err == nil {
		b.t.Error("a statement after the end was sent")
	}
	return nil
}

// hangs has somebody else write before it returns.
func (b *fixture) hangs(ctx context.Context, _ sqlstore.Tx) error {
	<-ctx.Done()
	exec(b.t, b.pool, b.insert(), "another")
	return nil
}

// TestMigrateSQLiteFromManyAtOnce: each has a pool of its own, as a process has.
func TestMigrateSQLiteFromManyAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			pool, err := sqlitetest.Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer pool.Close()
			db, err := sqlstore.New(pool, sqlstore.Config{Dialect: sqlstore.SQLite})
			if err == nil {
				err = db.Migrate(t.Context())
			}
			if err == nil {
				err = db.DeadLetters().Put(t.Context(), handoff.DeadLetter{ID: "a"})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
}

// TestBadSQLite: each error says what to do.
func TestBadSQLite(t *testing.T) {
	t.Parallel()
	for name, world := range map[string]struct{ change, want string }{
		"none":                        {`DROP TABLE handoff_migration`, "run DB.Migrate"},
		"older":                       {`DELETE FROM handoff_migration`, "run DB.Migrate"},
		"newer that needs a newer us": {`INSERT INTO handoff_migration (version, least) VALUES (1000, 999)`, "deploy a newer"},
		"newer":                       {`INSERT INTO handoff_migration (version, least) VALUES (1000, 1)`, ""},
		"without a table":             {`DROP TABLE handoff_letter`, "run DB.Migrate"},
		"that takes no writes":        {`PRAGMA query_only = ON`, "must be writable"},
		"that is full":                {`PRAGMA max_page_count = 1`, "disk is full"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, pool := inMemory(t)
			exec(t, pool, world.change)
			db, err := sqlstore.New(pool, sqlstore.Config{Dialect: sqlstore.SQLite})
			if err != nil {
				t.Fatal(err)
			}
			err = db.DeadLetters().Put(t.Context(), handoff.DeadLetter{ID: "a", Payload: make([]byte, 1<<20)})
			switch {
			case world.want == "" && err != nil:
				t.Fatal(err)
			case world.want != "" && (err == nil || !strings.Contains(err.Error(), world.want)):
				t.Fatalf("got %v, want %q", err, world.want)
			}
		})
	}
}

// TestBadSQLiteIsSaidOnce: also by the relay, whose look checks the tables first.
func TestBadSQLiteIsSaidOnce(t *testing.T) {
	t.Parallel()
	_, pool := inMemory(t)
	exec(t, pool, `DROP TABLE handoff_migration`)
	db, err := sqlstore.New(pool, sqlstore.Config{Dialect: sqlstore.SQLite})
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Outbox(handofftest.New(t).Client).Send(t.Context())
	if err == nil || strings.Count(err.Error(), "run DB.Migrate") != 1 {
		t.Errorf("got %v, want it to say once what to do", err)
	}
}

// TestPoolInsideARun: a statement by the pool waits for the Run; the error says so.
func TestPoolInsideARun(t *testing.T) {
	t.Parallel()
	db, pool := inFile(t)
	exec(t, pool, `CREATE TABLE effect (n int)`)
	conn, err := pool.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), `PRAGMA busy_timeout = 0`); err != nil {
		t.Fatal(err)
	}
	kit := handofftest.New(t, handofftest.Config{Store: db.Store()})
	handoff.Handle(kit.Router, func(ctx context.Context, _ order) error {
		return db.Run(ctx, func(ctx context.Context, _ sqlstore.Tx) error {
			_, err := conn.ExecContext(ctx, `INSERT INTO effect VALUES (1)`)
			return err
		})
	})
	got := handofftest.Deliver(t, kit.Router, order{})
	if got.Err == nil || !strings.Contains(got.Err.Error(), "write by tx alone") {
		t.Errorf("got %v, want it to say what to write by", got.Err)
	}
}

// TestClaimBesideARun: it waits for the end of the Run, and is done in its turn.
func TestClaimBesideARun(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) (*sqlstore.DB, *sql.DB){"file": inFile, "memory": inMemory} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, pool := open(t)
			w := newWorker(t, pool, db.Store(), nil)
			end := make(chan struct{})
			own, ended := openRun(w, db, end)
			renewed := make(chan error, 1)
			go func() {
				held, err := db.Store().Renew(t.Context(), []handoff.Lease{own})
				if err == nil && !held[0] {
					err = handoff.ErrLeaseLost
				}
				renewed <- err
			}()
			close(end)
			c, err := db.Store().Claim(t.Context(), lease("another", "o"))
			if err != nil || c.Status != handoff.ClaimAcquired {
				t.Errorf("a claim beside a Run: %+v, %v", c, err)
			}
			if status := <-ended; status != http.StatusOK || w.count() != 1 {
				t.Errorf("status %d, %d effects", status, w.count())
			}
			if err := <-renewed; err != nil && !errors.Is(err, handoff.ErrLeaseLost) { // the Run may have ended before
				t.Error(err)
			}
		})
	}
}

// TestVirtualTime: in a bubble, a lease of an hour is over at once.
func TestVirtualTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, _ := inMemory(t)
		held := lease("a", "first")
		held.TTL, held.Window = time.Hour, 2*time.Hour
		if _, err := db.Store().Claim(t.Context(), held); err != nil {
			t.Fatal(err)
		}
		c, err := db.Store().Claim(t.Context(), lease("a", "second"))
		if err != nil || c.Status != handoff.ClaimBusy || c.Left != time.Hour {
			t.Fatalf("at once: %+v, %v", c, err)
		}
		time.Sleep(time.Hour)
		c, err = db.Store().Claim(t.Context(), lease("a", "second"))
		if err != nil || c.Status != handoff.ClaimAcquired || !c.Crashed {
			t.Fatalf("an hour later: %+v, %v", c, err)
		}
	})
}

// TestDeferredTransaction: one that reads before it marks is told why it failed.
func TestDeferredTransaction(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	db, whole := sqlitetest.New(t, path, sqlstore.Config{})
	pool, err := sql.Open("sqlite", "file:"+path) // BEGIN is deferred
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	w := newWorker(t, whole, db.Store(), nil)
	status := w.deliver(t.Context(), "a", func(ctx context.Context) error {
		tx, err := pool.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM `+w.effects).Scan(&n); err != nil {
			return err
		}
		exec(t, whole, w.insert(), "another")
		return db.CompleteTx(ctx, tx)
	})
	if status != http.StatusInternalServerError || !strings.Contains(w.log.String(), "begin with BEGIN IMMEDIATE") {
		t.Fatalf("status %d\n%s", status, w.log)
	}
}

// BenchmarkReceiveOnSQLite delivers tasks with a Run, on one file whose commits are
// synced.
func BenchmarkReceiveOnSQLite(b *testing.B) {
	db, pool := sqlitetest.New(b, filepath.Join(b.TempDir(), "a.db"), sqlstore.Config{})
	w := newWorker(b, pool, db.Store(), nil)
	w.handle = effectIn(db, w)
	var n atomic.Int64
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			rec := httptest.NewRecorder()
			w.ServeHTTP(rec, request(b.Context(), strconv.FormatInt(n.Add(1), 10)))
			if rec.Code != http.StatusOK {
				b.Errorf("status %d", rec.Code)
			}
		}
	})
}
