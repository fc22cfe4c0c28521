package admin_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/emulator"
)

// start returns an Admin of a new emulator, and a function that stops both.
func start(ctx context.Context) (*admin.Admin, func()) {
	a, _, stop := startWithTasks(ctx, 0)
	return a, stop
}

// startWithTasks is like start, and creates tasks that are due tomorrow on the
// queue "reminders".
func startWithTasks(ctx context.Context, tasks int) (*admin.Admin, *handoff.Client, func()) {
	srv, err := emulator.New(emulator.Config{})
	if err != nil {
		log.Fatal(err)
	}
	a, err := admin.New(ctx, admin.Config{Project: "my-project", Location: "europe-west1", Options: srv.ClientOptions()})
	if err != nil {
		log.Fatal(err)
	}
	client, err := handoff.NewClient(ctx, handoff.ClientConfig{
		Project: "my-project", Location: "europe-west1", Options: srv.ClientOptions(),
		Target: handoff.HTTPTarget{URL: "https://worker.example.com/tasks", ServiceAccount: "caller@my-project.iam.gserviceaccount.com"},
	})
	if err != nil {
		log.Fatal(err)
	}
	if tasks > 0 {
		if _, err := a.Queues().EnsureAll(ctx, admin.QueuesOf(Reminder{})); err != nil {
			log.Fatal(err)
		}
	}
	for range tasks {
		if _, err := client.Enqueue(ctx, Reminder{}, handoff.In(24*time.Hour)); err != nil {
			log.Fatal(err)
		}
	}
	return a, client, func() { _ = client.Close(); _ = a.Close(); srv.Close() }
}

// A listing is read page by page while the loop runs, so its names can be passed on
// without holding all of them in memory.
func ExampleTasks_DeleteMany() {
	ctx := context.Background()
	a, _, stop := startWithTasks(ctx, 5)
	defer stop()

	var failed error
	var reminders iter.Seq[string] = func(yield func(string) bool) {
		for task, err := range a.Tasks().List(ctx, "reminders", admin.Basic) {
			if err != nil {
				failed = err
				return
			}
			if task.Kind == "reminder" && !yield(task.Name) {
				return
			}
		}
	}
	deleted := 0
	for name, err := range a.Tasks().DeleteMany(ctx, reminders) {
		switch {
		case errors.Is(err, admin.ErrNotFound): // it has ended in the meantime
		case err != nil:
			log.Print(name, ": ", err)
		default:
			deleted++
		}
	}
	fmt.Println(deleted, failed)
	// Output: 5 <nil>
}

// The service tracks how often a task was dispatched, and how its last attempt
// ended, until the task is gone.
func ExampleTasks_Executions() {
	ctx := context.Background()
	a, _, stop := startWithTasks(ctx, 3)
	defer stop()

	sum, err := a.Tasks().Executions(ctx, "reminders")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sum.Tasks, "tasks,", sum.Untried, "of them never dispatched,", sum.Dispatches, "dispatches")
	for code, tasks := range sum.Failures {
		fmt.Println(tasks, "tasks failed last with", code)
	}
	// Output: 3 tasks, 3 of them never dispatched, 0 dispatches
}

// WaitGone waits until a task no longer exists. The emulator of this example
// dispatches nothing, so the task is deleted.
func ExampleTasks_WaitGone() {
	ctx := context.Background()
	a, client, stop := startWithTasks(ctx, 1)
	defer stop()
	receipt, err := client.Enqueue(ctx, Reminder{}, handoff.In(time.Hour))
	if err != nil {
		log.Fatal(err)
	}

	if err := a.Tasks().Delete(ctx, receipt.Name); err != nil {
		log.Fatal(err)
	}
	if err := a.Tasks().WaitGone(ctx, receipt.Name); err != nil {
		log.Fatal(err)
	}
	_, err = a.Tasks().Get(ctx, receipt.Name, admin.Basic)
	fmt.Println(errors.Is(err, admin.ErrNotFound))
	// Output: true
}
