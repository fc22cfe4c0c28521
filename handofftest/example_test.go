package handofftest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/handofftest"
	"github.com/brillconsulting/handoff/memstore"
)

// exampleT stands in for the *testing.T that an Example does not have.
type exampleT struct {
	testing.TB

	cleanups []func()
}

func newT() *exampleT { return &exampleT{} }

func (t *exampleT) Helper()                           {}
func (t *exampleT) Context() context.Context          { return context.Background() }
func (t *exampleT) Output() io.Writer                 { return io.Discard }
func (t *exampleT) Cleanup(fn func())                 { t.cleanups = append(t.cleanups, fn) }
func (t *exampleT) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (t *exampleT) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (t *exampleT) end() {
	for _, fn := range slices.Backward(t.cleanups) {
		fn()
	}
}

// sendWelcome is a handler under test.
func sendWelcome(ctx context.Context, e WelcomeEmail) error {
	switch {
	case e.UserID == "":
		return handoff.Permanent(errors.New("no user"))
	case handoff.InfoFromContext(ctx).Attempt < 3:
		return errors.New("the mail server is busy")
	}
	return nil
}

// newRouter builds the router of the service under test.
func newRouter(config handoff.RouterConfig) (*handoff.Router, error) {
	router, err := handoff.NewRouter(config)
	if err != nil {
		return nil, err
	}
	handoff.Handle(router, sendWelcome)
	return router, nil
}

// signUp is a producer under test.
func signUp(ctx context.Context, client *handoff.Client, user string) error {
	_, err := client.Enqueue(ctx, WelcomeEmail{UserID: user}, handoff.In(time.Hour))
	return err
}

