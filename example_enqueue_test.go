package handoff_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"slices"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
)

// Invoice has an IdempotencyKey, so it is sent once even if it is enqueued several
// times.
type Invoice struct {
	Number string `json:"number"`
}

func (Invoice) Kind() string             { return "invoice" }
func (i Invoice) IdempotencyKey() string { return i.Number }

// Report is work that may be repeated.
type Report struct {
	Team string `json:"team"`
}

func (Report) Kind() string { return "report" }

// exampleClient returns a client that is connected to an emulator with the queue
// "mail".
func exampleClient() (client *handoff.Client, done func()) {
	ctx := context.Background()
	srv, err := emulator.New(emulator.Config{})
	if err != nil {
		log.Fatal(err)
	}
	const location = "projects/my-project/locations/europe-west1"
	_, err = cloudtaskspb.NewCloudTasksClient(srv.Conn()).CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{
		Parent: location,
		Queue:  &cloudtaskspb.Queue{Name: location + "/queues/mail"},
	})
	if err != nil {
		log.Fatal(err)
	}
	client, err = handoff.NewClient(ctx, handoff.ClientConfig{
		Project:  "my-project",
		Location: "europe-west1",
		Target:   handoff.HTTPTarget{URL: "https://worker.example.com/tasks", ServiceAccount: "tasks@my-project.iam.gserviceaccount.com"},
		Policy:   handoff.Policy{Queue: "mail"},
		Options:  srv.ClientOptions(),
	})
	if err != nil {
		log.Fatal(err)
	}
	return client, func() {
		_ = client.Close()
		srv.Close()
	}
}

// A payload with an IdempotencyKey becomes one task, even if it is enqueued several
// times. That is no error: the second receipt has Duplicate set.
func ExampleClient_Enqueue() {
	client, done := exampleClient()
	defer done()
	ctx := context.Background()
	for range 2 {
		receipt, err := client.Enqueue(ctx, Invoice{Number: "2026-117"}, handoff.In(time.Hour))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(receipt.Queue, receipt.Duplicate)
	}
	// Output:
	// mail false
	// mail true
}

// A task for a service that does not use handoff: any URL, method, headers and
// body.
func ExampleClient_EnqueueRequest() {
	client, done := exampleClient()
	defer done()
	receipt, err := client.EnqueueRequest(context.Background(), handoff.Request{
		URL:            "https://billing.example.com/v1/invoices/117",
		Method:         http.MethodPut,
		Header:         http.Header{"Content-Type": {"application/xml"}},
		Body:           []byte("<paid/>"),
		ServiceAccount: "tasks@my-project.iam.gserviceaccount.com",
	}, handoff.Name("invoice-117-paid"), handoff.In(time.Minute))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(receipt.Name)
	// Output: projects/my-project/locations/europe-west1/queues/mail/tasks/invoice-117-paid
}

// A batch yields one pair for each payload, in order. Instead of a slice it can be
// a sequence that reads a file or a table, which is then never in memory as a
// whole.
func ExampleEnqueueBatch() {
	client, done := exampleClient()
	defer done()
	invoices := []Invoice{{Number: "1"}, {Number: "2"}, {Number: "1"}, {Number: ""}}
	i := 0
	for receipt, err := range handoff.EnqueueBatch(context.Background(), client, slices.Values(invoices), handoff.In(time.Hour)) {
		fmt.Printf("%q duplicate: %v, error: %v\n", invoices[i].Number, receipt.Duplicate, err)
		i++
	}
	// Output:
	// "1" duplicate: false, error: <nil>
	// "2" duplicate: false, error: <nil>
	// "1" duplicate: true, error: <nil>
	// "" duplicate: false, error: handoff: enqueue invoice: IdempotencyKey is empty, so all payloads without a key would be one piece of work
}

// At most one report per team and hour, however often it is requested.
func ExampleEvery() {
	client, done := exampleClient()
	defer done()
	at := handoff.At(time.Now().Truncate(time.Hour).Add(90 * time.Minute))
	for _, team := range []string{"red", "blue", "red"} {
		receipt, err := client.Enqueue(context.Background(), Report{Team: team}, at, handoff.Key(team), handoff.Every(time.Hour))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(team, receipt.Duplicate)
	}
	// Output:
	// red false
	// blue false
	// red true
}
