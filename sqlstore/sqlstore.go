package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Config says where the tables are. Dialect is required; the zero value of
// every other field is its default.
type Config struct {
	_ [0]func()

	// Dialect is the database behind the pool.
	Dialect Dialect

	// Schema holds the tables. Defaults to "handoff". Every statement names it,
	// so that the search_path stays the application's own. SQLite has no schemas:
	// there the names of the tables begin with it, as in handoff_fence.
	Schema string

	// Inbox is for a router whose Store is another than DB.Store, such as one in
	// Redis: Run and CompleteTx then insert the task's key into a table of what
	// was done. Two deliveries may run at once then; one commits.
	Inbox bool

	// Isolation is the isolation level of the transactions that Run begins.
	// Defaults to the database's own. Those of SQLite are always serializable.
	Isolation sql.IsolationLevel

	// Listen has the relay hear of commits in other processes, where
	// [Outbox.Nudge] is called, instead of looking every second: database/sql has
	// no LISTEN. It listens on the channel and calls notified for each
	// notification, until ctx ends or it cannot; it is then called again after 5 s.
	// Package sqlstore/pgxtx has one. It needs a connection of its own, straight
	// to PostgreSQL: PgBouncer in transaction mode passes no notifications on.
	// Defaults to none.
	Listen func(ctx context.Context, channel string, notified func(payload string)) error

	// Logger takes what no caller is told, such as expired rows that could not
	// be removed. Defaults to slog.Default.
	Logger *slog.Logger
}

// defaultSchema is what the migration files say.
const defaultSchema = "handoff"

// maxIdentifier is PostgreSQL's limit; it cuts longer names short, silently.
const maxIdentifier = 63

// DB is a database with the tables of this package. It is safe for concurrent
// use. It starts no goroutine and owns nothing: close the pool when the router
// has shut down.
type DB struct {
	pool    *sql.DB
	schema  string
	dialect Dialect
	sql     statements
	log     *slog.Logger
	ready   atomic.Bool // the schema's version was checked

	listen    func(context.Context, string, func(string)) error
	isolation sql.IsolationLevel
	inbox     bool
	runs      atomic.Uint64 // that were committed with an inbox

	// turn has a value while a statement or a Run writes to SQLite; nil with
	// PostgreSQL. SQLite's lock has no queue: who waits for it sleeps and looks again.
	turn chan struct{}

	mu    sync.Mutex
	marks map[string]markState // by the owner of the lease
}

