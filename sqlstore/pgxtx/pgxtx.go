// Package pgxtx is what needs pgx. It marks tasks as done, and enqueues tasks, in
// transactions of pgx's own interface, for applications that do not use
// database/sql, and it hears PostgreSQL's notifications for a relay ([Listen]):
//
//	tx, err := pgxPool.Begin(ctx)
//	err = db.CompleteTx(ctx, pgxtx.New(tx))
//	_, err = outbox.Enqueue(ctx, pgxtx.New(tx), ChargeCard{Account: "42"})
//
// The Store itself still needs a pool of database/sql, such as that of
// stdlib.OpenDBFromPool(pgxPool), which shares the connections.
package pgxtx

import (
	"context"
	"database/sql"
	"errors"

	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// New returns the transaction as package sqlstore wants it. It is over when tx is.
func New(tx pgx.Tx) sqlstore.Execer { return execer{tx} }

type execer struct{ tx pgx.Tx }

func (e execer) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if e.tx == nil {
		return nil, errors.New("pgxtx: the transaction is nil")
	}
	tag, err := e.tx.Exec(ctx, query, args...)
	return result{tag}, err
}

type result struct{ tag pgconn.CommandTag }

func (r result) RowsAffected() (int64, error) { return r.tag.RowsAffected(), nil }

// LastInsertId implements [sql.Result]. PostgreSQL has no such thing.
func (r result) LastInsertId() (int64, error) {
	return 0, errors.New("pgxtx: PostgreSQL has no last insert ID; use RETURNING")
}

// Listen returns a [sqlstore.Config].Listen on a connection of its own to the
// database of url, which must not lead through PgBouncer in transaction mode.
func Listen(url string) func(ctx context.Context, channel string, notified func(payload string)) error {
	return func(ctx context.Context, channel string, notified func(payload string)) error {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			return err
		}
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return err
			}
			notified(n.Payload)
		}
	}
}
