package sql_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"os"
	osexec "os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/brillconsulting/handoff/steps"
)

// bouncedSize is how many connections PgBouncer opens to PostgreSQL.
const bouncedSize = 8

// bounced runs PgBouncer in transaction mode before the shared server and returns
// a pool on it.
func bounced(t *testing.T) *sql.DB {
	t.Helper()
	path, err := osexec.LookPath("/usr/sbin/pgbouncer") // which is on root's PATH alone
	if err != nil && os.Getenv("HANDOFF_REQUIRE_PGBOUNCER") == "1" {
		t.Fatal(err)
	}
	if err != nil || server == nil {
		t.Skip("needs PgBouncer and PostgreSQL")
	}
	_, database, err := net.SplitHostPort(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	_ = free.Close()
	file := filepath.Join(t.TempDir(), "pgbouncer.ini")
	config := fmt.Sprintf(`[databases]
postgres = host=127.0.0.1 port=%s user=test
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = %d
max_client_conn = 500
`, database, port, bouncedSize)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{file}
	if os.Getuid() == 0 { // PgBouncer refuses to run as root
		args = append([]string{"-u", "nobody"}, file)
	}
	cmd := osexec.Command(path, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	pool, err := sql.Open("pgx", "postgres://test@127.0.0.1:"+port+"/postgres?sslmode=disable&default_query_exec_mode=exec")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	for end := time.Now().Add(30 * time.Second); pool.PingContext(t.Context()) != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("PgBouncer does not begin")
		}
	}
	return pool
}

// TestPgBouncer: the Store, Run, steps, transactions of one's own and the outbox behind
// PgBouncer in transaction mode, with fewer connections than clients.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	pool := bounced(t)
	migrated := func(t *testing.T) *sqlstore.DB {
		t.Helper()
		db := inSchema(t, pool, newSchema())
		if err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		return db
	}
	t.Run("Store", func(t *testing.T) {
		handofftest.TestStore(t, func(t *testing.T) handoff.Store { return migrated(t).Store() })
	})
	db := migrated(t)
	w := newWorker(t, pool, db.Store(), nil)
	statuses := make(chan int)
	const tasks = 50
	w.handle = func(ctx context.Context) error {
		id := handoff.InfoFromContext(ctx).ID
		effect := func(ctx context.Context, tx sqlstore.Tx) error {
			_, err := tx.ExecContext(ctx, w.insert(), id+"-step")
			return err
		}
		if err := steps.Tx(ctx, "step", db, effect); err != nil {
			return err
		}
		return db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
			_, err := tx.ExecContext(ctx, w.insert(), id)
			return err
		})
	}
	for i := range tasks {
		go func() { statuses <- w.serve(t.Context(), fmt.Sprint("task-", i)) }()
	}
	for range tasks {
		if status := <-statuses; status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
	b := &fixture{worker: w, db: db}
	if status := w.deliver(t.Context(), "own", func(ctx context.Context) error { return b.own(ctx, (*sql.Tx).Commit, nil) }); status != http.StatusOK {
		t.Errorf("a transaction of its own: status %d", status)
	}
	if n := w.count(); n != 2*tasks+1 {
		t.Errorf("%d effects, want %d\n%s", n, 2*tasks+1, w.log)
	}

	s := &shop{t: t, schema: newSchema()}
	s.table = quoted(s.schema) + ".outbox"
	s.again = func() (*sqlstore.DB, *sql.DB) { return inSchema(t, pool, s.schema), pool }
	s.open("q")
	s.enqueue(300, "q", (*sql.Tx).Commit)
	s.send()
	s.want("q", 300, 0)
}