// New returns a DB on the pool. It does not connect: the first call that needs
// the tables says what is wrong with them. Migrate makes them.
func New(pool *sql.DB, config Config) (*DB, error) {
	var errs []error
	if pool == nil {
		errs = append(errs, errors.New("sqlstore: New: the pool is nil"))
	}
	if !config.Dialect.valid() {
		errs = append(errs, fmt.Errorf("sqlstore: Config.Dialect is %d; it must be sqlstore.Postgres or sqlstore.SQLite", int(config.Dialect)))
	}
	schema := cmp.Or(config.Schema, defaultSchema)
	if len(schema) > maxIdentifier || !utf8.ValidString(schema) || strings.ContainsAny(schema, "\x00$") {
		errs = append(errs, fmt.Errorf("sqlstore: Config.Schema is %q; it must be a name of at most %d bytes, without NUL and without $", schema, maxIdentifier))
	}
	switch _, known := isolations[config.Isolation]; {
	case !known:
		errs = append(errs, fmt.Errorf("sqlstore: Config.Isolation is %s; it must be Read Committed, Repeatable Read, Serializable or Default", config.Isolation))
	case config.Dialect == SQLite && config.Isolation != sql.LevelDefault && config.Isolation != sql.LevelSerializable:
		errs = append(errs, fmt.Errorf("sqlstore: Config.Isolation is %s; with SQLite it must be Serializable or Default", config.Isolation))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var turn chan struct{}
	if config.Dialect == SQLite {
		turn = make(chan struct{}, 1)
	}
	return &DB{
		pool:    pool,
		schema:  schema,
		dialect: config.Dialect,
		sql:     config.Dialect.statements(schema),
		log:     cmp.Or(config.Logger, slog.Default()),

		listen:    config.Listen,
		isolation: config.Isolation,
		inbox:     config.Inbox,
		turn:      turn,
		marks:     make(map[string]markState),
	}, nil
}

// query, queryRow and exec send a statement of this package to the pool. Query and
// exec repeat it if the database was busy.

func (db *DB) query(ctx context.Context, statement string, args ...any) (rows *sql.Rows, err error) {
	err = db.retry(ctx, func() error {
		rows, err = db.pool.QueryContext(ctx, statement, db.args(args...)...) //nolint:rowserrcheck,sqlclosecheck // by the caller
		return err
	})
	return rows, err
}

func (db *DB) queryRow(ctx context.Context, statement string, args ...any) *sql.Row {
	return db.pool.QueryRowContext(ctx, statement, db.args(args...)...)
}

func (db *DB) exec(ctx context.Context, statement string, args ...any) (result sql.Result, err error) {
	err = db.retry(ctx, func() error {
		result, err = db.pool.ExecContext(ctx, statement, db.args(args...)...)
		return err
	})
	return result, err
}

// args puts the time before the arguments of a statement, where a dialect takes the
// process's.
func (db *DB) args(args ...any) []any {
	if !db.sql.timed {
		return args
	}
	return append([]any{time.Now().UnixMicro()}, args...)
}

// check makes sure, once, that the tables are there and of a version that this
// package knows.
func (db *DB) check(ctx context.Context) error { return db.checkIn(ctx, db.pool) }

// checkIn is check in a transaction, if that can be asked: it may hold the only
// connection.
func (db *DB) checkIn(ctx context.Context, tx any) error {
	if db.ready.Load() {
		return nil
	}
	version, least, err := db.version(ctx, db.querier(tx))
	if err != nil {
		return err
	}
	switch newest := db.dialect.newest(); {
	case version < newest:
		return fmt.Errorf("the tables in schema %q are of version %d and this program needs %d: run DB.Migrate, or the files of sqlstore.Migrations", db.schema, version, newest)
	case least > newest:
		return fmt.Errorf("the tables in schema %q are of version %d, which needs a program that knows version %d; this one knows %d: deploy a newer one", db.schema, version, least, newest)
	}
	db.ready.Store(true)
	return nil
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// querier returns the transaction, or the pool if that can only execute.
func (db *DB) querier(tx any) querier {
	if q, ok := tx.(querier); ok {
		return q
	}
	return db.pool
}

// version returns the newest migration that was applied, and the oldest that a
// program must know to use the tables.
func (db *DB) version(ctx context.Context, q querier) (version, least int, err error) {
	err = q.QueryRowContext(ctx, db.sql.version).Scan(&version, &least)
	return version, least, db.explain(err)
}

// explained is an error of the database with what to do about it.
type explained struct {
	hint string
	err  error
}

func (e *explained) Error() string { return e.hint + ": " + e.err.Error() }
func (e *explained) Unwrap() error { return e.err }

// explain adds what to do about an error of the database, once.
func (db *DB) explain(err error) error {
	if _, ok := errors.AsType[*explained](err); ok || err == nil {
		return err
	}
	hint := db.hint(err)
	if hint == "" {
		return err
	}
	return &explained{hint, err}
}

// hint says what to do about an error of the database, if that is known.
func (db *DB) hint(err error) string {
	switch sqlState(err) {
	case "42P01", "3F000", "42703": // undefined_table, invalid_schema_name, undefined_column
		return fmt.Sprintf("no tables of this version in schema %q: run DB.Migrate, or the files of sqlstore.Migrations; a transaction of your own must be of the same database", db.schema)
	case "25006": // read_only_sql_transaction
		return "the database takes no writes; connect to the primary, not to a replica"
	case "42501": // insufficient_privilege
		return fmt.Sprintf("the database's user needs USAGE on schema %q, and SELECT, INSERT, UPDATE and DELETE on its tables", db.schema)
	case "53100": // disk_full
		return "the database's disk is full"
	}
	return db.hintSQLite(err)
}

// sqlState returns the code of an error of PostgreSQL, as both pgx and lib/pq
// tell it, or the empty string.
func sqlState(err error) string {
	if coded, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return coded.SQLState()
	}
	return ""
}
