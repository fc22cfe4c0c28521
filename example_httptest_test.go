package handoff_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/memstore"
)

type WelcomeEmail struct {
	UserID string `json:"user_id"`
}

func (WelcomeEmail) Kind() string { return "welcome-email" }

// A handler can be tested with only net/http/httptest: send a request with the
// headers of a dispatch, and check the status that Cloud Tasks would get.
func Example_httptest() {
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true, // only in a test that is not about authentication
		Store:                           memstore.New(),
		DeadLetters:                     memstore.NewDeadLetters(),
		Logger:                          slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	defer router.Shutdown(context.Background())

	handoff.Handle(router, func(ctx context.Context, e WelcomeEmail) error {
		info := handoff.InfoFromContext(ctx)
		fmt.Printf("attempt %d for user %q\n", info.Attempt, e.UserID)
		if e.UserID == "" {
			return handoff.Permanent(errors.New("no user"))
		}
		return nil
	})

	deliver := func(task, body string) {
		req := httptest.NewRequest(http.MethodPost, "/tasks/welcome-email", strings.NewReader(body))
		req.Header.Set("X-CloudTasks-QueueName", "emails")
		req.Header.Set("X-CloudTasks-TaskName", task)
		rec := httptest.NewRecorder()
		router.ServeHTTP(rec, req)
		fmt.Println(task, rec.Code)
	}
	deliver("t1", `{"user_id":"42"}`)
	deliver("t1", `{"user_id":"42"}`) // Cloud Tasks delivers at least once
	deliver("t2", `{}`)

	// Output:
	// attempt 1 for user "42"
	// t1 200
	// t1 208
	// attempt 1 for user ""
	// t2 205
}

// NewRouter refuses a configuration that would accept unauthenticated callers or
// run a task twice. The error names every field and how to fix it.
func ExampleNewRouter_incorrect() {
	_, err := handoff.NewRouter(handoff.RouterConfig{})
	fmt.Println(err)

	// Output:
	// handoff: RouterConfig.Verifier is nil; use NewOIDC, or set DangerouslyAllowUnauthenticated to accept every request
	// handoff: RouterConfig.Store is nil; use redisstore.New, or memstore.New within one process, or set DangerouslyRunUnfenced to let tasks run twice
}

// The error that a handler returns decides the outcome of its task, even if it is
// wrapped.
func ExampleOutcomeOf() {
	for _, err := range []error{
		nil,
		io.ErrUnexpectedEOF,
		fmt.Errorf("while sending: %w", handoff.Permanent(errors.New("no such address"))),
		handoff.Drop(nil),
		handoff.ErrBusy,
		errors.Join(io.ErrClosedPipe, handoff.Permanent(nil), handoff.Drop(nil)), // the first of handoff's errors decides
	} {
		outcome := handoff.OutcomeOf(err)
		fmt.Printf("%-9s %d\n", outcome, outcome.Status())
	}

	// Output:
	// done      200
	// failed    500
	// dead      205
	// dropped   204
	// busy      409
	// dead      205
}
