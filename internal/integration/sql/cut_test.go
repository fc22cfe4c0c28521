package sql_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/brillconsulting/handoff/steps"
	"github.com/jackc/pgx/v5/stdlib"
)

// cutMode is what happens to the connection at one statement.
type cutMode string

const (
	cutBefore cutMode = "before"     // the statement is not sent
	cutAfter  cutMode = "after"      // it is carried out, and its response is lost
	cutLate   cutMode = "late"       // it is carried out some time after the connection looks dead
	cutHeld   cutMode = "held after" // it is carried out, its response is lost, and the server notices later
)

// cutLateBy is how long after.
const cutLateBy = 300 * time.Millisecond

var errCut = errors.New("connection reset by peer")

// cutter is a driver that cuts the connection at the n-th statement.
type cutter struct {
	url    string
	mode   cutMode
	at     int64
	sent   atomic.Int64
	over   atomic.Bool // nothing is cut any more
	closed sync.WaitGroup
}

func (c *cutter) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

func (c *cutter) Connect(context.Context) (driver.Conn, error) {
	conn, err := stdlib.GetDefaultDriver().Open(c.url)
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: conn.(*stdlib.Conn), cutter: c}, nil
}

// was reports whether a connection was cut.
func (c *cutter) was() bool { return c.sent.Load() >= c.at }

// end waits for what is carried out late, and cuts nothing any more.
func (c *cutter) end() {
	c.over.Store(true)
	c.closed.Wait()
}

type cutConn struct {
	*stdlib.Conn

	cutter *cutter
	dead   bool
}

func (c *cutConn) IsValid() bool { return !c.dead }

func (c *cutConn) Close() error {
	if c.dead {
		return nil // it is closed by the one who cut it
	}
	return c.Conn.Close()
}

func (c *cutConn) ResetSession(ctx context.Context) error {
	if c.dead {
		return driver.ErrBadConn
	}
	return c.Conn.ResetSession(ctx)
}

// cut carries out a statement unless the connection is cut before.
func (c *cutConn) cut(carryOut func(ctx context.Context)) (dead bool) {
	if c.dead {
		return true
	}
	if c.cutter.over.Load() || c.cutter.sent.Add(1) != c.cutter.at {
		return false
	}
	c.dead = true
	conn := c.Conn
	later := func(d time.Duration, fn func()) {
		c.cutter.closed.Go(func() {
			time.Sleep(d)
			fn()
			_ = conn.Close()
		})
	}
	switch c.cutter.mode {
	case cutBefore:
		_ = conn.Close()
	case cutAfter:
		carryOut(context.Background())
		_ = conn.Close()
	case cutLate:
		later(cutLateBy, func() { carryOut(context.Background()) })
	case cutHeld:
		carryOut(context.Background())
		later(cutLateBy, func() {})
	}
	return true
}

func (c *cutConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.cut(func(ctx context.Context) { _, _ = c.Conn.ExecContext(ctx, query, args) }) {
		return nil, errCut
	}
	return c.Conn.ExecContext(ctx, query, args)
}

func (c *cutConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	carryOut := func(ctx context.Context) {
		rows, err := c.Conn.QueryContext(ctx, query, args)
		if err == nil {
			values := make([]driver.Value, len(rows.Columns()))
			for err == nil {
				err = rows.Next(values)
			}
			_ = rows.Close()
		}
	}
	if c.cut(carryOut) {
		return nil, errCut
	}
	return c.Conn.QueryContext(ctx, query, args)
}

func (c *cutConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if c.cut(func(ctx context.Context) { _, _ = c.Conn.BeginTx(ctx, opts) }) {
		return nil, errCut
	}
	tx, err := c.Conn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &cutTx{tx, c}, nil
}

type cutTx struct {
	driver.Tx

	conn *cutConn
}

func (t *cutTx) Commit() error {
	if t.conn.cut(func(context.Context) { _ = t.Tx.Commit() }) {
		return errCut
	}
	return t.Tx.Commit()
}

func (t *cutTx) Rollback() error {
	if t.conn.cut(func(context.Context) { _ = t.Tx.Rollback() }) {
		return errCut
	}
	return t.Tx.Rollback()
}

// cutWorld is one run of a path, with one cut.
type cutWorld struct {
	t      *testing.T
	name   string
	schema string
	whole  *sql.DB // is never cut
	cutter *cutter
	pool   *sql.DB // is
}

