// Package after is the program on handoff.
package after

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/memstore"
)

// Welcome is a task, with its name and its policy.
type Welcome struct {
	User string `json:"user"`
}

// Kind implements handoff.Payload.
func (Welcome) Kind() string { return "welcome-email" }

// Policy sets its queue and retries.
func (Welcome) Policy() handoff.Policy {
	return handoff.Policy{Queue: "emails", Deadline: time.Minute, Retry: handoff.Retry{MaxAttempts: 5, MinBackoff: time.Second}}
}

const (
	parent  = "projects/mailer/locations/europe-west1"
	account = "tasks@mailer.iam.gserviceaccount.com"
	origin  = "https://worker.example.com"
)

// Run is the program.
func Run(ctx context.Context, out io.Writer) error {
	say := log.New(out, "  ", 0)
	tasks, err := emulator.New(emulator.Config{})
	if err != nil {
		return err
	}
	defer tasks.Close()
	if _, err := cloudtaskspb.NewCloudTasksClient(tasks.Conn()).CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{
		Parent: parent, Queue: &cloudtaskspb.Queue{Name: parent + "/queues/emails"},
	}); err != nil {
		return err
	}

	letters := memstore.NewDeadLetters()
	router, err := newWorker(tasks, letters, say)
	if err != nil {
		return err
	}
	tasks.SetHandler(router)
	defer func() { _ = router.Shutdown(context.WithoutCancel(ctx)) }()

	// The producer.
	client, err := handoff.NewClient(ctx, handoff.ClientConfig{
		Project: "mailer", Location: "europe-west1",
		Target:  handoff.HTTPTarget{URL: origin, ServiceAccount: account},
		Options: tasks.ClientOptions(),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	enqueue := func(user string, opts ...handoff.Option) error {
		receipt, err := client.Enqueue(ctx, Welcome{User: user}, opts...)
		if receipt.Duplicate {
			say.Printf("%s is enqueued already", user)
		}
		return err
	}
	err = errors.Join(
		enqueue("ada"),
		enqueue("grace", handoff.In(2*time.Second)),
		enqueue("edsger", handoff.In(time.Second), handoff.Key("edsger")),
		enqueue("edsger", handoff.In(time.Second), handoff.Key("edsger")),
		enqueue("flaky"),
		enqueue("nobody"),
		tasks.Wait(ctx),
	)
	if err != nil {
		return err
	}

	// Tasks that will not run again are dead letters.
	page, err := letters.List(ctx, handoff.DeadLetterQuery{})
	for _, l := range page.Letters {
		say.Printf("%s failed for good", l.Payload)
	}
	return err
}

// newWorker makes the worker: a service with an address, and a function for each type.
func newWorker(tasks *emulator.Server, letters handoff.DeadLetterStore, say *log.Logger) (*handoff.Router, error) {
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{origin}, Callers: []string{account}, Keys: handoff.StaticKeys(tasks.JWKS()),
	})
	if err != nil {
		return nil, err
	}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier: verifier, Store: memstore.New(), DeadLetters: letters, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	handoff.Handle(router, func(ctx context.Context, w Welcome) error {
		attempt := handoff.InfoFromContext(ctx).Attempt
		if err := send(w.User, attempt); errors.Is(err, errNoUser) {
			return handoff.Permanent(err)
		} else if err != nil {
			return err
		}
		say.Printf("%s is welcome, at attempt %d", w.User, attempt)
		return nil
	})
	return router, nil
}

var errNoUser = errors.New("no such user")

// send stands in for a mail server.
func send(user string, attempt int) error {
	switch {
	case user == "nobody":
		return errNoUser
	case user == "flaky" && attempt == 1:
		return errors.New("the mail server is away")
	}
	return nil
}
