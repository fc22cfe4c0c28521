package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "modernc.org/sqlite" // pure Go, so there is nothing to install
)

const schema = `
CREATE TABLE customers (name TEXT PRIMARY KEY, cents INTEGER NOT NULL);
CREATE TABLE orders (
	id       TEXT PRIMARY KEY,
	customer TEXT NOT NULL REFERENCES customers,
	cents    INTEGER NOT NULL,
	state    TEXT NOT NULL DEFAULT 'placed',
	token    INTEGER NOT NULL DEFAULT 0 -- the fencing token of the latest run that touched it
);`

var (
	errDeclined = errors.New("the card is declined")
	errStale    = errors.New("a newer run has this order, or nobody placed it")
)

// order is a row of orders.
type order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Cents    int    `json:"cents"`
	State    string `json:"state"` // placed, paid, shipped
}

// books is the database.
type books struct{ db *sql.DB }

func openBooks(ctx context.Context, file string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", file+"?_pragma=foreign_keys(1)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // SQLite has one writer at a time; the others wait here
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// place stores an order. The customer chose its ID, so placing it again after a
// lost response changes nothing.
func (b books) place(ctx context.Context, o order) error {
	_, err := b.db.ExecContext(ctx, `INSERT INTO orders (id, customer, cents) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, o.ID, o.Customer, o.Cents)
	return err
}

// charge takes an order's money from its customer, once.
//
// The fence and this database are two systems, so two things can go wrong. If a
// worker dies after the commit below and before it marks the task as done, the
// task runs again: the order's state shows that it is paid. If a worker stalls
// for longer than its lease while another takes over, it resumes with a smaller
// token: the first statement refuses it. That statement also locks the row, in
// databases that, unlike SQLite, allow concurrent writers.
func (b books) charge(ctx context.Context, id string, token int64) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // no effect after the commit
	var o order
	err = tx.QueryRowContext(ctx, `UPDATE orders SET token = ? WHERE id = ? AND token < ? RETURNING customer, cents, state`,
		token, id, token).Scan(&o.Customer, &o.Cents, &o.State)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("order %s: %w", id, errStale)
	}
	if err != nil {
		return err
	}
	if o.State != "placed" {
		return tx.Commit()
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
	if _, err := tx.ExecContext(ctx, `UPDATE orders SET state = 'paid' WHERE id = ?`, id); err != nil {
		return err
	}
	return tx.Commit()
}

// shipped records that the carrier has the order. It sets a state instead of
// changing an amount, so repeating it is harmless and it needs no token.
func (b books) shipped(ctx context.Context, id string) error {
	_, err := b.db.ExecContext(ctx, `UPDATE orders SET state = 'shipped' WHERE id = ? AND state <> 'placed'`, id)
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
