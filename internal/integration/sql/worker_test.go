package sql_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/wire"
)

// order is the payload of the tests.
type order struct{}

func (order) Kind() string { return "order" }

// worker is a router whose handler the tests replace, and a table for its effects.
type worker struct {
	*handoff.Router
	t       testing.TB
	pool    *sql.DB
	effects string // table
	log     *buffer

	mu     sync.Mutex
	handle func(ctx context.Context) error
}

type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// newWorker returns a worker with a Store. The change may alter its configuration.
func newWorker(t testing.TB, pool *sql.DB, store handoff.Store, change func(*handoff.RouterConfig)) *worker {
	t.Helper()
	w := &worker{t: t, pool: pool, effects: fmt.Sprintf("effects_%d", schemas.Add(1)), log: new(buffer)}
	if onSQLite(pool) {
		exec(t, pool, `CREATE TABLE `+w.effects+` (task text UNIQUE)`)
	} else {
		exec(t, pool, `CREATE TABLE `+w.effects+` (task text, UNIQUE (task) DEFERRABLE INITIALLY IMMEDIATE)`)
	}
	config := handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true,
		Store:                           store,
		Logger:                          slog.New(slog.NewTextHandler(w.log, nil)),
	}
	if change != nil {
		change(&config)
	}
	var err error
	if w.Router, err = handoff.NewRouter(config); err != nil {
		t.Fatal(err)
	}
	handoff.Handle(w.Router, func(ctx context.Context, _ order) error {
		w.mu.Lock()
		handle := w.handle
		w.mu.Unlock()
		return handle(ctx)
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return w
}

// deliver sends the task of an ID and returns the status.
func (w *worker) deliver(ctx context.Context, id string, handle func(ctx context.Context) error, change ...func(*wire.Stamp)) int {
	w.mu.Lock()
	w.handle = handle
	w.mu.Unlock()
	return w.serve(ctx, id, change...)
}

// serve is deliver without another handler.
func (w *worker) serve(ctx context.Context, id string, change ...func(*wire.Stamp)) int {
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, request(ctx, id, change...))
	return rec.Code
}

func request(ctx context.Context, id string, change ...func(*wire.Stamp)) *http.Request {
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/tasks/order", strings.NewReader("{}"))
	req.Header.Set("Content-Type", "application/json")
	wire.HTTP.Write(req.Header, wire.Dispatch{Queue: "orders", Task: "task-" + id, ETA: time.Now()})
	stamp := wire.Stamp{ID: id, Enqueued: time.Now(), Expires: time.Now().Add(time.Hour), MaxAttempts: 5}
	for _, c := range change {
		c(&stamp)
	}
	stamp.Write(req.Header.Set)
	return req
}

// insert is the effect of a task.
func (w *worker) insert() string {
	if onSQLite(w.pool) {
		return `INSERT INTO ` + w.effects + ` VALUES (?)`
	}
	return `INSERT INTO ` + w.effects + ` VALUES ($1)`
}

func (w *worker) count() int {
	w.t.Helper()
	var n int
	if err := w.pool.QueryRow(`SELECT count(*) FROM ` + w.effects).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}
