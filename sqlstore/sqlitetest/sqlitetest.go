// Package sqlitetest opens SQLite databases for tests of code that uses package
// sqlstore, without a server and without cgo:
//
//	func TestCharge(t *testing.T) {
//		db, pool := sqlitetest.New(t, ":memory:", sqlstore.Config{})
//		…
//	}
//
// It brings the driver modernc.org/sqlite.
package sqlitetest

import (
	"database/sql"
	"net/url"
	"testing"

	"github.com/brillconsulting/handoff/sqlstore"
	_ "modernc.org/sqlite" // the driver
)

// New opens a database, makes the tables of package sqlstore, and closes the
// database when the test ends. The path is that of a file, which is made if need be,
// or ":memory:". The config's Dialect is set to [sqlstore.SQLite]. Any error ends the
// test.
//
// A database in memory is one connection: what asks the pool while a transaction is
// open waits for its end. Use a file, such as
// filepath.Join(t.TempDir(), "test.db"), for what several goroutines or processes do
// at once.
func New(t testing.TB, path string, config sqlstore.Config) (*sqlstore.DB, *sql.DB) {
	t.Helper()
	pool, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	config.Dialect = sqlstore.SQLite
	db, err := sqlstore.New(pool, config)
	if err == nil {
		err = db.Migrate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return db, pool
}

// Open opens a database as [New] does, without tables. It sets what package sqlstore
// was tested with: transactions take the lock of writers when they begin
// (BEGIN IMMEDIATE) and wait for it for up to 5 s, a commit is on disk when it returns,
// and readers do not wait for writers (WAL).
func Open(path string) (*sql.DB, error) {
	if path == ":memory:" {
		pool, err := sql.Open("sqlite", ":memory:")
		if err == nil {
			pool.SetMaxOpenConns(1) // each connection would be another database
		}
		return pool, err
	}
	settings := url.Values{
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)"},
	}
	return sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+settings.Encode())
}