// Deliver tasks to the router of a service, and look at its responses.
func ExampleDeliver() {
	t := newT() // in a test, use its *testing.T
	defer t.end()

	router, err := newRouter(handoff.RouterConfig{
		Verifier:    handofftest.Verifier(t),
		Store:       memstore.New(),
		DeadLetters: memstore.NewDeadLetters(),
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer router.Shutdown(t.Context())

	show := func(r handofftest.Result) { fmt.Println(r.Outcome, r.Status, "retry:", r.Retry, "claim:", r.Settled) }
	show(handofftest.Deliver(t, router, WelcomeEmail{UserID: "42"}))
	show(handofftest.Deliver(t, router, WelcomeEmail{UserID: "42"}, handofftest.Attempt(3)))
	show(handofftest.Deliver(t, router, WelcomeEmail{UserID: "42"}, handofftest.Expired()))
	show(handofftest.Deliver(t, router, WelcomeEmail{UserID: "42"}, handofftest.Caller("eve@example.com")))

	// Output:
	// failed 500 retry: true claim: counted
	// done 200 retry: false claim: completed
	// dead 205 retry: false claim: buried
	// forbidden 403 retry: true claim: not claimed
}

// Cloud Tasks delivers at least once. Here the second delivery is a duplicate.
func ExampleAgain() {
	t := newT()
	defer t.end()

	router, err := newRouter(handoff.RouterConfig{
		Verifier:    handofftest.Verifier(t),
		Store:       memstore.New(),
		DeadLetters: memstore.NewDeadLetters(),
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer router.Shutdown(t.Context())

	second := handofftest.Deliver(t, router, WelcomeEmail{}, handofftest.Again())
	fmt.Println(second.Others[0].Outcome, "then", second.Outcome)

	// Output:
	// dead then duplicate
}

// Record what a producer enqueues.
func ExampleNewRecorder() {
	t := newT()
	defer t.end()

	recorder := handofftest.NewRecorder(t)
	if err := signUp(t.Context(), recorder.Client, "42"); err != nil {
		t.Fatalf("%v", err)
	}
	task := handofftest.RequireEnqueued(t, recorder, func(e WelcomeEmail) bool { return e.UserID == "42" })
	fmt.Println(task.Payload.UserID, "on", task.Queue, "within", time.Until(task.ScheduledAt).Round(time.Minute))

	handofftest.RequireNone[Receipt](t, recorder)
	handofftest.RequireExactly[WelcomeEmail](t, recorder, 1)

	// Output:
	// 42 on default within 1h0m0s
}

// A failure shows what was enqueued instead.
func ExampleRequireExactly() {
	t := newT()
	defer t.end()
	defer func() { // exampleT panics where a test would fail
		before, after, _ := strings.Cut(fmt.Sprint(recover()), ", due")
		_, payload, _ := strings.Cut(after, ": ")
		fmt.Println(before, payload)
	}()

	recorder := handofftest.NewRecorder(t)
	if err := signUp(t.Context(), recorder.Client, "42"); err != nil {
		t.Fatalf("%v", err)
	}
	handofftest.RequireExactly[Receipt](t, recorder, 1)

	// Output:
	// handofftest: got 0 of receipt, want 1; what was enqueued (1):
	//   welcome-email on queue default {"user_id":"42"}
}

// A task from enqueue to its end: three attempts, each after the backoff of its
// policy.
func ExampleNew() {
	t := newT()
	defer t.end()

	kit := handofftest.New(t)
	handoff.Handle(kit.Router, sendWelcome)
	if _, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{UserID: "42"}); err != nil {
		t.Fatalf("%v", err)
	}
	for _, r := range kit.Drain() {
		fmt.Println("attempt", r.Info.Attempt, r.Outcome)
	}

	// Output:
	// attempt 1 failed
	// attempt 2 failed
	// attempt 3 done
}

// A router that the service builds itself, and one dispatch at a time.
func ExampleKit_Step() {
	t := newT()
	defer t.end()

	kit := handofftest.New(t, handofftest.Config{Router: newRouter})
	for _, user := range []string{"", "42"} {
		if _, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{UserID: user}); err != nil {
			t.Fatalf("%v", err)
		}
	}
	result, _ := kit.Step()
	letters, err := kit.DeadLetters.CountByKind(t.Context())
	fmt.Println(result.Outcome, letters, err)
	result, _ = kit.Step()
	fmt.Println(result.Outcome, result.Retry)

	// Output:
	// dead map[welcome-email:1] <nil>
	// failed true
}

// Stop after the first attempt of a receipt.
func ExampleStopAt() {
	t := newT()
	defer t.end()

	kit := handofftest.New(t)
	handoff.Handle(kit.Router, func(ctx context.Context, e WelcomeEmail) error {
		_, err := kit.Client.Enqueue(ctx, Receipt{Order: 1})
		return err
	})
	handoff.Handle(kit.Router, func(_ context.Context, r Receipt) error { return errors.New("later") })
	for _, user := range []string{"1", "2"} {
		if _, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{UserID: user}); err != nil {
			t.Fatalf("%v", err)
		}
	}
	for _, r := range kit.Drain(handofftest.StopAt[Receipt]()) {
		fmt.Println(r.Info.Kind, r.Outcome)
	}

	// Output:
	// welcome-email done
	// welcome-email done
	// receipt failed
}

// The response is lost, so Cloud Tasks delivers the task again.
func ExampleKit_LoseResponses() {
	t := newT()
	defer t.end()

	kit := handofftest.New(t)
	sent := 0
	handoff.Handle(kit.Router, func(context.Context, WelcomeEmail) error { sent++; return nil })
	if _, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{UserID: "42"}); err != nil {
		t.Fatalf("%v", err)
	}
	kit.LoseResponses(1)
	for _, r := range kit.Drain() {
		fmt.Println(r.Outcome, "retry:", r.Retry)
	}
	fmt.Println("sent", sent)

	// Output:
	// done retry: true
	// duplicate retry: false
	// sent 1
}

// Redis cannot be reached: the handler does not run until it is back.
func ExampleKit_StoreDown() {
	t := newT()
	defer t.end()

	kit := handofftest.New(t)
	handoff.Handle(kit.Router, func(context.Context, WelcomeEmail) error { return nil })
	if _, err := kit.Client.Enqueue(t.Context(), WelcomeEmail{UserID: "42"}); err != nil {
		t.Fatalf("%v", err)
	}
	up := kit.StoreDown()
	result, _ := kit.Step()
	fmt.Println(result.Outcome, result.Status)
	up()
	result, _ = kit.Step()
	fmt.Println(result.Outcome, "at attempt", result.Info.Attempt)

	// Output:
	// unavailable 503
	// done at attempt 1
}
