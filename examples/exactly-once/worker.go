package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/sqlstore"
	_ "modernc.org/sqlite" // pure Go, so there is nothing to install
)

// Charge is the task.
type Charge struct {
	Order int `json:"order"`
	Cents int `json:"cents"`
}

func (Charge) Kind() string { return "charge" }
func (Charge) Policy() handoff.Policy {
	return handoff.Policy{Queue: "charges", Retry: handoff.Retry{MinBackoff: 50 * time.Millisecond, MaxBackoff: time.Second}}
}

// diesInside reports whether the worker also dies inside the transaction.
func (c Charge) diesInside() bool { return c.Order%10 == 0 }

// open opens the database. A commit is on disk when it returns (FULL).
func open(path string) (*sql.DB, *sqlstore.DB, error) {
	pool, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, nil, err
	}
	db, err := sqlstore.New(pool, sqlstore.Config{Dialect: sqlstore.SQLite})
	return pool, db, err
}

// work serves tasks until it dies.
func work(path string) error {
	pool, db, err := open(path)
	if err != nil {
		return err
	}
	defer pool.Close()
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true, // an example
		Store:                           db.Store(),
		DeadLetters:                     db.DeadLetters(),
		Lease:                           time.Second, // who dies inside a transaction holds its task for so long
		Logger:                          slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	handoff.Handle(router, func(ctx context.Context, c Charge) error {
		err := db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
			// No constraint, no check: a second charge would be a second row.
			_, err := tx.ExecContext(ctx, `INSERT INTO ledger (customer_order, cents) VALUES (?, ?)`, c.Order, c.Cents)
			if c.diesInside() && handoff.InfoFromContext(ctx).Attempt == 1 {
				die()
			}
			return err
		})
		if err == nil {
			die() // the effect is committed, and there is no response yet
		}
		return err
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return (&http.Server{Handler: router, ReadHeaderTimeout: time.Minute}).Serve(listener)
}

// die is what an operating system without memory does.
func die() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {}
}