// paths are what is cut. Each runs until nothing is left to do and returns what is
// wrong then.
var paths = map[string]func(w *cutWorld) error{
	"Run":                  func(w *cutWorld) error { return w.deliveries(false, runEffect) },
	"Run that fails once":  func(w *cutWorld) error { return w.deliveries(false, failOnce(runEffect)) },
	"a step":               func(w *cutWorld) error { return w.deliveries(false, failAfter(stepEffect)) },
	"CompleteTx":           func(w *cutWorld) error { return w.deliveries(false, txEffect) },
	"inbox and Run":        func(w *cutWorld) error { return w.deliveries(true, runEffect) },
	"inbox and CompleteTx": func(w *cutWorld) error { return w.deliveries(true, txEffect) },
	"outbox":               func(w *cutWorld) error { return w.outbox() },
	"a burial":             func(w *cutWorld) error { return w.burial() },
}

type effect func(ctx context.Context, db *sqlstore.DB, pool *sql.DB, statement string) error

func runEffect(ctx context.Context, db *sqlstore.DB, _ *sql.DB, statement string) error {
	return db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
		_, err := tx.ExecContext(ctx, statement, "a")
		return err
	})
}

func stepEffect(ctx context.Context, db *sqlstore.DB, _ *sql.DB, statement string) error {
	return steps.Tx(ctx, "effect", db, func(ctx context.Context, tx sqlstore.Tx) error {
		_, err := tx.ExecContext(ctx, statement, "a")
		return err
	})
}

// failAfter fails once after the effect, and so the next attempt must not repeat it.
func failAfter(e effect) effect {
	var failed atomic.Bool
	return func(ctx context.Context, db *sqlstore.DB, pool *sql.DB, statement string) error {
		if err := e(ctx, db, pool, statement); err != nil || failed.Swap(true) {
			return err
		}
		return errBoom
	}
}

func txEffect(ctx context.Context, db *sqlstore.DB, pool *sql.DB, statement string) error {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := db.CompleteTx(ctx, tx); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, statement, "a"); err != nil {
		return err
	}
	return tx.Commit()
}

func failOnce(e effect) effect {
	var failed atomic.Bool
	return func(ctx context.Context, db *sqlstore.DB, pool *sql.DB, statement string) error {
		if failed.Swap(true) {
			return e(ctx, db, pool, statement)
		}
		return db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
			_, err := tx.ExecContext(ctx, statement, "a")
			return errors.Join(err, errBoom)
		})
	}
}

func (w *cutWorld) db(inbox bool) (*sqlstore.DB, error) {
	db, err := sqlstore.New(w.pool, sqlstore.Config{Dialect: sqlstore.Postgres, Schema: w.schema, Inbox: inbox})
	if err != nil {
		return nil, err
	}
	return db, inSchema(w.t, w.whole, w.schema).Migrate(w.t.Context())
}

// deliveries delivers one task until it is over, as the service does. Its effect
// must be there once.
func (w *cutWorld) deliveries(inbox bool, e effect) error {
	db, err := w.db(inbox)
	if err != nil {
		return err
	}
	var store handoff.Store = db.Store()
	if inbox {
		store = memstore.New()
	}
	worker := newWorker(w.t, w.whole, store, func(c *handoff.RouterConfig) { c.Lease = time.Second })
	handle := func(ctx context.Context) error { return e(ctx, db, w.pool, worker.insert()) }
	if err := w.untilOver(worker, handle); err != nil {
		return err
	}
	if n := worker.count(); n != 1 {
		return fmt.Errorf("%d effects\n%s", n, worker.log)
	}
	return nil
}

// untilOver delivers until the response is final, and once more.
func (w *cutWorld) untilOver(worker *worker, handle func(context.Context) error) error {
	var statuses []int
	for range 100 {
		status := worker.deliver(w.t.Context(), "a", handle)
		statuses = append(statuses, status)
		if status < 300 {
			w.cutter.end()
			again := worker.deliver(w.t.Context(), "a", handle)
			for tries := 0; again == http.StatusServiceUnavailable && tries < 20; tries++ { // a claim has a second, on a busy machine too
				again = worker.deliver(w.t.Context(), "a", handle)
			}
			if again != http.StatusAlreadyReported {
				return fmt.Errorf("statuses %v, and then %d\n%s", statuses, again, worker.log)
			}
			return nil
		}
		time.Sleep(100 * time.Millisecond) // the service's backoff
	}
	return fmt.Errorf("not over: %v\n%s", statuses, worker.log)
}

