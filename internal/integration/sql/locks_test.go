package sql_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/fence"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/brillconsulting/handoff/steps"
)

// tellingStore tells of renewals, and can be cut off from them, as a stopped
// process is.
type tellingStore struct {
	handoff.Store

	renewed chan struct{} // one value a renewal, if somebody reads
	stopped atomic.Bool
}

func (s *tellingStore) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	if s.stopped.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	held, err := s.Store.Renew(ctx, leases)
	select {
	case s.renewed <- struct{}{}:
	default:
	}
	return held, err
}

func lease(key, owner string) handoff.Lease {
	return handoff.Lease{Key: key, Owner: owner, TTL: time.Minute, Window: time.Hour}
}

// openRun delivers the task of "a" and returns once its Run is open, with the lease
// that it runs under. The Run ends when end is closed, and ended has the status.
func openRun(w *worker, db *sqlstore.DB, end <-chan struct{}) (l handoff.Lease, ended chan int) {
	opened := make(chan struct{})
	ended = make(chan int, 1)
	go func() {
		ended <- w.deliver(context.Background(), "a", func(ctx context.Context) error {
			held, _ := handoff.HeldFromContext(ctx)
			l = held.Lease()
			return db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
				_, err := tx.ExecContext(ctx, w.insert(), "a")
				close(opened)
				<-end
				return err
			})
		})
	}()
	<-opened
	return l, ended
}

