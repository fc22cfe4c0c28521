package sql_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/fence"
	"github.com/brillconsulting/handoff/internal/pgtest"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/jackc/pgx/v5/stdlib"
)

// BenchmarkReceive compares a delivery through the router and Run with river's
// worker, which completes its job in the transaction, and with bare handlers: one sends the same statements by hand, the other the shortest ones
// that record a task and mark it.
func BenchmarkReceive(b *testing.B) {
	server, pool := durable(b)
	db := inSchema(b, pool, "handoff")
	if err := db.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	same := recorded(b, server)
	b.Run("handoff", func(b *testing.B) {
		w := newWorker(b, pool, db.Store(), nil)
		w.handle = effectIn(db, w)
		receive(b, server, w)
		if got := w.count(); got != b.N {
			b.Errorf("%d effects of %d tasks", got, b.N)
		}
	})
	b.Run("river", func(b *testing.B) { riverReceives(b, server) })
	b.Run("same statements by hand", func(b *testing.B) {
		receive(b, server, bare(pool, same))
	})
	b.Run("short statements by hand", func(b *testing.B) {
		hand := fmt.Sprintf("hand_%d", schemas.Add(1))
		exec(b, pool, `CREATE TABLE `+hand+` (key text PRIMARY KEY, done boolean); CREATE TABLE `+hand+`_effects (task text, UNIQUE (task) DEFERRABLE INITIALLY IMMEDIATE)`)
		receive(b, server, bare(pool, func(id string) statements {
			return statements{
				claim: `INSERT INTO ` + hand + ` VALUES ($1, false) ON CONFLICT DO NOTHING RETURNING 0`,
				args:  []any{id},
				mark: func(int64) string {
					return `BEGIN; UPDATE ` + hand + ` SET done = true WHERE key = '` + id + `' AND NOT done`
				},
				effect: `INSERT INTO ` + hand + `_effects VALUES ($1)`,
				commit: `COMMIT`,
			}
		}))
	})
}

func effectIn(db *sqlstore.DB, w *worker) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		return db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
			_, err := tx.ExecContext(ctx, w.insert(), handoff.InfoFromContext(ctx).ID)
			return err
		})
	}
}

// receive delivers b.N new tasks.
func receive(b *testing.B, server *pgtest.Server, h http.Handler) {
	b.Helper()
	prefix := fmt.Sprint(schemas.Add(1), "-")
	parallel(b, server, func(n int64) error {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, request(b.Context(), fmt.Sprint(prefix, n)))
		if rec.Code != http.StatusOK {
			return fmt.Errorf("status %d: %s", rec.Code, rec.Body)
		}
		return nil
	})
}

// TestStatementsOfADelivery: there are four, and none after the commit.
func TestStatementsOfADelivery(t *testing.T) {
	t.Parallel()
	connect(t)
	recorded(t, server)
}

// statements are all that are sent for a delivery.
type statements struct {
	claim  string
	args   []any // of the claim
	mark   func(token int64) string
	effect string
	commit string
}

// bare returns a handler that sends them.
func bare(pool *sql.DB, of func(id string) statements) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var payload order
		err := json.NewDecoder(r.Body).Decode(&payload)
		id := strings.TrimPrefix(r.Header.Get("X-CloudTasks-TaskName"), "task-")
		if err == nil {
			err = byHand(r.Context(), pool, of(id), id)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}

func byHand(ctx context.Context, pool *sql.DB, s statements, id string) error {
	var token int64
	if err := pool.QueryRowContext(ctx, s.claim, s.args...).Scan(&token); err != nil {
		return err
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.ExecContext(ctx, s.mark(token))
	if err == nil {
		_, err = conn.ExecContext(ctx, s.effect, id)
	}
	if err == nil {
		_, err = conn.ExecContext(ctx, s.commit)
	}
	return err
}

// recorder is a driver that keeps what is sent.
type recorder struct {
	url  string
	sent []sent
}

type sent struct {
	query string
	args  []driver.NamedValue
}

func (r *recorder) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

func (r *recorder) Connect(context.Context) (driver.Conn, error) {
	conn, err := stdlib.GetDefaultDriver().Open(r.url)
	if err != nil {
		return nil, err
	}
	return &recordedConn{conn.(*stdlib.Conn), r}, nil
}

type recordedConn struct {
	*stdlib.Conn

	recorder *recorder
}

func (c *recordedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.recorder.sent = append(c.recorder.sent, sent{query, args})
	return c.Conn.ExecContext(ctx, query, args)
}

func (c *recordedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.recorder.sent = append(c.recorder.sent, sent{query, args})
	return c.Conn.QueryContext(ctx, query, args)
}

// recorded returns the statements of a delivery, which it has seen once, for
// another ID. It fails unless they are four: claim, BEGIN with the mark, effect,
// COMMIT.
func recorded(t testing.TB, server *pgtest.Server) func(id string) statements {
	t.Helper()
	r := &recorder{url: server.URL()}
	pool := sql.OpenDB(r)
	t.Cleanup(func() { _ = pool.Close() })
	db := inSchema(t, pool, "handoff")
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := newWorker(t, pool, db.Store(), nil)
	w.deliver(t.Context(), "before", effectIn(db, w)) // checks the schema
	r.sent = nil
	const seen = "the-recorded-one"
	if status := w.deliver(t.Context(), seen, effectIn(db, w)); status != http.StatusOK || len(r.sent) != 4 {
		t.Fatalf("status %d after %d statements: %v\n%s", status, len(r.sent), r.sent, w.log)
	}
	var token int64
	if err := pool.QueryRow(`SELECT token FROM handoff.fence WHERE key = $1`, fence.IDKey(seen)).Scan(&token); err != nil {
		t.Fatal(err)
	}
	claim, mark, effect, commit := r.sent[0], r.sent[1], r.sent[2], r.sent[3]
	return func(id string) statements {
		var args []any
		for _, arg := range claim.args {
			args = append(args, arg.Value)
		}
		key := fence.IDKey(id)
		args[0] = key
		return statements{
			claim: claim.query, args: args, effect: effect.query, commit: commit.query,
			mark: func(own int64) string {
				return strings.Replace(strings.Replace(mark.query, fence.IDKey(seen), key, 1), fmt.Sprint(token), fmt.Sprint(own), 1)
			},
		}
	}
}
