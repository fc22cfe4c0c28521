package sqlstore_test

import (
	"context"
	"database/sql"
	"log"
	"net/http"
	"os"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/sqlstore"
)

type ChargeCard struct {
	Account string `json:"account"`
	Cents   int    `json:"cents"`
}

func (ChargeCard) Kind() string { return "charge-card" }

// The balance is changed exactly once, whatever dies when.
func ExampleDB_Run() {
	pool, err := sql.Open("pgx", os.Getenv("DATABASE_URL")) // import _ "github.com/jackc/pgx/v5/stdlib"
	if err != nil {
		log.Fatal(err)
	}
	db, err := sqlstore.New(pool, sqlstore.Config{Dialect: sqlstore.Postgres})
	if err != nil {
		log.Fatal(err)
	}
	if err := db.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true, // use NewOIDC
		Store:                           db.Store(),
		DeadLetters:                     db.DeadLetters(),
	})
	if err != nil {
		log.Fatal(err)
	}
	handoff.Handle(router, func(ctx context.Context, c ChargeCard) error {
		return db.Run(ctx, func(ctx context.Context, tx sqlstore.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE accounts SET cents = cents - $1 WHERE id = $2`, c.Cents, c.Account)
			return err
		})
	})
}

// A transaction that the application begins and commits itself. The mark comes
// first.
func ExampleDB_CompleteTx() {
	var pool *sql.DB
	var db *sqlstore.DB
	var router *handoff.Router

	handoff.Handle(router, func(ctx context.Context, c ChargeCard) error {
		tx, err := pool.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := db.CompleteTx(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE accounts SET cents = cents - $1 WHERE id = $2`, c.Cents, c.Account); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// The card is charged if and only if the order was committed.
func ExampleOutbox_Enqueue() {
	var ctx context.Context
	var pool *sql.DB
	var outbox *sqlstore.Outbox // of DB.Outbox

	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `INSERT INTO orders (id) VALUES ($1)`, "42"); err != nil {
		log.Fatal(err)
	}
	if _, err := outbox.Enqueue(ctx, tx, ChargeCard{Account: "42", Cents: 990}); err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		log.Fatal(err)
	}
	outbox.Nudge(ctx) // the relay, outbox.Run in some goroutine, sends it at once
}

// On Cloud Run the CPU stops after the response: what is due is sent before it. What
// fails here is left to the sweep of Outbox.Handler.
func ExampleOutbox_Send() {
	var outbox *sqlstore.Outbox // of DB.Outbox

	http.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		// A transaction with outbox.Enqueue, and its commit.
		if _, err := outbox.Send(r.Context()); err != nil {
			log.Print(err) // the order stands
		}
		w.WriteHeader(http.StatusCreated)
	})
}

// The relay of a service that scales to zero: a job of Cloud Scheduler calls it
// every minute, with a token of its service account.
func ExampleOutbox_Handler() {
	var outbox *sqlstore.Outbox // of DB.Outbox

	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{"https://shop.example.com/outbox"},
		Callers:   []string{"scheduler@my-project.iam.gserviceaccount.com"},
	})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("POST /outbox", outbox.Handler(verifier))
}
