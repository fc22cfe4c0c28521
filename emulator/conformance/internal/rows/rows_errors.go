package rows

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
)

const (
	noQueue  = "Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize."
	noEntity = "Requested entity was not found."
	goneTask = "The task no longer exists, though a task with this name existed recently. The task either successfully completed or was deleted."
	usedTask = "The task cannot be created because a task with this name existed too recently. For more information about task de-duplication see " +
		"https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks/create#body.request_body.FIELDS.task."
	badQueueName = `Queue name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>".`
)

// refusal returns two rows for a refused call: one for the code, which callers may
// depend on, and one for the text, which may change. {parent}, {queue} and {other}
// in the text stand for names in the call.
func refusal(section, situation string, code codes.Code, text string, call func(b *fixture, queue, other string) error) []Row {
	return []Row{
		{section, Observed, situation + ": " + codeName(code), func(b *fixture) { b.fails(call(b, b.freshName(), b.freshName()), code, "") }},
		{section, Observed, situation + ": the text", func(b *fixture) {
			queue, other := b.freshName(), b.freshName()
			got := outcomeOf(call(b, queue, other))
			want := strings.NewReplacer("{parent}", b.parent, "{queue}", queue, "{other}", other).Replace(text)
			if !strings.HasPrefix(got.message, want) { // more may follow, such as what would be right
				b.Fatalf("got message\n  %s\nwant\n  %s", got.message, want)
			}
		}},
	}
}

// codeName is a code as the API writes it.
func codeName(code codes.Code) string {
	return map[codes.Code]string{
		codes.InvalidArgument: "INVALID_ARGUMENT", codes.NotFound: "NOT_FOUND", codes.AlreadyExists: "ALREADY_EXISTS",
		codes.FailedPrecondition: "FAILED_PRECONDITION", codes.PermissionDenied: "PERMISSION_DENIED",
	}[code]
}

// creating returns a call that creates a queue with settings.
func creating(edit func(*cloudtaskspb.Queue)) func(b *fixture, queue, other string) error {
	return func(b *fixture, queue, _ string) error {
		q := &cloudtaskspb.Queue{Name: queue}
		edit(q)
		return b.createQueue(q)
	}
}

// on returns a call for an existing queue.
func on(call func(ctx context.Context, b *fixture, name string) error) func(b *fixture, queue, other string) error {
	return func(b *fixture, queue, _ string) error { return call(b.ctx, b, queue) }
}

func getQueue(ctx context.Context, b *fixture, name string) error {
	_, err := b.v2.GetQueue(ctx, &cloudtaskspb.GetQueueRequest{Name: name})
	return err
}

func pauseQueue(ctx context.Context, b *fixture, name string) error {
	_, err := b.v2.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: name})
	return err
}

func resumeQueue(ctx context.Context, b *fixture, name string) error {
	_, err := b.v2.ResumeQueue(ctx, &cloudtaskspb.ResumeQueueRequest{Name: name})
	return err
}

func purgeQueue(ctx context.Context, b *fixture, name string) error {
	_, err := b.v2.PurgeQueue(ctx, &cloudtaskspb.PurgeQueueRequest{Name: name})
	return err
}

func removeQueue(ctx context.Context, b *fixture, name string) error {
	return b.v2.DeleteQueue(ctx, &cloudtaskspb.DeleteQueueRequest{Name: name})
}

