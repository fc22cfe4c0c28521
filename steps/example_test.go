package steps_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/sqlstore"
	"github.com/brillconsulting/handoff/steps"
)

// ImportFile is a task of several steps.
type ImportFile struct {
	URL string `json:"url"`
}

func (ImportFile) Kind() string { return "import-file" }
func (ImportFile) Policy() handoff.Policy {
	return handoff.Policy{Queue: "imports", Retry: handoff.Retry{MinBackoff: 10 * time.Millisecond}}
}

// The first attempt fails at row 3. The second does not download again, and goes
// on behind row 2.
func Example() {
	ctx := context.Background()
	tasks, err := emulator.New(emulator.Config{CreateMissingQueues: true})
	if err != nil {
		log.Fatal(err)
	}
	defer tasks.Close()
	client, err := handoff.NewClient(ctx, handoff.ClientConfig{
		Project: "p", Location: "l", Options: tasks.ClientOptions(),
		Target: handoff.HTTPTarget{URL: "http://localhost/tasks", DangerouslySendUnsigned: true},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true, // an example
		Store:                           memstore.New(),
		DeadLetters:                     memstore.NewDeadLetters(),
		Client:                          client,
		Logger:                          slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	broken := true
	handoff.Handle(router, func(ctx context.Context, f ImportFile) error {
		rows, err := steps.Do(ctx, "download", func(context.Context) (int, error) {
			fmt.Println("download", f.URL)
			return 4, nil
		})
		if err != nil {
			return err
		}
		return steps.Each(ctx, "rows", func(ctx context.Context, c *steps.Cursor[int]) error {
			for row := c.At() + 1; row <= rows; row++ {
				if row == 3 && broken {
					broken = false
					return errors.New("the database is down")
				}
				fmt.Println("row", row)
				if err := c.Save(ctx, row); err != nil {
					return err
				}
			}
			return nil
		})
	})
	tasks.SetHandler(router)
	if _, err := client.Enqueue(ctx, ImportFile{URL: "gs://files/1.csv"}); err != nil {
		log.Fatal(err)
	}
	if err := tasks.Wait(ctx); err != nil {
		log.Fatal(err)
	}
	_ = router.Shutdown(ctx)
	// Output:
	// download gs://files/1.csv
	// row 1
	// row 2
	// row 3
	// row 4
}

// The invoice is written and the step has finished, or neither. The mail may be sent
// twice, since it is no part of the database.
func ExampleTx() { //nolint:testableexamples // needs a database
	var db *sqlstore.DB
	var router *handoff.Router // its Store is db.Store()

	handoff.Handle(router, func(ctx context.Context, o CloseMonth) error {
		err := steps.Tx(ctx, "invoice", db, func(ctx context.Context, tx sqlstore.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO invoices (account, month) VALUES ($1, $2)`, o.Account, o.Month)
			return err
		})
		if err != nil {
			return err
		}
		_, err = steps.Do(ctx, "mail", func(ctx context.Context) (string, error) { return sendMail(ctx, o.Account) })
		return err
	})
}

type CloseMonth struct {
	Account string `json:"account"`
	Month   string `json:"month"`
}

func (CloseMonth) Kind() string { return "close-month" }

func sendMail(context.Context, string) (id string, err error) { return "", nil }
