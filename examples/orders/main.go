// Orders is a web shop. Its HTTP API stores an order and enqueues the rest:
// charge, shipment, receipt. Here Cloud Tasks delivers every task twice, the
// carrier fails at first, and one customer has no money. At the end every order
// is charged once and shipped.
//
//	go run -C examples/orders .
//
// The shop's database also has the fence, the dead letters and the outbox of package
// sqlstore. So an order and its first task are one commit, and so are a charge, the
// mark of its task, and the tasks that follow. books.go has the SQL, tasks.go the
// handlers, api.go the API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/labstack/echo/v4"
)

const (
	parent  = "projects/shop/locations/europe-west1"
	account = "tasks@shop.iam.gserviceaccount.com"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "orders")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b, err := openBooks(ctx, filepath.Join(dir, "books.db"))
	if err != nil {
		return err
	}
	defer b.db.Close()

	tasks, err := emulator.New(emulator.Config{})
	if err != nil {
		return err
	}
	defer tasks.Close()
	if _, err := cloudtaskspb.NewCloudTasksClient(tasks.Conn()).CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{
		Parent: parent, Queue: &cloudtaskspb.Queue{Name: parent + "/queues/orders"},
	}); err != nil {
		return err
	}
	tasks.InjectDispatch(emulator.DispatchFault{Again: true}) // deliver every task twice: Cloud Tasks promises at least once

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	say := log.New(out, "", 0) // a Logger is safe for concurrent use
	s, err := newShop(ctx, b, tasks, url, say)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer s.client.Close()
	server := &http.Server{Handler: s.echo, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	err = openingDay(ctx, s, tasks, url, say)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 8*time.Second)
	defer cancel()
	err = errors.Join(err, s.router.Shutdown(drain), server.Close())
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// newShop returns the shop's server: the API and the worker. They could be two
// services: they share only the books and the payloads.
func newShop(ctx context.Context, b books, tasks *emulator.Server, url string, say *log.Logger) (*shop, error) {
	client, err := handoff.NewClient(ctx, handoff.ClientConfig{
		Project:  "shop",
		Location: "europe-west1",
		Target:   handoff.HTTPTarget{URL: url + "/tasks", ServiceAccount: account},
		Options:  tasks.ClientOptions(),
	})
	if err != nil {
		return nil, err
	}
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{url},
		Callers:   []string{account},
		Keys:      handoff.StaticKeys(tasks.JWKS()),
	})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	letters := b.tasks.DeadLetters()
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier:    verifier,
		Store:       b.tasks.Store(),
		DeadLetters: letters,
		Observers:   []handoff.Observer{show(say)},
		Logger:      slog.New(slog.DiscardHandler), // show prints every delivery
	})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	s := &shop{echo: echo.New(), router: router, client: client, books: b, outbox: b.tasks.Outbox(client), letters: letters, say: say}
	handoff.Handle(router, s.charge)
	handoff.Handle(router, s.ship)
	handoff.Handle(router, s.mail)
	router.Mount(s.echo.Group("/tasks"))
	s.api(s.echo.Group(""))
	return s, nil
}

// show prints each delivery and its outcome.
func show(say *log.Logger) handoff.Observer {
	return handoff.Observer{End: func(_ context.Context, d handoff.Delivery) {
		say.Printf("  %-8s %d %s%s", d.Info.Kind, d.Status, d.Outcome, why(d.Err))
	}}
}

func why(err error) string {
	if err == nil {
		return ""
	}
	return ", because of: " + err.Error()
}
