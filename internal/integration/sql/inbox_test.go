package sql_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"testing"

	"github.com/brillconsulting/handoff/internal/wire"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/brillconsulting/handoff/sqlstore/sqlitetest"
)

// inboxes are databases for routers with another Store.
var inboxes = map[string]func(t *testing.T) (*sqlstore.DB, *worker){"PostgreSQL": withInbox, "SQLite": withSQLiteInbox}

func withSQLiteInbox(t *testing.T) (*sqlstore.DB, *worker) {
	t.Helper()
	db, pool := sqlitetest.New(t, filepath.Join(t.TempDir(), "a.db"), sqlstore.Config{Inbox: true})
	return db, newWorker(t, pool, memstore.New(), nil)
}

func withInbox(t *testing.T) (*sqlstore.DB, *worker) {
	t.Helper()
	pool := connect(t)
	db, err := sqlstore.New(pool, sqlstore.Config{Dialect: sqlstore.Postgres, Schema: newSchema(), Inbox: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db, newWorker(t, pool, memstore.New(), nil)
}

// sibling is another worker of the same effects, whose Store knows nothing of the
// first's: as one whose Redis has lost its memory.
func (w *worker) sibling() *worker {
	other := newWorker(w.t, w.pool, memstore.New(), nil)
	other.effects = w.effects
	return other
}

func TestInbox(t *testing.T) {
	t.Parallel()
	for name, open := range inboxes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, w := open(t)
			w.inbox(db)
		})
	}
}

func (w *worker) inbox(db *sqlstore.DB) {
	t := w.t
	run := func(ctx context.Context) error {
		return db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
			_, err := tx.ExecContext(ctx, w.insert(), "a")
			return err
		})
	}
	failing := func(ctx context.Context) error { return errors.Join(run(ctx), errBoom) }
	for _, row := range []struct {
		what   string
		w      *worker
		handle func(context.Context) error
		status int
	}{
		{"an error after the commit", w, failing, http.StatusOK},
		{"the same Store", w, run, http.StatusAlreadyReported},
		{"another Store", w.sibling(), run, http.StatusAlreadyReported},
	} {
		if status := row.w.deliver(t.Context(), "a", row.handle); status != row.status || w.count() != 1 {
			t.Errorf("%s: status %d, %d effects, want %d and 1\n%s", row.what, status, w.count(), row.status, row.w.log)
		}
	}
}

// TestInboxOfTwoAtOnce: the second waits for the first, and is too late.
func TestInboxOfTwoAtOnce(t *testing.T) {
	t.Parallel()
	for name, open := range inboxes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inboxOfTwo(t, open)
		})
	}
}

func inboxOfTwo(t *testing.T, open func(t *testing.T) (*sqlstore.DB, *worker)) {
	t.Helper()
	for _, first := range []struct {
		err            error
		status, second int
	}{{nil, http.StatusOK, http.StatusAlreadyReported}, {errBoom, http.StatusInternalServerError, http.StatusOK}} {
		db, w := open(t)
		other := w.sibling()
		inside, waiting := make(chan struct{}), make(chan struct{})
		statuses := make(chan int, 1)
		go func() {
			statuses <- w.deliver(t.Context(), "a", func(ctx context.Context) error {
				return db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
					_, err := tx.ExecContext(ctx, w.insert(), "a")
					close(inside)
					<-waiting
					return errors.Join(err, first.err)
				})
			})
		}()
		<-inside
		second := other.deliver(t.Context(), "a", func(ctx context.Context) error {
			close(waiting)
			return db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
				_, err := tx.ExecContext(ctx, w.insert(), "a")
				return err
			})
		})
		if status := <-statuses; status != first.status || second != first.second || w.count() != 1 {
			t.Errorf("statuses %d and %d, %d effects, want %d, %d and 1\n%s%s", status, second, w.count(), first.status, first.second, w.log, other.log)
		}
	}
}

// TestStalledGeneration: generation 0 stalls before its Run, another worker takes it
// over and ends its attempt, generation 1 commits. What goes on afterwards finds that.
func TestStalledGeneration(t *testing.T) {
	t.Parallel()
	for name, open := range inboxes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, stalled := open(t)
			takesOver, next, last := stalled.sibling(), stalled.sibling(), stalled.sibling()
			runAs := func(worker string) func(context.Context) error {
				return func(ctx context.Context) error {
					return db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
						_, err := tx.ExecContext(ctx, stalled.insert(), worker) // a second one would be counted
						return err
					})
				}
			}
			generation1 := func(s *wire.Stamp) { s.Generation = 1 }
			inside, goOn := make(chan struct{}), make(chan struct{})
			status := make(chan int, 1)
			go func() {
				status <- stalled.deliver(t.Context(), "a", func(ctx context.Context) error {
					close(inside)
					<-goOn
					return runAs("stalled")(ctx)
				})
			}()
			<-inside
			statuses := []int{
				takesOver.deliver(t.Context(), "a", func(context.Context) error { return errBoom }),
				next.deliver(t.Context(), "a", runAs("next"), generation1),
			}
			close(goOn)
			statuses = append(statuses, <-status, last.deliver(t.Context(), "a", runAs("last"), generation1))
			want := []int{http.StatusInternalServerError, http.StatusOK, http.StatusAlreadyReported, http.StatusAlreadyReported}
			if !slices.Equal(statuses, want) || stalled.count() != 1 {
				t.Errorf("statuses %v, %d effects, want %v and 1", statuses, stalled.count(), want)
			}
		})
	}
}
