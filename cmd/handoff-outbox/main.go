// Command handoff-outbox operates an outbox of package sqlstore: tasks that were
// enqueued in a transaction and are not created yet. Installed beside the command
// handoff, it is handoff outbox. It is a module of its own, since it brings drivers
// for PostgreSQL and SQLite.
//
//	handoff-outbox list  [--parked] [--queue ID] [--limit N]
//	handoff-outbox retry ID... | --parked
//	handoff-outbox drop  ID...
//
// The outbox is in the database of --database (HANDOFF_DATABASE_URL or
// DATABASE_URL). The fields of --output json are those of rowJSON and resultJSON.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver
)

type cli struct {
	Database string `env:"HANDOFF_DATABASE_URL,DATABASE_URL" help:"The database of the outbox, postgres://user:password@host:port/name or sqlite:path (HANDOFF_DATABASE_URL or DATABASE_URL; a variable keeps the password out of the process list)." placeholder:"URL"`
	Schema   string `default:"handoff" env:"HANDOFF_SCHEMA" help:"The schema of its tables, or in SQLite what their names begin with (sqlstore.Config.Schema, $$${env})." placeholder:"NAME"`
	Output   string `default:"table" enum:"table,json" help:"How to show results: table, or json for one JSON object a line." placeholder:"table|json" short:"o"`

	List  listCmd  `cmd:"" help:"List rows in the order in which they were enqueued."`
	Retry retryCmd `cmd:"" help:"Have rows sent as soon as possible, also parked ones."`
	Drop  dropCmd  `cmd:"" help:"Delete rows: their tasks are never created, unless they were already."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// usageError is a mistake in the command line: nothing was done.
type usageError struct{ error }

func usage(text string) error { return usageError{errors.New(text)} }

// errTold is a failure that was printed.
var errTold = errors.New("failed")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := new(cli)
	exit := -1
	parser, err := kong.New(c,
		kong.Name("handoff outbox"),
		kong.Description("Tasks that were enqueued in a transaction and are not created yet.\n\nExit codes: 0 done; 1 failed, at least in part; 2 wrong usage, nothing was done; 130 interrupted."),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(c, &printer{out: stdout, err: stderr, cli: c}),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
	)
	if err != nil {
		panic(err) // the struct above is wrong
	}
	command, err := parser.Parse(args)
	if exit >= 0 { // --help
		return exit
	}
	if err != nil {
		err = usageError{err}
	} else {
		err = command.Run()
	}
	return fail(ctx, err, stderr)
}

func fail(ctx context.Context, err error, stderr io.Writer) int {
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "handoff outbox: interrupted")
		return 130
	case !errors.Is(err, errTold):
		fmt.Fprintf(stderr, "handoff outbox: error: %s\n", printable(err.Error()))
	}
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}

// open connects for as long as do runs.
func (c *cli) open(ctx context.Context, do func(*sqlstore.Outbox) error) error {
	if c.Database == "" {
		return usage("no database: add --database URL, or set HANDOFF_DATABASE_URL or DATABASE_URL")
	}
	const timeout = 10 * time.Second
	pool, dialect, err := connect(c.Database, timeout)
	if err != nil {
		return err
	}
	defer pool.Close()
	db, err := sqlstore.New(pool, sqlstore.Config{Dialect: dialect, Schema: c.Schema})
	if err != nil {
		return usageError{err}
	}
	if err := reach(ctx, pool, timeout); err != nil {
		return fmt.Errorf("no connection to the database: %w: check --database, and that it is up", err)
	}
	return do(db.Outbox(nil))
}

func connect(database string, timeout time.Duration) (*sql.DB, sqlstore.Dialect, error) {
	if path, ok := strings.CutPrefix(database, "sqlite:"); ok {
		// Mode rw makes no file.
		pool, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=rw&_pragma=busy_timeout(5000)")
		return pool, sqlstore.SQLite, err
	}
	config, err := pgx.ParseConfig(database)
	if err != nil {
		// Not err: it may quote the URL, and that has a password.
		return nil, 0, usage("--database is no URL of a database; it must be postgres://user:password@host:port/name or sqlite:path")
	}
	config.ConnectTimeout = timeout
	return stdlib.OpenDB(*config), sqlstore.Postgres, nil
}

func reach(ctx context.Context, pool *sql.DB, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return pool.PingContext(ctx)
}

// printable replaces the characters that a terminal would obey by spaces.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2060 && r <= 0x2069 {
			return ' '
		}
		return r
	}, s)
}
