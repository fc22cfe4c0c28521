package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/sqlstore"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver
)

// order is the payload: what its handler does is written in it.
type order struct {
	ID   string        `json:"id"`
	Act  string        `json:"act"`
	Work time.Duration `json:"work"` // how long the transaction is open
}

func (order) Kind() string { return "order" }

// Policy gives up on no order: in the end all have their effect.
func (order) Policy() handoff.Policy {
	return handoff.Policy{TTL: handoff.NoTTL, Retry: handoff.Retry{
		MaxAttempts: handoff.Unlimited, MinBackoff: 100 * time.Millisecond, MaxBackoff: time.Second, MaxDoublings: 3,
	}}
}

// orderActs are what handlers of orders do, each with its share of a thousand.
var orderActs = []struct {
	name  string
	share int
}{
	{"ok", 850},
	{"fail", 30},       // once: an error, after the effect
	{"panic", 20},      // once: a panic, after the effect
	{"crash", 4},       // once: SIGKILL in the transaction
	{"crash-after", 6}, // once: SIGKILL between the commit and the response
	{"fail-after", 30}, // an error after the commit, which is no failure
	{"complete", 30},   // in a transaction of its own
	{"follow", 30},     // enqueues another order in its transaction
}

func connect(addr string) (*sql.DB, error) {
	pool, err := sql.Open("pgx", "postgres://test@"+addr+"/postgres?sslmode=disable&connect_timeout=2")
	if err == nil {
		pool.SetMaxOpenConns(30)
		pool.SetMaxIdleConns(30)
	}
	return pool, err
}

// sqlWorker receives orders and relays the outbox.
type sqlWorker struct {
	db     *sqlstore.DB
	pool   *sql.DB
	outbox *sqlstore.Outbox
}

// sqlWorkerMain runs until SIGTERM, and then drains. It writes its address as the
// first line of its standard output.
func sqlWorkerMain() error {
	file, err := os.OpenFile(filepath.Join(os.Getenv(envDir), "workers.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	log := slog.New(slog.NewTextHandler(file, nil))
	pool, err := connect(os.Getenv(envStore))
	if err != nil {
		return err
	}
	defer pool.Close()
	db, err := sqlstore.New(pool, sqlstore.Config{Dialect: sqlstore.Postgres, Logger: log})
	if err != nil {
		return err
	}
	client, err := newClient(os.Getenv(envURL), nil) // CLOUD_TASKS_EMULATOR_HOST says where
	if err != nil {
		return err
	}
	defer client.Close()
	w := &sqlWorker{db: db, pool: pool, outbox: db.Outbox(client)}
	router, err := w.newRouter(client, log)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: router, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	term, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	served, relayed := make(chan error, 1), make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	go func() { relayed <- w.outbox.Run(term) }()

	fmt.Println(listener.Addr())
	<-term.Done()
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	_ = router.Shutdown(ctx) // runs that outlast the drain are for others
	_ = server.Close()
	<-served
	return <-relayed
}

func (w *sqlWorker) newRouter(client *handoff.Client, log *slog.Logger) (*handoff.Router, error) {
	jwks, err := os.ReadFile(filepath.Join(os.Getenv(envDir), "jwks.json"))
	if err != nil {
		return nil, err
	}
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{os.Getenv(envURL)}, Callers: []string{account}, Keys: handoff.StaticKeys(jwks),
	})
	if err != nil {
		return nil, err
	}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier: verifier, Store: w.db.Store(), DeadLetters: w.db.DeadLetters(), Client: client,
		Lease: lease, MaxRun: maxRun, Logger: log,
	})
	if err == nil {
		handoff.Handle(router, w.handle)
	}
	return router, err
}

func (w *sqlWorker) handle(ctx context.Context, o order) error {
	if o.Act == "complete" {
		return w.complete(ctx, o)
	}
	first := handoff.InfoFromContext(ctx).Attempt == 1
	err := w.db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error { return w.effect(ctx, tx, o, first) })
	if err != nil {
		return err
	}
	switch o.Act {
	case "crash-after":
		die()
	case "fail-after":
		return errors.New("fails after the commit")
	}
	return nil
}

// effect is a row. Nothing but Run keeps it from being there twice.
func (w *sqlWorker) effect(ctx context.Context, tx sqlstore.Tx, o order, first bool) error {
	if _, err := tx.ExecContext(ctx, `INSERT INTO effects VALUES ($1)`, o.ID); err != nil {
		return err
	}
	if !pause(ctx, o.Work) {
		return context.Cause(ctx)
	}
	switch {
	case o.Act == "follow":
		return placeOrder(ctx, tx, w.outbox, order{ID: o.ID + "-next", Act: "ok"}, 1)
	case o.Act == "fail" && first:
		return errors.New("fails once")
	case o.Act == "panic" && first:
		panic("panics once")
	case o.Act == "crash" && first:
		die()
	}
	return nil
}

func (w *sqlWorker) complete(ctx context.Context, o order) error {
	tx, err := w.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := w.db.CompleteTx(ctx, tx); err != nil {
		return err
	}
	if err := w.effect(ctx, tx, o, false); err != nil {
		return err
	}
	return tx.Commit()
}

// placeOrder stores an order and enqueues its task in one transaction.
func placeOrder(ctx context.Context, tx sqlstore.Tx, outbox *sqlstore.Outbox, o order, queue int) error {
	if _, err := tx.ExecContext(ctx, `INSERT INTO orders VALUES ($1)`, o.ID); err != nil {
		return err
	}
	_, err := outbox.Enqueue(ctx, tx, o, handoff.OnQueue(queueName(queue)))
	return err
}