// TestNothingWaitsForARun: while one is open, its row is locked, and every call
// of the Store is answered all the same.
func TestNothingWaitsForARun(t *testing.T) {
	t.Parallel()
	db, pool := postgres(t)
	store := db.Store()
	w := newWorker(t, pool, store, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	key := fence.IDKey("a")
	var leases []handoff.Lease
	for i := range 100 {
		leases = append(leases, lease(fmt.Sprint("other ", i), "o"))
		if _, err := store.Claim(ctx, leases[i]); err != nil {
			t.Fatal(err)
		}
	}
	end := make(chan struct{})
	own, ended := openRun(w, db, end)
	leases = append(leases[:50], append([]handoff.Lease{own}, leases[50:]...)...)
	record, err := store.ShowKey(ctx, key)
	if err != nil || record.State != "running" {
		t.Fatalf("the record beside an open Run: %+v, %v", record, err)
	}
	stranger := lease(key, "stranger")
	for range 10 {
		c, err := store.Claim(ctx, stranger)
		if err != nil || c.Status != handoff.ClaimBusy || c.Left <= 0 {
			t.Fatalf("a claim beside an open Run: %+v, %v", c, err)
		}
		held, err := store.Renew(ctx, leases)
		for i := range held {
			if !held[i] {
				t.Fatalf("lease %d was lost beside an open Run (%v)", i, err)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Release(ctx, stranger, true); err == nil {
		t.Fatal("a stranger released the work of an open Run")
	}
	if err := store.FreeKey(ctx, key); err == nil {
		t.Fatal("the key of an open Run was freed")
	}
	select {
	case status := <-ended:
		t.Fatalf("the Run ended with %d before it should", status)
	default:
	}
	close(end)
	if status := <-ended; status != http.StatusOK || w.count() != 1 {
		t.Fatalf("status %d, %d effects", status, w.count())
	}
}

// TestRunLongerThanItsLease: renewals go on beside it, at every isolation level. A
// step leaves a whole lease.
func TestRunLongerThanItsLease(t *testing.T) {
	t.Parallel()
	for _, level := range []sql.IsolationLevel{sql.LevelDefault, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
		for _, what := range []string{"Run", "step"} {
			t.Run(what+" "+level.String(), func(t *testing.T) {
				t.Parallel()
				runLong(t, what, level)
			})
		}
	}
}

func runLong(t *testing.T, what string, level sql.IsolationLevel) {
	t.Helper()
	pool, schema := connect(t), newSchema()
	db, err := sqlstore.New(pool, sqlstore.Config{Dialect: sqlstore.Postgres, Schema: schema, Isolation: level})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	store := &tellingStore{Store: db.Store(), renewed: make(chan struct{})}
	w := newWorker(t, pool, store, func(c *handoff.RouterConfig) { c.Lease = time.Second })
	long := store.insertThrough(w, 6) // a third of the lease each
	status := w.deliver(t.Context(), "a", func(ctx context.Context) error {
		if what == "Run" {
			return db.Run(ctx, long)
		}
		if err := steps.Tx(ctx, "a", db, long); err != nil {
			return err
		}
		c, err := db.Store().Claim(ctx, lease(fence.IDKey("a"), "another"))
		if err != nil || c.Status != handoff.ClaimBusy {
			t.Errorf("a claim after the step: %+v, %v", c, err)
		}
		return nil
	})
	if status != http.StatusOK || w.count() != 1 {
		t.Fatalf("status %d, %d effects\n%s", status, w.count(), w.log)
	}
}

// insertThrough returns the function of a Run that inserts its effect and goes on
// sending statements, for a number of renewals.
func (s *tellingStore) insertThrough(w *worker, renewals int) func(context.Context, sqlstore.Tx) error {
	return func(ctx context.Context, tx sqlstore.Tx) error {
		_, err := tx.ExecContext(ctx, w.insert(), "a")
		for range renewals {
			select {
			case <-s.renewed:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if _, err := tx.ExecContext(ctx, `SELECT 1`); err != nil {
				return err
			}
		}
		return err
	}
}

// TestLeasesBesideARun: 100 tasks run for three leases of their router beside a Run
// that goes on sending statements, and none is lost.
func TestLeasesBesideARun(t *testing.T) {
	t.Parallel()
	db, pool := postgres(t)
	const renewals = 9 // three a lease
	store := &tellingStore{Store: db.Store(), renewed: make(chan struct{})}
	w := newWorker(t, pool, store, func(c *handoff.RouterConfig) { c.Lease = 2 * time.Second })
	running := make(chan struct{})
	over := make(chan struct{})
	statuses := make(chan int, 100)
	w.handle = func(ctx context.Context) error {
		if handoff.InfoFromContext(ctx).ID == "a" {
			return db.Run(ctx, store.insertThrough(w, renewals))
		}
		running <- struct{}{}
		select {
		case <-over:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for i := range 100 {
		go func() { statuses <- w.serve(t.Context(), fmt.Sprint("other-", i)) }()
	}
	for range 100 {
		select {
		case <-running:
		case status := <-statuses:
			t.Fatalf("status %d\n%s", status, w.log)
		}
	}
	status := w.serve(t.Context(), "a")
	close(over)
	for range 100 {
		if other := <-statuses; other != http.StatusOK {
			t.Errorf("a task beside the Run: status %d", other)
		}
	}
	if status != http.StatusOK || w.count() != 1 {
		t.Errorf("the Run: status %d, %d effects", status, w.count())
	}
	if t.Failed() {
		t.Log(w.log)
	}
}

// TestStoppedInsideRun: the database ends the transaction of a worker that sends
// nothing for a lease, and the work is free.
func TestStoppedInsideRun(t *testing.T) {
	t.Parallel()
	db, pool := postgres(t)
	store := &tellingStore{Store: db.Store()}
	store.stopped.Store(true)
	w := newWorker(t, pool, store, func(c *handoff.RouterConfig) { c.Lease = time.Second })
	end := make(chan struct{})
	_, ended := openRun(w, db, end)
	for {
		c, err := db.Store().Claim(t.Context(), lease(fence.IDKey("a"), "another"))
		if err != nil {
			t.Fatal(err)
		}
		if c.Status == handoff.ClaimAcquired {
			break
		}
		time.Sleep(10 * time.Millisecond) // until the database's own time is over
	}
	close(end)
	if status := <-ended; status == http.StatusOK || w.count() != 0 {
		t.Fatalf("status %d, %d effects", status, w.count())
	}
}
