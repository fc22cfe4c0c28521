package admin_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/emulator"
)

// An Admin manages the queues of one location. In production, only Project and
// Location are needed; here Options connect it to an emulator.
func Example() {
	ctx := context.Background()
	srv, err := emulator.New(emulator.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	a, err := admin.New(ctx, admin.Config{Project: "my-project", Location: "europe-west1", Options: srv.ClientOptions()})
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()

	config := admin.QueueConfig{ID: "api-tasks", MaxDispatchesPerSecond: 100, MaxConcurrentDispatches: 500, MaxAttempts: 5}
	for range 2 {
		change, err := a.Queues().Ensure(ctx, config)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(change.Queue, change.Action)
	}
	config.MaxDispatchesPerSecond = 50
	change, err := a.Queues().Ensure(ctx, config)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(change)

	queue, err := a.Queues().Pause(ctx, "api-tasks")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(queue.State)
	// Output:
	// api-tasks create
	// api-tasks unchanged
	// queue api-tasks: update max_dispatches_per_second 100 → 50
	// PAUSED
}

// Queues can be kept in a file next to the code, and updated to match it on every
// deploy. Diff shows what would change.
func ExampleQueues_EnsureAll() {
	configs, err := admin.Load(strings.NewReader(`
queues:
  - name: emails
    max_dispatches_per_second: 50
  - name: invoices
    max_concurrent_dispatches: 10
`))
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	a, stop := start(ctx)
	defer stop()
	if _, err := a.Queues().Create(ctx, admin.QueueConfig{ID: "emails"}); err != nil {
		log.Fatal(err)
	}
	would, err := a.Queues().Diff(ctx, configs)
	if err != nil {
		log.Fatal(err)
	}
	for _, change := range would {
		fmt.Println(change)
	}

	done, err := a.Queues().EnsureAll(ctx, configs)
	if err != nil {
		log.Fatal(err) // done still says which changes were applied
	}
	fmt.Println(done[0].Applied, done[1].Applied)
	// Output:
	// queue emails: update max_dispatches_per_second 100 → 50
	// queue invoices: create max_dispatches_per_second 100, max_concurrent_dispatches 10, max_attempts 5, min_backoff 1s, max_backoff 1h0m0s, max_doublings 16
	// true true
}

// All mistakes in a file are reported at once, each with its line.
func ExampleLoad_mistakes() {
	_, err := admin.Load(strings.NewReader(`
queues:
  - name: emails
    max_dispatch_per_second: 50
  - name: api_tasks
    task_ttl: 24h
`))
	fmt.Println(err)
	// Output:
	// admin: line 4: invalid: unknown key "max_dispatch_per_second"
	// admin: line 5: name is "api_tasks"; it must be 1 to 100 letters, digits and '-'
	// admin: line 6: task_ttl is 24h0m0s; it must be 10 days (240h) to 10 years (87600h) in whole seconds, or left out to stay as it is; handoff.Policy.TTL is for less
}

// Reminder names its queue in its Policy.
type Reminder struct{}

func (Reminder) Kind() string           { return "reminder" }
func (Reminder) Policy() handoff.Policy { return handoff.Policy{Queue: "reminders"} }

// The queues that payload types name can be created from the types.
func ExampleQueuesOf() {
	for _, config := range admin.QueuesOf(Reminder{}) {
		fmt.Println(config.ID)
	}
	// Output: reminders
}

// Check for an error with errors.Is, and get its details with errors.As.
func Example_errors() {
	ctx := context.Background()
	a, stop := start(ctx)
	defer stop()

	_, err := a.Queues().Get(ctx, "emails")
	fmt.Println(errors.Is(err, admin.ErrNotFound))

	_, err = a.Queues().Create(ctx, admin.QueueConfig{ID: "emails", MaxAttempts: -7})
	if invalid, ok := errors.AsType[*admin.InvalidError](err); ok {
		fmt.Println(invalid.Field, invalid.Value)
	}

	if _, err := a.Queues().Create(ctx, admin.QueueConfig{ID: "emails"}); err != nil {
		log.Fatal(err)
	}
	if err := a.Queues().Delete(ctx, "emails"); err != nil {
		log.Fatal(err)
	}
	_, err = a.Queues().Ensure(ctx, admin.QueueConfig{ID: "emails"})
	if tombstoned, ok := errors.AsType[*admin.TombstonedError](err); ok {
		fmt.Println("wait", tombstoned.Wait)
	}
	// Output:
	// true
	// QueueConfig.MaxAttempts -7
	// wait 168h0m0s
}
