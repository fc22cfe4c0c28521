package middleware_test

import (
	"context"
	"fmt"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"go.opentelemetry.io/otel/trace"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/middleware"
)

// The trace of the caller travels with the task.
func ExampleInstrument() {
	const location = "projects/example/locations/europe-west1"
	tasks, err := emulator.New(emulator.Config{})
	if err != nil {
		panic(err)
	}
	defer tasks.Close()
	ctx := context.Background()
	queues := cloudtaskspb.NewCloudTasksClient(tasks.Conn())
	if _, err := queues.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{
		Parent: location,
		Queue:  &cloudtaskspb.Queue{Name: location + "/queues/emails"},
	}); err != nil {
		panic(err)
	}

	instrument, err := middleware.Instrument(middleware.InstrumentConfig{})
	if err != nil {
		panic(err)
	}
	client, err := handoff.NewClient(ctx, handoff.ClientConfig{
		Project:    "example",
		Location:   "europe-west1",
		Target:     handoff.HTTPTarget{URL: "https://worker.example.com/tasks", ServiceAccount: "tasks@example.iam.gserviceaccount.com"},
		Instrument: instrument,
		Options:    tasks.ClientOptions(),
	})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	// The context of a traced request, as in an instrumented server.
	ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0x4b, 0xf9, 0x2f, 0x35}, SpanID: trace.SpanID{0x0f}, TraceFlags: trace.FlagsSampled,
	}))
	if _, err := client.Enqueue(ctx, WelcomeEmail{UserID: "42"}, handoff.OnQueue("emails"), handoff.In(time.Hour)); err != nil {
		panic(err)
	}
	fmt.Println(tasks.Tasks(location + "/queues/emails")[0].GetHttpRequest().GetHeaders()["Traceparent"])

	// Output:
	// 00-4bf92f35000000000000000000000000-0f00000000000000-01
}