// queueErrorRows are the recorded errors of queues (docs/cloud-tasks.md#12.1).
func queueErrorRows() []Row {
	var rows []Row
	add := func(situation string, code codes.Code, text string, call func(b *fixture, queue, other string) error) {
		rows = append(rows, refusal("12.1", situation, code, text, call)...)
	}
	add("CreateQueue, exists", codes.AlreadyExists, "Queue already exists", func(b *fixture, queue, _ string) error {
		b.ok(b.createQueue(&cloudtaskspb.Queue{Name: queue}))
		return b.createQueue(&cloudtaskspb.Queue{Name: queue})
	})
	add("CreateQueue, deleted recently", codes.FailedPrecondition, "The queue cannot be created because a queue with this name existed too recently.",
		func(b *fixture, _, _ string) error { return recreated(b) })
	add("CreateQueue, an underscore in the name", codes.InvalidArgument, badQueueName, creating(named("under_score")))
	add("CreateQueue, a name that is too long", codes.InvalidArgument, badQueueName, creating(named(strings.Repeat("x", 101))))
	add("CreateQueue, a malformed parent", codes.PermissionDenied, "Permission denied on resource project not-a-valid-parent.",
		func(b *fixture, _, _ string) error { return malformedParent(b) })
	add("CreateQueue, a rate below 0", codes.InvalidArgument, "RateLimits.maxDispatchesPerSecond cannot be negative.", creating(rate(-1)))
	add("CreateQueue, a rate just below 0", codes.InvalidArgument, "RateLimits.maxDispatchesPerSecond cannot be negative.", creating(rate(-0.001)))
	add("CreateQueue, a rate above 500", codes.InvalidArgument, "RateLimits.maxDispatchesPerSecond must be less than or equal to 500.", creating(rate(500.1)))
	add("CreateQueue, concurrency below 0", codes.InvalidArgument, "RateLimits.maxConcurrentDispatches cannot be negative.", creating(concurrency(-1)))
	add("CreateQueue, concurrency above 5000", codes.InvalidArgument, "RateLimits.maxConcurrentDispatches must be less than or equal to 5000.", creating(concurrency(5001)))
	add("CreateQueue, maxAttempts below -1", codes.InvalidArgument, "RetryConfig.maxAttempts must be greater or equal to -1.",
		creating(retry(&cloudtaskspb.RetryConfig{MaxAttempts: -2})))
	add("CreateQueue, maxDoublings below 0", codes.InvalidArgument, "RetryConfig.maxDoublings cannot be negative.",
		creating(retry(&cloudtaskspb.RetryConfig{MaxDoublings: -1})))
	add("CreateQueue, minBackoff below 0", codes.InvalidArgument, "RetryConfig.minBackoff cannot be negative.",
		creating(retry(&cloudtaskspb.RetryConfig{MinBackoff: seconds(-1)})))
	add("CreateQueue, minBackoff above maxBackoff", codes.InvalidArgument, "RetryConfig.minBackoff must be less than or equal to RetryConfig.maxBackoff.",
		creating(retry(&cloudtaskspb.RetryConfig{MinBackoff: seconds(20), MaxBackoff: seconds(10)})))
	add("CreateQueue, minBackoff above the default of maxBackoff", codes.InvalidArgument, "RetryConfig.minBackoff must be less than or equal to RetryConfig.maxBackoff.",
		creating(retry(&cloudtaskspb.RetryConfig{MinBackoff: seconds(3601)})))
	add("UpdateQueue, a rate above 500", codes.InvalidArgument, "RateLimits.maxDispatchesPerSecond must be less than or equal to 500.",
		func(b *fixture, queue, _ string) error {
			_, err := b.updateQueue(&cloudtaskspb.Queue{Name: queue, RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 501}})
			return err
		})
	add("GetQueue, missing", codes.NotFound, noQueue, on(getQueue))
	add("PauseQueue, missing", codes.NotFound, noQueue, on(pauseQueue))
	add("ResumeQueue, missing", codes.NotFound, noQueue, on(resumeQueue))
	add("PurgeQueue, missing", codes.NotFound, noQueue, on(purgeQueue))
	add("DeleteQueue, missing", codes.NotFound, noEntity, on(removeQueue))
	add("GetQueue, deleted recently", codes.NotFound, noQueue, func(b *fixture, queue, _ string) error {
		b.ok(b.createQueue(&cloudtaskspb.Queue{Name: queue}))
		b.deleteQueue(queue)
		return getQueue(b.ctx, b, queue)
	})
	rows = append(rows, refusal("3.3", "CreateQueue, a name outside the parent", codes.InvalidArgument, "{parent}-b/queues/q must begin with {parent}.",
		func(b *fixture, _, _ string) error {
			return b.createQueue(&cloudtaskspb.Queue{Name: b.parent + "-b/queues/q"})
		})...)
	return append(rows, helpRow("12.1", "CreateQueue, a bad name", "Definition of queue name",
		"https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues#Queue.FIELDS.name",
		func(b *fixture) error {
			return b.createQueue(&cloudtaskspb.Queue{Name: b.parent + "/queues/under_score"})
		}))
}

