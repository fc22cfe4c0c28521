package admin_test

import (
	"fmt"
	"testing"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

// createTasks creates a queue with the tasks task-0, task-1, …, which are due after
// in. It returns their names.
func createTasks(t testing.TB, srv *emulator.Server, queue string, count int, in time.Duration) []string {
	t.Helper()
	client, err := cloudtasks.NewClient(t.Context(), srv.ClientOptions()...)
	assert.NoError(t, err)
	defer client.Close()
	name := parent + "/queues/" + queue
	_, err = client.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{Parent: parent, Queue: &cloudtaskspb.Queue{Name: name}})
	assert.NoError(t, err)
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("%s/tasks/task-%d", name, i)
		_, err := client.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: name, Task: &cloudtaskspb.Task{
			Name:         names[i],
			ScheduleTime: timestamppb.New(time.Now().Add(in)),
			MessageType:  &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: "http://worker.test/", Body: []byte("{}")}},
		}})
		assert.NoError(t, err)
	}
	return names
}

// setPurgeTime changes the purge time in a response of the emulator, which purges
// at once.
func setPurgeTime(reply any, at time.Time) {
	if !at.IsZero() {
		reply.(*cloudtaskspb.Queue).PurgeTime = timestamppb.New(at)
	}
}
