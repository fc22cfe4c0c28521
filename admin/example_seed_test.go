package admin_test

import (
	"context"
	"fmt"
	"log"
	"slices"
	"time"

	"google.golang.org/api/option"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/emulator"
)

// ProcessUser is one user to process.
type ProcessUser struct {
	UserID string `json:"user_id"`
}

func (ProcessUser) Kind() string           { return "process-user" }
func (ProcessUser) Policy() handoff.Policy { return handoff.Policy{Queue: "api-tasks"} }

// Seed creates a queue, enqueues one named and delayed task and a batch of three,
// lists them and purges the queue. The options connect it to an emulator; without
// options it uses Cloud Tasks.
func Seed(ctx context.Context, options ...option.ClientOption) error {
	control, err := admin.New(ctx, admin.Config{Project: "my-project", Location: "us-central1", Options: options})
	if err != nil {
		return err
	}
	defer control.Close()
	queues, tasks := control.Queues(), control.Tasks()
	client, err := handoff.NewClient(ctx, handoff.ClientConfig{
		Project:  "my-project",
		Location: "us-central1",
		Target:   handoff.HTTPTarget{URL: "https://api.example.com/tasks", ServiceAccount: "tasks@my-project.iam.gserviceaccount.com"},
		Options:  options,
	})
	if err != nil {
		return err
	}
	defer client.Close()

	queue, err := queues.Create(ctx, admin.QueueConfig{
		ID:                      "api-tasks",
		MaxDispatchesPerSecond:  100,
		MaxConcurrentDispatches: 50,
		MaxAttempts:             5,
	})
	if err != nil {
		return err
	}
	fmt.Println("created", queue.Name)

	named, err := client.Enqueue(ctx, ProcessUser{UserID: "123"}, handoff.Name("process-user-123"), handoff.In(60*time.Second))
	if err != nil {
		return err
	}
	fmt.Println("created", named.Name)

	batch := []ProcessUser{{UserID: "1"}, {UserID: "2"}, {UserID: "3"}}
	for receipt, err := range handoff.EnqueueBatch(ctx, client, slices.Values(batch), handoff.In(time.Hour)) {
		if err != nil {
			return err
		}
		fmt.Println("created one more on", receipt.Queue)
	}

	listed := 0
	for _, err := range tasks.List(ctx, "api-tasks", admin.Basic) {
		if err != nil {
			return err
		}
		listed++
	}
	fmt.Println("listed", listed)

	if err := tasks.Delete(ctx, named.Name); err != nil {
		return err
	}
	if _, err := queues.Purge(ctx, "api-tasks"); err != nil {
		return err
	}
	return queues.WaitPurged(ctx, "api-tasks")
}

func ExampleSeed() {
	srv, err := emulator.New(emulator.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	if err := Seed(context.Background(), srv.ClientOptions()...); err != nil {
		log.Fatal(err)
	}
	fmt.Println("left", len(srv.Tasks("projects/my-project/locations/us-central1/queues/api-tasks")))
	// Output:
	// created projects/my-project/locations/us-central1/queues/api-tasks
	// created projects/my-project/locations/us-central1/queues/api-tasks/tasks/process-user-123
	// created one more on api-tasks
	// created one more on api-tasks
	// created one more on api-tasks
	// listed 4
	// left 0
}
