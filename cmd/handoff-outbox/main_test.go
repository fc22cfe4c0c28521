package main

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/pgtest"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/brillconsulting/handoff/sqlstore/sqlitetest"
)

type order struct{}

func (order) Kind() string { return "order" }

// place is a database with three rows in its outbox, the second of which is parked.
type place struct {
	t    *testing.T
	url  string
	pool *sql.DB
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, url: pgtest.Start(t).URL()}
	var err error
	if p.pool, err = sql.Open("pgx", p.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.pool.Close() })
	db, err := sqlstore.New(p.pool, sqlstore.Config{Dialect: sqlstore.Postgres})
	if err == nil {
		err = db.Migrate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return p.fill(db, "handoff.outbox")
}

func newSQLitePlace(t *testing.T) *place {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a ?.db")
	db, pool := sqlitetest.New(t, path, sqlstore.Config{})
	p := &place{t: t, url: "sqlite:" + path, pool: pool}
	return p.fill(db, "handoff_outbox")
}

func (p *place) fill(db *sqlstore.DB, table string) *place {
	t := p.t
	t.Helper()
	client, err := handoff.NewClient(t.Context(), handoff.ClientConfig{
		Project: "p", Location: "l", DraftOnly: true, Target: handoff.HTTPTarget{URL: "http://127.0.0.1:1/tasks", DangerouslySendUnsigned: true},
	})
	tx, terr := p.pool.Begin()
	if err := errors.Join(err, terr); err != nil {
		t.Fatal(err)
	}
	for _, queue := range []string{"emails", "emails", "invoices"} {
		if _, err := db.Outbox(client).Enqueue(t.Context(), tx, order{}, handoff.OnQueue(queue)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tx.Exec("UPDATE " + table + " SET parked = 'no \x1b Draft', next_at = 0 WHERE id = 2"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs the command and returns what it wrote.
func (p *place) run(want int, args ...string) (stdout, stderr string) {
	p.t.Helper()
	var out, errs bytes.Buffer
	if code := run(p.t.Context(), append(args, "--database", p.url), &out, &errs); code != want {
		p.t.Fatalf("%v: exit code %d, want %d\n%s%s", args, code, want, &out, &errs)
	}
	return out.String(), errs.String()
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) *place{"PostgreSQL": newPlace, "SQLite": newSQLitePlace} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open(t).operate()
		})
	}
}

// operate tries every command.
func (p *place) operate() {
	t := p.t
	stdout, stderr := p.run(0, "list")
	if lines := strings.Split(strings.TrimSpace(stdout), "\n"); len(lines) != 4 || !strings.Contains(lines[2], "parked: no   Draft") || !strings.Contains(lines[3], "invoices") {
		t.Errorf("got\n%s", stdout)
	}
	if !strings.Contains(stderr, "queue emails: 1 waiting, the oldest due ") || !strings.Contains(stderr, "; 0 later; 1 parked\n") {
		t.Errorf("got\n%s", stderr)
	}
	for want, args := range map[string][]string{
		`{"id":2,`: {"list", "--parked", "-o", "json"},
		`{"id":3,`: {"list", "--queue", "invoices", "-o", "json"},
		`{"id":1,`: {"list", "--limit", "1", "-o", "json"},
	} {
		if stdout, _ := p.run(0, args...); !strings.HasPrefix(stdout, want) || strings.Count(stdout, "\n") != 1 {
			t.Errorf("%v: got\n%s", args, stdout)
		}
	}
	if stdout, _ := p.run(0, "retry", "--parked"); stdout != "retried row 2\n" {
		t.Errorf("got %q", stdout)
	}
	if stdout, _ := p.run(0, "list", "--parked", "-o", "json"); stdout != "" {
		t.Errorf("got %q", stdout)
	}
	stdout, stderr = p.run(1, "drop", "--yes", "1", "9", "3")
	if stdout != "dropped row 1\ndropped row 3\n" || !strings.Contains(stderr, "there is no row 9") {
		t.Errorf("got %q and %q", stdout, stderr)
	}
	if stdout, _ := p.run(0, "list", "-o", "json"); !strings.HasPrefix(stdout, `{"id":2,`) || strings.Count(stdout, "\n") != 1 {
		t.Errorf("left are\n%s", stdout)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"list"}, {"list", "--database", "mysql://secret@host"}, {"drop", "1"}, {"retry"}, {"retry", "1", "--parked"}, {"drop", "x", "--yes"},
		{"list", "--database", "postgres://u@127.0.0.1:1/x", "--schema", strings.Repeat("x", 64)},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs); code != 2 || strings.Contains(errs.String(), "secret") {
			t.Errorf("%v: exit code %d: %s", args, code, &errs)
		}
	}
	none := filepath.Join(t.TempDir(), "none.db")
	for _, database := range []string{"postgres://u:secret@127.0.0.1:1/x", "sqlite:" + none} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"list", "--database", database}, &out, &errs); code != 1 || strings.Contains(errs.String(), "secret") {
			t.Errorf("exit code %d: %s", code, &errs)
		}
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("a database was made")
	}
}

// TestBesideHandoff: handoff outbox is this program.
func TestBesideHandoff(t *testing.T) {
	t.Parallel()
	p, dir := newPlace(t), t.TempDir()
	handoff := filepath.Join(dir, "handoff")
	for _, build := range []struct{ dir, out, pkg string }{{"../..", handoff, "./cmd/handoff"}, {".", filepath.Join(dir, "handoff-outbox"), "."}} {
		cmd := exec.Command("go", "build", "-o", build.out, build.pkg)
		cmd.Dir = build.dir
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
	}
	for want, args := range map[int][]string{0: {"outbox", "retry", "2"}, 1: {"outbox", "retry", "7"}, 2: {"outbox", "drop", "1"}} {
		cmd := exec.Command(handoff, args...)
		cmd.Env = append(os.Environ(), "HANDOFF_DATABASE_URL="+p.url)
		said, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%v: exit code %d (%v):\n%s", args, got, err, said)
		}
	}
	said, err := exec.Command(handoff, "outbox", "--help").CombinedOutput()
	if err != nil || !strings.Contains(string(said), "--database") {
		t.Error(fmt.Sprint(err), string(said))
	}
}
