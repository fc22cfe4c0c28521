package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/brillconsulting/handoff/sqlstore"
	_ "modernc.org/sqlite" // pure Go, so there is nothing to install
)

const schema = `
CREATE TABLE customers (name TEXT PRIMARY KEY, cents INTEGER NOT NULL);
CREATE TABLE orders (
	id       TEXT PRIMARY KEY,
	customer TEXT NOT NULL REFERENCES customers,
	cents    INTEGER NOT NULL,
	state    TEXT NOT NULL DEFAULT 'placed'
);`

var errDeclined = errors.New("the card is declined")

// order is a row of orders.
type order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Cents    int    `json:"cents"`
	State    string `json:"state"` // placed, paid, shipped
}

// books is the database. It has the shop's tables and those of sqlstore: the record
// of each task, dead letters, and the outbox.
type books struct {
	db    *sql.DB
	tasks *sqlstore.DB
}

func openBooks(ctx context.Context, file string) (books, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)")
	if err != nil {
		return books{}, err
	}
	tasks, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	if err == nil {
		err = tasks.Migrate(ctx)
	}
	if err == nil {
		_, err = db.ExecContext(ctx, schema)
	}
	if err != nil {
		return books{}, errors.Join(err, db.Close())
	}
	return books{db, tasks}, nil
}

// place stores an order and its first task: both are there or neither is. The
// customer chose its ID, so placing it again after a lost response changes nothing.
func (b books) place(ctx context.Context, outbox *sqlstore.Outbox, o order) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // no effect after the commit
	placed, err := tx.ExecContext(ctx, `INSERT INTO orders (id, customer, cents) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, o.ID, o.Customer, o.Cents)
	if err != nil {
		return err
	}
	if n, err := placed.RowsAffected(); err != nil || n == 0 {
		return err
	}
	if _, err := outbox.Enqueue(ctx, tx, Charge{Order: o.ID}); err != nil {
		return err
	}
	return tx.Commit()
}

// charge takes an order's money from its customer. It runs in the transaction that
// marks the task as done, so it needs no guard against a second run.
func charge(ctx context.Context, tx sqlstore.Tx, id string) error {
	var o order
	err := tx.QueryRowContext(ctx, `UPDATE orders SET state = 'paid' WHERE id = ? RETURNING customer, cents`, id).Scan(&o.Customer, &o.Cents)
	if err != nil {
		return fmt.Errorf("order %s: %w", id, err)
	}
	taken, err := tx.ExecContext(ctx, `UPDATE customers SET cents = cents - ? WHERE name = ? AND cents >= ?`, o.Cents, o.Customer, o.Cents)
	if err != nil {
		return err
	}
	if n, err := taken.RowsAffected(); err != nil {
		return err
	} else if n == 0 {
		return fmt.Errorf("order %s: %w", id, errDeclined)
	}
	return nil
}

// shipped records that the carrier has the order. Repeating that is harmless.
func (b books) shipped(ctx context.Context, id string) error {
	_, err := b.db.ExecContext(ctx, `UPDATE orders SET state = 'shipped' WHERE id = ?`, id)
	return err
}

// deposit gives a customer money.
func (b books) deposit(ctx context.Context, customer string, cents int) error {
	_, err := b.db.ExecContext(ctx, `INSERT INTO customers (name, cents) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET cents = cents + excluded.cents`, customer, cents)
	return err
}

func (b books) order(ctx context.Context, id string) (order, error) {
	o := order{ID: id}
	err := b.db.QueryRowContext(ctx, `SELECT customer, cents, state FROM orders WHERE id = ?`, id).Scan(&o.Customer, &o.Cents, &o.State)
	return o, err
}

func (b books) balance(ctx context.Context, customer string) (cents int, err error) {
	err = b.db.QueryRowContext(ctx, `SELECT cents FROM customers WHERE name = ?`, customer).Scan(&cents)
	return cents, err
}
