package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const location = "projects/p/locations/l"

// queues creates queues of the same limits, q0 and on, and returns their names.
func (e *emulator) queues(ctx context.Context, n int, limits *cloudtaskspb.RateLimits) ([]string, error) {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s/queues/q%d", location, i)
		queue := &cloudtaskspb.Queue{Name: names[i], RateLimits: limits}
		if _, err := e.client.CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{Parent: location, Queue: queue}); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func (e *emulator) pauseAll(ctx context.Context, queues []string) error {
	return eachOf(len(queues), 1, func(i int) error {
		_, err := e.client.PauseQueue(ctx, &cloudtaskspb.PauseQueueRequest{Name: queues[i]})
		return err
	})
}

// resumeAll resumes the queues at once: one after the other, each call would
// wait behind the tasks of those before it.
func (e *emulator) resumeAll(ctx context.Context, queues []string) error {
	return eachOf(len(queues), len(queues), func(i int) error {
		_, err := e.client.ResumeQueue(ctx, &cloudtaskspb.ResumeQueueRequest{Name: queues[i]})
		return err
	})
}

func (e *emulator) purge(ctx context.Context, queue string) error {
	_, err := e.client.PurgeQueue(ctx, &cloudtaskspb.PurgeQueueRequest{Name: queue})
	return err
}

// create creates n tasks in the queues in turn, so many callers at a time.
func create(ctx context.Context, client *cloudtasks.Client, queues []string, n, callers int, task func(i int) *cloudtaskspb.Task) error {
	return eachOf(n, callers, func(i int) error {
		_, err := client.CreateTask(ctx, &cloudtaskspb.CreateTaskRequest{Parent: queues[i%len(queues)], Task: task(i)})
		return err
	})
}

const perBatch = 100

// createBatches creates n tasks in the queues, a hundred in each in turn, 8
// calls at a time.
func createBatches(ctx context.Context, client *cloudtasks.Client, queues []string, n int, task func(i int) *cloudtaskspb.Task) error {
	return eachOf((n+perBatch-1)/perBatch, 8, func(batch int) error {
		req := &cloudtaskspb.BatchCreateTasksRequest{Parent: queues[batch%len(queues)]}
		for i := batch * perBatch; i < min((batch+1)*perBatch, n); i++ {
			req.Requests = append(req.Requests, &cloudtaskspb.CreateTaskRequest{Parent: req.Parent, Task: task(i)})
		}
		op, err := client.BatchCreateTasks(ctx, req)
		if err != nil {
			return err
		}
		resp, err := op.Wait(ctx)
		if err != nil {
			return err
		}
		if got, want := len(resp.GetTasks()), len(req.GetRequests()); got != want {
			return fmt.Errorf("%d of %d tasks of a batch were created", got, want)
		}
		return nil
	})
}

// eachOf makes n calls, so many at a time, and stops at the first that fails.
func eachOf(n, callers int, call func(i int) error) error {
	var wg sync.WaitGroup
	failed := make(chan error, callers)
	for c := range callers {
		wg.Go(func() {
			for i := c; i < n && len(failed) == 0; i += callers {
				if err := call(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// small is a task of 100 B, due at a time, or now at the zero time.
func (l *lab) small(due time.Time) *cloudtaskspb.Task { return small(l.target.url+"/task", due) }

func small(url string, due time.Time) *cloudtaskspb.Task {
	task := &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: url, Body: body100}}}
	if !due.IsZero() {
		task.ScheduleTime = timestamppb.New(due)
	}
	return task
}

var (
	body100 = []byte(strings.Repeat("x", 100))
	body300 = []byte(strings.Repeat("x", 300))
)

// usual is a task like those that libraries create.
func usual(int) *cloudtaskspb.Task {
	return &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
		Url:     "https://worker.example.com/tasks/welcome-email",
		Headers: map[string]string{"Content-Type": "application/json", "X-Request-Id": "7b0f2f6c"},
		Body:    body300,
		AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
			ServiceAccountEmail: "caller@p.iam.gserviceaccount.com", Audience: "https://worker.example.com",
		}},
	}}}
}
