package emulator_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"

	"github.com/brillconsulting/handoff/emulator"
)

// Google's own client creates a queue and a task, which the handler receives.
func Example() {
	ctx := context.Background()
	srv, err := emulator.New(emulator.Config{
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			fmt.Println(r.Method, r.URL.Path, "from queue", r.Header.Get("X-CloudTasks-QueueName"))
		}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer srv.Close()
	client, err := cloudtasks.NewClient(ctx, srv.ClientOptions()...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	const location = "projects/my-project/locations/us-central1"
	queue, err := client.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{
		Parent: location,
		Queue:  &cloudtaskspb.Queue{Name: location + "/queues/emails"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = client.CreateTask(ctx, &cloudtaskspb.CreateTaskRequest{
		Parent: queue.GetName(),
		Task: &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{
			HttpRequest: &cloudtaskspb.HttpRequest{Url: "https://worker.example/tasks/welcome"},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := srv.Wait(ctx); err != nil { // until everything has run
		fmt.Println(err)
	}
	// Output: POST /tasks/welcome from queue emails
}

// RunT starts a server for a test. In a synctest bubble, a task a day ahead that
// fails twice takes no time. The body of this example belongs into a test.
func ExampleRunT() {
	var t *testing.T // as the test is given it

	synctest.Test(t, func(t *testing.T) {
		calls := 0
		srv := emulator.RunT(t, emulator.Config{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if calls++; calls < 3 {
					w.WriteHeader(http.StatusInternalServerError)
				}
			}),
		})
		client, err := cloudtasks.NewClient(t.Context(), srv.ClientOptions()...)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()

		enqueue(t.Context(), client, time.Now().Add(24*time.Hour)) // the code under test

		if err := srv.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if calls != 3 {
			t.Errorf("%d deliveries, want 3", calls)
		}
	})
}

// The response of a call is lost: the caller cannot know that the task exists.
func ExampleServer_InjectCall() {
	ctx := context.Background()
	srv, err := emulator.New(emulator.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer srv.Close()
	client := cloudtaskspb.NewCloudTasksClient(srv.Conn())
	const location = "projects/p/locations/l"

	srv.InjectCall(emulator.CallFault{Method: "CreateQueue", Times: 1, LoseResponse: true})
	_, err = client.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{
		Parent: location, Queue: &cloudtaskspb.Queue{Name: location + "/queues/q"},
	})
	fmt.Println(err)
	fmt.Println("queues:", len(srv.Queues()))

	srv.InjectCall(emulator.CallFault{Method: "GetQueue", Times: 1, Code: codes.ResourceExhausted})
	_, err = client.GetQueue(ctx, &cloudtaskspb.GetQueueRequest{Name: location + "/queues/q"})
	fmt.Println(err)
	// Output:
	// rpc error: code = Unavailable desc = emulator: injected fault: the response of CreateQueue was lost
	// queues: 1
	// rpc error: code = ResourceExhausted desc = emulator: injected fault in GetQueue
}

func enqueue(context.Context, *cloudtasks.Client, time.Time) {}
