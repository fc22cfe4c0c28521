// Quickstart runs both sides of handoff on this machine: Cloud Tasks (the
// emulator), a Redis, a worker and a producer. It enqueues tasks of every sort,
// prints each delivery, and checks at the end that all tasks ended as they
// should.
//
//	go run ./examples/quickstart
//
// With REDIS_ADDR=localhost:6379 it uses that Redis instead of the embedded one.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/labstack/echo/v4"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/redisstore"
)

const (
	location = "projects/quickstart/locations/europe-west1"
	account  = "tasks@quickstart.iam.gserviceaccount.com"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	tasks, err := emulator.New(emulator.Config{})
	if err != nil {
		return err
	}
	defer tasks.Close()
	rdb, where, closeRedis, err := openRedis()
	if err != nil {
		return err
	}
	defer closeRedis()
	if err := createQueue(ctx, tasks); err != nil {
		return err
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	fmt.Printf("Cloud Tasks: the emulator, in this process\nRedis:       %s\nWorker:      %s/tasks\n\n", where, url)

	letters := redisstore.NewDeadLetters(rdb, nil)
	book := newLedger(os.Stdout)
	router, err := newWorker(url, tasks, redisstore.New(rdb, nil), letters, book)
	if err != nil {
		return err
	}
	server := serve(listener, router)
	defer server.Close()

	// The producer: one line for each task.
	client, err := handoff.NewClient(ctx, handoff.ClientConfig{
		Project:  "quickstart",
		Location: "europe-west1",
		Target:   handoff.HTTPTarget{URL: url + "/tasks", ServiceAccount: account},
		Options:  tasks.ClientOptions(),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	if err := enqueueAll(ctx, client, book); err != nil {
		return err
	}

	// Wait until Cloud Tasks has nothing left, then stop as a service would.
	if err := book.wait(ctx, tasks); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	if err := router.Shutdown(ctx); err != nil {
		return err
	}
	return book.summary(ctx, letters)
}

// newWorker makes the worker: who may call, the stores of the fence and the dead
// letters, and one plain function for each kind.
func newWorker(url string, tasks *emulator.Server, store handoff.Store, letters handoff.DeadLetterStore, book *ledger) (*handoff.Router, error) {
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{url},
		Callers:   []string{account},
		Keys:      handoff.StaticKeys(tasks.JWKS()), // leave this out in production: the default is Google's keys
	})
	if err != nil {
		return nil, err
	}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier:    verifier,
		Store:       store,
		DeadLetters: letters,
		Observers:   []handoff.Observer{{End: book.delivered}},
		Logger:      slog.New(slog.DiscardHandler), // the table shows it all
	})
	if err != nil {
		return nil, err
	}
	registerHandlers(router)
	return router, nil
}

// serve mounts the router as a service would.
func serve(listener net.Listener, router *handoff.Router) *http.Server {
	e := echo.New()
	router.Mount(e.Group("/tasks"))
	server := &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return server
}

// createQueue makes the queue with its limits and its pace of retries.
func createQueue(ctx context.Context, tasks *emulator.Server) error {
	client, err := cloudtasks.NewClient(ctx, tasks.ClientOptions()...)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{
		Parent: location,
		Queue: &cloudtaskspb.Queue{
			Name:        location + "/queues/" + queue,
			RateLimits:  &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 100, MaxConcurrentDispatches: 10},
			RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 10, MinBackoff: durationpb.New(time.Second), MaxBackoff: durationpb.New(time.Minute), MaxDoublings: 5},
		},
	})
	return err
}

// enqueueAll enqueues tasks of every sort, and how each should end.
func enqueueAll(ctx context.Context, client *handoff.Client, book *ledger) error {
	if err := book.enqueue(ctx, client, Welcome{User: "ada"}, "a single task", expected{done: 1}); err != nil {
		return err
	}
	if err := book.enqueue(ctx, client, Welcome{User: "grace"}, "delayed by 3 s", expected{done: 1}, handoff.In(3*time.Second)); err != nil {
		return err
	}
	order := Invoice{Order: "1001"}
	if err := book.enqueue(ctx, client, order, "keyed", expected{done: 1}, handoff.Key(order.Order)); err != nil {
		return err
	}
	if err := book.enqueue(ctx, client, order, "the same key again", expected{duplicate: 1}, handoff.Key(order.Order)); err != nil {
		return err
	}
	if err := book.enqueue(ctx, client, Flaky{Failures: 2}, "fails twice, then succeeds", expected{done: 1, retried: 2}); err != nil {
		return err
	}
	if err := book.enqueue(ctx, client, Doomed{Reason: "no such user"}, "fails for good", expected{dead: 1}); err != nil {
		return err
	}
	thumbnails := make([]Thumbnail, 5)
	for i := range thumbnails {
		thumbnails[i].Image = fmt.Sprintf("photo-%d.jpg", i+1)
	}
	for _, err := range handoff.EnqueueBatch(ctx, client, slices.Values(thumbnails), handoff.Header(whatHeader, "one of a batch")) {
		if err != nil {
			return err
		}
		book.enqueued(expected{done: 1})
	}
	return nil
}

func registerHandlers(router *handoff.Router) {
	handoff.Handle(router, func(context.Context, Welcome) error { return nil })
	handoff.Handle(router, func(context.Context, Invoice) error { return nil })
	handoff.Handle(router, func(context.Context, Thumbnail) error { return nil })
	handoff.Handle(router, func(ctx context.Context, p Flaky) error {
		if handoff.InfoFromContext(ctx).Attempt <= p.Failures {
			return errors.New("the mail server is away")
		}
		return nil
	})
	handoff.Handle(router, func(_ context.Context, p Doomed) error {
		return handoff.Permanent(errors.New(p.Reason))
	})
}