// burial delivers a task that can never succeed. It must leave one letter.
func (w *cutWorld) burial() error {
	db, err := w.db(false)
	if err != nil {
		return err
	}
	worker := newWorker(w.t, w.whole, db.Store(), func(c *handoff.RouterConfig) { c.Lease, c.DeadLetters = time.Second, db.DeadLetters() })
	for range 100 {
		if status := worker.deliver(w.t.Context(), "a", func(context.Context) error { return handoff.Permanent(errBoom) }); status < 300 {
			w.cutter.end()
			page, err := db.DeadLetters().List(w.t.Context(), handoff.DeadLetterQuery{})
			if err != nil || len(page.Letters) != 1 {
				return fmt.Errorf("letters %+v, %v\n%s", page, err, worker.log)
			}
			return nil
		}
		time.Sleep(100 * time.Millisecond) // the service's backoff
	}
	return fmt.Errorf("not over:\n%s", worker.log)
}

// outbox enqueues in a transaction with an effect, and relays. There must be as
// many pieces of work as effects, however often each was sent.
func (w *cutWorld) outbox() error {
	if _, err := w.db(false); err != nil {
		return err
	}
	s := newShop(w.t, "q")
	db, err := sqlstore.New(w.pool, sqlstore.Config{Dialect: sqlstore.Postgres, Schema: s.schema})
	if err != nil {
		return err
	}
	effects := fmt.Sprintf("effects_%d", schemas.Add(1))
	exec(w.t, w.whole, `CREATE TABLE `+effects+` (task text)`)
	outbox := db.Outbox(s.client)
	for range 2 {
		_ = w.order(outbox, `INSERT INTO `+effects+` VALUES ($1)`) // its caller may not know how it ended
		_, _ = outbox.Send(w.t.Context())
	}
	w.cutter.end()
	for { // until what a relay left behind is over
		exec(w.t, w.whole, `UPDATE `+quoted(s.schema)+`.outbox SET next_at = 0`)
		if _, err := outbox.Send(w.t.Context()); err != nil {
			return err
		}
		rows, err := outbox.List(w.t.Context(), 0, 10, false)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
	}
	works := make(map[string]bool)
	for _, task := range s.srv.Tasks(parent + "/queues/q") {
		works[task.GetHttpRequest().GetHeaders()["Handoff-Id"]] = true
	}
	var committed int
	if err := w.whole.QueryRow(`SELECT count(*) FROM ` + effects).Scan(&committed); err != nil {
		return err
	}
	if len(works) != committed || committed < 1 {
		return fmt.Errorf("%d pieces of work for %d committed transactions", len(works), committed)
	}
	return nil
}

func (w *cutWorld) order(outbox *sqlstore.Outbox, statement string) error {
	tx, err := w.pool.BeginTx(w.t.Context(), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(w.t.Context(), statement, "a"); err != nil {
		return err
	}
	if _, err := outbox.Enqueue(w.t.Context(), tx, order{}, handoff.OnQueue("q")); err != nil {
		return err
	}
	return tx.Commit()
}

// TestCut cuts the connection at each statement of each path, in each way.
func TestCut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	whole := connect(t)
	var cuts atomic.Int64
	var lanes sync.WaitGroup
	room := make(chan struct{}, 12) // most of the time is waiting
	for name, path := range paths {
		for _, mode := range []cutMode{cutBefore, cutAfter, cutLate, cutHeld} {
			lanes.Go(func() {
				for at := int64(1); ; at++ {
					room <- struct{}{}
					w := &cutWorld{t: t, name: name, schema: newSchema(), whole: whole, cutter: &cutter{url: server.URL(), mode: mode, at: at}}
					w.pool = sql.OpenDB(w.cutter)
					err := path(w)
					_ = w.pool.Close()
					<-room
					if err != nil {
						t.Errorf("%s, cut %s statement %d: %v", name, mode, at, err)
					}
					if !w.cutter.was() || err != nil {
						return // there are no more statements
					}
					cuts.Add(1)
				}
			})
		}
	}
	lanes.Wait()
	t.Logf("%d cuts", cuts.Load())
}
