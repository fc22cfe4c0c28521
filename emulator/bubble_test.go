package emulator_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

const (
	location = "projects/p/locations/l"
	emails   = location + "/queues/emails"
)

// The whole way in virtual time: the real client, over gRPC in memory, a task
// a day ahead that fails three times and then succeeds.
func TestBubble(t *testing.T) {
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var dispatched []time.Duration
		start := time.Now()
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			dispatched = append(dispatched, time.Since(start))
			if len(dispatched) <= 3 {
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
		srv := emulator.RunT(t, emulator.Config{Handler: handler})
		client, err := cloudtasks.NewClient(ctx, srv.ClientOptions()...)
		assert.NoError(t, err)
		defer client.Close()

		_, err = client.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{
			Parent: location,
			Queue:  &cloudtaskspb.Queue{Name: emails},
		})
		assert.NoError(t, err)
		task, err := client.CreateTask(ctx, &cloudtaskspb.CreateTaskRequest{
			Parent: emails,
			Task: &cloudtaskspb.Task{
				ScheduleTime: timestamppb.New(start.Add(24 * time.Hour)),
				MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
					Url: "https://worker.example/send",
				}},
			},
		})
		assert.NoError(t, err)
		assert.NoError(t, srv.Wait(ctx))

		day := 24 * time.Hour
		assert.Equal(t, fmt.Sprint(dispatched), fmt.Sprint([]time.Duration{
			day, day + 100*time.Millisecond, day + 300*time.Millisecond, day + 700*time.Millisecond,
		}))
		attempts := srv.Attempts(task.GetName())
		assert.Equal(t, len(attempts), 4)
		assert.Equal(t, attempts[3].Status, 200)
		assert.Equal(t, len(srv.Tasks("emails")), 0)
	})
	t.Logf("a day in %v", time.Since(began))
}
