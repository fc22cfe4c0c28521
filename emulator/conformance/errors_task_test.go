package conformance_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// refusedTask is a row's test for a task that cannot be created.
func refusedTask(message string, edit func(*cloudtaskspb.Task)) func(*bench) {
	return fails(codes.InvalidArgument, message, func(b *bench) error {
		return b.createTask(b.pausedQueue(), httpTask("https://example.com/", edit))
	})
}

func request(edit func(*cloudtaskspb.HttpRequest)) func(*cloudtaskspb.Task) {
	return func(t *cloudtaskspb.Task) { edit(t.GetHttpRequest()) }
}

func url(u string) func(*cloudtaskspb.Task) {
	return request(func(r *cloudtaskspb.HttpRequest) { r.Url = u })
}

func deadline(d time.Duration) func(*cloudtaskspb.Task) {
	return func(t *cloudtaskspb.Task) { t.DispatchDeadline = durationpb.New(d) }
}

const (
	goneTask = "The task no longer exists, though a task with this name existed recently. The task either successfully completed or was deleted."
	usedTask = "The task cannot be created because a task with this name existed too recently. For more information about task de-duplication see " +
		"https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks/create#body.request_body.FIELDS.task."
)

func TestTaskErrors(t *testing.T) {
	badID := func(id string) string {
		return `Task ID "` + id + `" can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or underscores (_). ` +
			`Task ID must between 1 and 500 characters.`
	}
	conform(t, []rule{
		{"12.2", "CreateTask: queue missing", fails(codes.NotFound, noQueue, func(b *bench) error {
			return b.createTask(b.freshName(), httpTask("https://example.com/"))
		})},
		{"12.2", "CreateTask: queue deleted recently", fails(codes.NotFound, noQueue, func(b *bench) error {
			queue := b.queue()
			b.deleteQueue(queue)
			return b.createTask(queue, httpTask("https://example.com/"))
		})},
		{"12.2", "CreateTask: name of a live task", fails(codes.AlreadyExists, "Requested entity already exists", func(b *bench) error {
			queue := b.pausedQueue()
			task := httpTask("https://example.com/", func(t *cloudtaskspb.Task) { t.Name = queue + "/tasks/t" })
			b.task(queue, task)
			return b.createTask(queue, task)
		})},
		{"12.2", "CreateTask: name of a recently gone task", fails(codes.AlreadyExists, usedTask, func(b *bench) error {
			queue := b.pausedQueue()
			task := httpTask("https://example.com/", func(t *cloudtaskspb.Task) { t.Name = queue + "/tasks/t" })
			b.task(queue, task)
			b.ok(b.client.DeleteTask(b.ctx, &cloudtaskspb.DeleteTaskRequest{Name: task.GetName()}))
			return b.createTask(queue, task)
		})},
		{"12.2", "CreateTask: name in another queue", func(b *bench) {
			queue, other := b.pausedQueue(), b.freshName()
			err := b.createTask(queue, httpTask("https://example.com/", func(t *cloudtaskspb.Task) { t.Name = other + "/tasks/t" }))
			b.fails(err, codes.InvalidArgument, "The queue name from request ('"+queue+"') must be the same as the queue name in the named task ('"+other+"').")
		}},
		{"12.2", "CreateTask: bad task ID, with a Help link", func(b *bench) {
			queue := b.pausedQueue()
			err := b.createTask(queue, httpTask("https://example.com/", func(t *cloudtaskspb.Task) { t.Name = queue + "/tasks/a.b" }))
			help := b.fails(err, codes.InvalidArgument, badID("a.b")).detail("Help")
			b.equal(help["links"], any([]any{map[string]any{
				"description": "Definition of task ID",
				"url":         "https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks#Task.FIELDS.name",
			}}))
		}},
		{"2", "CreateTask: an ID of 500 characters", func(b *bench) {
			queue := b.pausedQueue()
			b.task(queue, httpTask("https://example.com/", func(t *cloudtaskspb.Task) { t.Name = queue + "/tasks/" + strings.Repeat("_", 500) }))
		}},
		{"2", "CreateTask: an ID of 501 characters", func(b *bench) {
			queue, id := b.pausedQueue(), strings.Repeat("x", 501)
			err := b.createTask(queue, httpTask("https://example.com/", func(t *cloudtaskspb.Task) { t.Name = queue + "/tasks/" + id }))
			b.fails(err, codes.InvalidArgument, badID(id))
		}},
		{"12.2", "CreateTask: url empty", refusedTask("HttpRequest.url is required.", url(""))},
		{"12.2", "CreateTask: url without a scheme", refusedTask("HttpTarget.url must start with 'http://' or 'https://'.", url("example.com/"))},
		{"12.2", "CreateTask: url of another scheme", refusedTask("HttpTarget.url must start with 'http://' or 'https://'.", url("ftp://example.com/"))},
		{"4", "CreateTask: url longer than 2083", refusedTask("", url("https://example.com/"+strings.Repeat("x", 2083)))},
		{"12.2", "CreateTask: bad % escape in url is accepted", func(b *bench) {
			b.task(b.pausedQueue(), httpTask("https://example.com/%zz"))
		}},
		{"12.2", "CreateTask: HTTP deadline below 15 s", refusedTask("Task.dispatchDeadline must be between [15s, 30m].", deadline(14*time.Second))},
		{"12.2", "CreateTask: HTTP deadline above 30 min", refusedTask("Task.dispatchDeadline must be between [15s, 30m].", deadline(30*time.Minute+time.Second))},
		{"12.2", "CreateTask: App Engine deadline above 24 h 15 s", fails(codes.InvalidArgument, "Task.dispatchDeadline must be between [15s, 24h15s].", func(b *bench) error {
			task := appEngineTask(nil)
			deadline(24*time.Hour + 16*time.Second)(task)
			return b.createTask(b.pausedQueue(), task)
		})},
		{"12.2", "CreateTask: schedule too far, printed in US Pacific", refusedTask(
			"The Task.scheduleTime, 2099-12-31T16:00:00-08:00, is too far in the future. Schedule time must be no more than 720h in the future.",
			func(t *cloudtaskspb.Task) {
				t.ScheduleTime = timestamppb.New(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
			})},
		{"12.2", "CreateTask: too large", refusedTask("Task size too large", request(func(r *cloudtaskspb.HttpRequest) { r.Body = make([]byte, 1<<20) }))},
		{"9.6", "CreateTask: a body with GET", refusedTask("", request(func(r *cloudtaskspb.HttpRequest) {
			r.HttpMethod, r.Body = cloudtaskspb.HttpMethod_GET, []byte("x")
		}))},
		{"4", "CreateTask: an App Engine body with PATCH", fails(codes.InvalidArgument, "", func(b *bench) error {
			return b.createTask(b.pausedQueue(), appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) {
				r.HttpMethod, r.Body = cloudtaskspb.HttpMethod_PATCH, []byte("x")
			}))
		})},
		{"4", "CreateTask: a relative URI without its slash", fails(codes.InvalidArgument, "", func(b *bench) error {
			return b.createTask(b.pausedQueue(), appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) { r.RelativeUri = "x" }))
		})},
		{"4", "CreateTask: a relative URI with a space", fails(codes.InvalidArgument, "", func(b *bench) error {
			return b.createTask(b.pausedQueue(), appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) { r.RelativeUri = "/a b" }))
		})},
		{"4", "CreateTask: headers over 80 KB", refusedTask("", request(func(r *cloudtaskspb.HttpRequest) {
			r.Headers = map[string]string{"X-Long": strings.Repeat("x", 81<<10)}
		}))},
		{"22", "CreateTask: no target", fails(codes.InvalidArgument, "Task.payload_type is not set", func(b *bench) error {
			return b.createTask(b.pausedQueue(), &cloudtaskspb.Task{})
		})},
		{"12.2", "GetTask: never existed", fails(codes.NotFound, noEntity, func(b *bench) error {
			_, err := b.client.GetTask(b.ctx, &cloudtaskspb.GetTaskRequest{Name: b.queue() + "/tasks/t"})
			return err
		})},
		{"12.2", "GetTask: existed recently", fails(codes.NotFound, goneTask, func(b *bench) error {
			task := b.task(b.pausedQueue(), httpTask("https://example.com/"))
			b.ok(b.client.DeleteTask(b.ctx, &cloudtaskspb.DeleteTaskRequest{Name: task.GetName()}))
			_, err := b.client.GetTask(b.ctx, &cloudtaskspb.GetTaskRequest{Name: task.GetName()})
			return err
		})},
		{"12.2", "DeleteTask: never existed", fails(codes.NotFound, noEntity, func(b *bench) error {
			return b.client.DeleteTask(b.ctx, &cloudtaskspb.DeleteTaskRequest{Name: b.queue() + "/tasks/t"})
		})},
		{"12.2", "RunTask: never existed", fails(codes.NotFound, noEntity, func(b *bench) error {
			_, err := b.client.RunTask(b.ctx, &cloudtaskspb.RunTaskRequest{Name: b.queue() + "/tasks/t"})
			return err
		})},
		{"12.2", "any: RPC deadline more than 30 s away", func(b *bench) {
			b.grpcOnly("the client tells nobody its deadline")
			ctx, cancel := context.WithTimeout(b.ctx, 40*time.Second)
			defer cancel()
			_, err := b.client.GetQueue(ctx, &cloudtaskspb.GetQueueRequest{Name: b.queue()})
			got := b.fails(err, codes.InvalidArgument, "")
			if !strings.HasPrefix(got.message, "The request deadline is ") ||
				!strings.HasSuffix(got.message, ". The deadline cannot be more than 30s in the future.") {
				b.Fatalf("message %q", got.message)
			}
		}},
	})
}