// helpRow is about the help link of an error.
func helpRow(section, situation, description, link string, call func(*fixture) error) Row {
	return Row{section, Observed, situation + ": a Help link", func(b *fixture) {
		help := outcomeOf(call(b)).detail("Help")
		b.equal(help["links"], any([]any{map[string]any{"description": description, "url": link}}))
	}}
}

// creatingTask returns a call that creates a task in an existing queue.
func creatingTask(edits ...func(*cloudtaskspb.Task)) func(b *fixture, queue, other string) error {
	return func(b *fixture, _, _ string) error { return b.createTask(b.pausedQueue(), httpTask(example, edits...)) }
}

func badTaskID(id string) string {
	return `Task ID "` + id + `" can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or underscores (_). ` +
		`Task ID must between 1 and 500 characters.`
}

// taskErrorRows are the recorded errors of tasks (docs/cloud-tasks.md#12.2).
func taskErrorRows() []Row {
	return slices.Concat(taskNameErrors(), taskFieldErrors(), goneTaskErrors())
}

func taskNameErrors() []Row {
	var rows []Row
	add := func(situation string, code codes.Code, text string, call func(b *fixture, queue, other string) error) {
		rows = append(rows, refusal("12.2", situation, code, text, call)...)
	}
	add("CreateTask, queue missing", codes.NotFound, noQueue, func(b *fixture, queue, _ string) error { return b.createTask(queue, httpTask(example)) })
	add("CreateTask, queue deleted recently", codes.NotFound, noQueue, func(b *fixture, queue, _ string) error {
		b.ok(b.createQueue(&cloudtaskspb.Queue{Name: queue}))
		b.deleteQueue(queue)
		return b.createTask(queue, httpTask(example))
	})
	add("CreateTask, name of a task", codes.AlreadyExists, "Requested entity already exists", func(b *fixture, _, _ string) error {
		queue := b.pausedQueue()
		b.task(queue, httpTask(example, withID(queue, "t")))
		return b.createTask(queue, httpTask(example, withID(queue, "t")))
	})
	add("CreateTask, name of a gone task", codes.AlreadyExists, usedTask, func(b *fixture, _, _ string) error { return goneName(b) })
	add("CreateTask, name in another queue", codes.InvalidArgument,
		"The queue name from request ('{queue}') must be the same as the queue name in the named task ('{other}').", func(b *fixture, queue, other string) error {
			b.ok(b.createQueue(&cloudtaskspb.Queue{Name: queue}))
			return b.createTask(queue, httpTask(example, withID(other, "t")))
		})
	for _, id := range []string{"a.b", "a b", strings.Repeat("x", 501)} {
		add(fmt.Sprintf("CreateTask, bad task ID %.10q", id), codes.InvalidArgument, badTaskID(id), func(b *fixture, _, _ string) error {
			queue := b.pausedQueue()
			return b.createTask(queue, httpTask(example, withID(queue, id)))
		})
	}
	return append(rows, helpRow("12.2", "CreateTask, a bad task ID", "Definition of task ID",
		"https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks#Task.FIELDS.name", func(b *fixture) error {
			queue := b.pausedQueue()
			return b.createTask(queue, httpTask(example, withID(queue, "a.b")))
		}))
}

