package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
)

// Tx is a transaction, as [database/sql.Tx], sqlc's DBTX and gorm's ConnPool
// have it.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// Execer is what CompleteTx and the outbox need of a transaction: any [Tx] is one,
// and package sqlstore/pgxtx makes one of a pgx.Tx. A [database/sql.DB] is
// refused. A [database/sql.Conn] must have a transaction open, as after BEGIN: it
// is not asked, and without one the task is committed at once.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func checkTx(tx Execer) error {
	switch tx := tx.(type) {
	case nil:
		return errors.New("the transaction is nil")
	case *sql.DB:
		return errors.New("a *sql.DB is no transaction: what it executes is committed at once; pass the *sql.Tx of its BeginTx, or use DB.Run")
	case *sql.Tx:
		if tx == nil {
			return errors.New("the transaction is nil")
		}
	}
	return nil
}

// runTx is the transaction that the function of a Run is given: it cannot be
// ended by it, nor used after it.
type runTx struct {
	ctx     context.Context // of the function
	conn    *sql.Conn
	dialect Dialect
	over    atomic.Bool
	misuse  atomic.Pointer[error] // why a QueryRow was refused
}

var errRunOver = errors.New("sqlstore: the function of this Run has returned, and its transaction is over")

func (t *runTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := t.check(query); err != nil {
		return nil, err
	}
	result, err := t.conn.ExecContext(ctx, query, args...)
	t.sent(query, err, false)
	return result, err
}

func (t *runTx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := t.check(query); err != nil {
		return nil, err
	}
	rows, err := t.conn.QueryContext(ctx, query, args...)
	t.sent(query, err, true)
	return rows, err
}

func (t *runTx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if err := t.check(query); err != nil {
		// A row cannot be given an error. Run returns it in place of this one.
		t.misuse.Store(&err)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		ctx = ended
	}
	row := t.conn.QueryRowContext(ctx, query, args...)
	t.sent(query, row.Err(), true)
	return row
}

func (t *runTx) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := t.check(query); err != nil {
		return nil, err
	}
	return t.conn.PrepareContext(ctx, query)
}

func (t *runTx) check(query string) error {
	if t.over.Load() {
		return errRunOver
	}
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	return checkStatement(query)
}

// sent is told of a statement. If that has rolled the transaction back, what comes
// next would be committed at once, without the mark. So it gets a transaction of its
// own, which Run rolls back; within the old one, BEGIN does nothing but fail or warn.
// SQLite rolls back after some errors, such as that of a full disk or of a context
// that has ended. While rows of PostgreSQL may be open, nothing can be sent.
func (t *runTx) sent(query string, err error, rows bool) {
	onSQLite := t.dialect == SQLite
	if err != nil && onSQLite || hidden.MatchString(query) && (onSQLite || !rows) {
		_, _ = t.conn.ExecContext(context.WithoutCancel(t.ctx), "BEGIN")
	}
}

// ends matches statements that begin or end a transaction. ROLLBACK TO and
// RELEASE are for savepoints. What hides better, as in a procedure, is found
// before the commit.
var (
	ends       = regexp.MustCompile(`(?is)^(begin|start\s+transaction|commit|end|rollback|abort|prepare\s+transaction)\b`)
	savepoints = regexp.MustCompile(`(?is)^rollback\s+(work\s+|transaction\s+)?to\b`)
	hidden     = regexp.MustCompile(`(?is);.*\b(rollback|abort)\b`)
	comments   = regexp.MustCompile(`(?s)^([\s;]|--[^\n]*(\n|$)|/\*.*?\*/)+`) // before a statement
)

func checkStatement(query string) error {
	query = comments.ReplaceAllString(query, "")
	if found := ends.FindString(query); found != "" && !savepoints.MatchString(query) {
		return fmt.Errorf("sqlstore: %s in the function of a Run: return nil to commit and an error to roll back", strings.ToUpper(found))
	}
	return nil
}