func taskFieldErrors() []Row {
	var rows []Row
	add := func(situation, text string, call func(b *fixture, queue, other string) error) {
		rows = append(rows, refusal("12.2", situation, codes.InvalidArgument, text, call)...)
	}
	add("CreateTask, no target", "Task.payload_type is not set", func(b *fixture, _, _ string) error {
		return b.createTask(b.pausedQueue(), &cloudtaskspb.Task{})
	})
	add("CreateTask, no URL", "HttpRequest.url is required.", creatingTask(withURL("")))
	for _, u := range []string{"example.com/", "ftp://example.com/", "//example.com/", "/path", "mailto:a@example.com"} {
		add("CreateTask, url "+u, "HttpTarget.url must start with 'http://' or 'https://'.", creatingTask(withURL(u)))
	}
	add("CreateTask, token and http", needsHTTPS, creatingTask(withURL("http://example.com/"), withOIDC("aud")))
	for _, d := range []time.Duration{14 * time.Second, 30*time.Minute + time.Second} {
		add(fmt.Sprintf("CreateTask, HTTP deadline of %v", d), "Task.dispatchDeadline must be between [15s, 30m].", creatingTask(deadline(d)))
	}
	for _, d := range []time.Duration{14 * time.Second, 24*time.Hour + 16*time.Second} {
		add(fmt.Sprintf("CreateTask, App Engine deadline of %v", d), "Task.dispatchDeadline must be between [15s, 24h15s].",
			func(b *fixture, _, _ string) error {
				task := appEngineTask(nil)
				deadline(d)(task)
				return b.createTask(b.pausedQueue(), task)
			})
	}
	const far = "The Task.scheduleTime, %s, is too far in the future. Schedule time must be no more than 720h in the future."
	for _, f := range []struct {
		at   time.Time
		told string
	}{
		{time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), "2099-12-31T16:00:00-08:00"},
		{time.Date(2100, 7, 1, 12, 0, 0, 0, time.UTC), "2100-07-01T05:00:00-07:00"},
		{time.Date(2100, 1, 1, 0, 0, 0, 123_456_000, time.UTC), "2099-12-31T16:00:00.123456-08:00"},
	} {
		add("CreateTask, a schedule time too far, "+f.told, fmt.Sprintf(far, f.told), creatingTask(schedule(f.at)))
	}
	add("CreateTask, too large", "Task size too large", creatingTask(withBody(strings.Repeat("x", 1<<20))))
	return rows
}

func goneTaskErrors() []Row {
	var rows []Row
	add := func(situation, text string, call func(b *fixture, queue, other string) error) {
		rows = append(rows, refusal("12.2", situation, codes.NotFound, text, call)...)
	}
	add("GetTask, never existed", noEntity, func(b *fixture, _, _ string) error {
		_, err := b.v2.GetTask(b.ctx, &cloudtaskspb.GetTaskRequest{Name: b.queue() + "/tasks/t"})
		return err
	})
	add("DeleteTask, never existed", noEntity, func(b *fixture, _, _ string) error {
		return b.v2.DeleteTask(b.ctx, &cloudtaskspb.DeleteTaskRequest{Name: b.queue() + "/tasks/t"})
	})
	add("RunTask, never existed", noEntity, func(b *fixture, _, _ string) error {
		_, err := b.v2.RunTask(b.ctx, &cloudtaskspb.RunTaskRequest{Name: b.queue() + "/tasks/t"})
		return err
	})
	add("GetTask, existed recently", goneTask, func(b *fixture, _, _ string) error {
		task := b.task(b.pausedQueue(), httpTask(example))
		b.deleteTask(task.GetName())
		_, err := b.v2.GetTask(b.ctx, &cloudtaskspb.GetTaskRequest{Name: task.GetName()})
		return err
	})
	return rows
}
