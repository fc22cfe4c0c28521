package conformance_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/iterator"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const example = "https://example.com/"

func (b *bench) fullTask(name string) *cloudtaskspb.Task {
	b.Helper()
	task, err := b.client.GetTask(b.ctx, &cloudtaskspb.GetTaskRequest{Name: name, ResponseView: cloudtaskspb.Task_FULL})
	b.ok(err)
	return task
}

func (b *bench) run(name string) *cloudtaskspb.Task {
	b.Helper()
	task, err := b.client.RunTask(b.ctx, &cloudtaskspb.RunTaskRequest{Name: name})
	b.ok(err)
	return task
}

func schedule(at time.Time) func(*cloudtaskspb.Task) {
	return func(t *cloudtaskspb.Task) { t.ScheduleTime = timestamppb.New(at) }
}

func withBody(body string) func(*cloudtaskspb.Task) {
	return request(func(r *cloudtaskspb.HttpRequest) { r.Body = []byte(body) })
}

// storedSize is what the service counts of a task: all of it but the view.
func storedSize(t *cloudtaskspb.Task) int {
	t = proto.CloneOf(t)
	t.View = 0
	return proto.Size(t)
}

func TestTasks(t *testing.T) {
	conform(t, []rule{
		{"2", "a generated ID is about 20 decimal digits", func(b *bench) {
			queue := b.pausedQueue()
			name := b.task(queue, httpTask(example)).GetName()
			if !regexp.MustCompile(`^` + queue + `/tasks/\d{18,22}$`).MatchString(name) {
				b.Fatalf("name %q", name)
			}
		}},
		{"8.7", "what is stored of an HTTP task", func(b *bench) {
			queue := b.pausedQueue()
			created := b.task(queue, httpTask(example, withBody("hi"), request(func(r *cloudtaskspb.HttpRequest) {
				r.Headers = map[string]string{"x-lower-Case": "kept"}
			})))
			got := b.fullTask(created.GetName())
			b.protoEqual(got.GetHttpRequest(), &cloudtaskspb.HttpRequest{
				Url: example, HttpMethod: cloudtaskspb.HttpMethod_POST, Body: []byte("hi"),
				Headers: map[string]string{"x-lower-Case": "kept", "User-Agent": "Google-Cloud-Tasks"},
			})
		}},
		{"8.5", "an HTTP task stores the default deadline of 600 s", func(b *bench) {
			b.equal(b.task(b.pausedQueue(), httpTask(example)).GetDispatchDeadline().AsDuration(), 10*time.Minute)
		}},
		{"8.5", "a deadline keeps its milliseconds and no more", func(b *bench) {
			task := b.task(b.pausedQueue(), httpTask(example, deadline(20*time.Second+1234567*time.Nanosecond)))
			b.equal(task.GetDispatchDeadline().AsDuration(), 20*time.Second+time.Millisecond)
		}},
		{"3.2", "BASIC is the default view: headers, no body", func(b *bench) {
			queue := b.pausedQueue()
			created := b.task(queue, httpTask(example, withBody("hi")))
			listed := b.tasks(queue)
			b.equal(len(listed), 1)
			for _, task := range []*cloudtaskspb.Task{created, b.getTask(created.GetName()), listed[0]} {
				b.equal(task.GetView(), cloudtaskspb.Task_BASIC)
				b.equal(string(task.GetHttpRequest().GetBody()), "")
				b.equal(task.GetHttpRequest().GetHeaders()["User-Agent"], "Google-Cloud-Tasks")
			}
		}},
		{"3.2", "FULL has the body, wherever it is asked for", func(b *bench) {
			queue := b.pausedQueue()
			created, err := b.client.CreateTask(b.ctx, &cloudtaskspb.CreateTaskRequest{
				Parent: queue, Task: httpTask(example, withBody("hi")), ResponseView: cloudtaskspb.Task_FULL,
			})
			b.ok(err)
			listed, err := b.client.ListTasks(b.ctx, &cloudtaskspb.ListTasksRequest{Parent: queue, ResponseView: cloudtaskspb.Task_FULL}).Next()
			b.ok(err)
			for _, task := range []*cloudtaskspb.Task{created, b.fullTask(created.GetName()), listed} {
				b.equal(task.GetView(), cloudtaskspb.Task_FULL)
				b.equal(string(task.GetHttpRequest().GetBody()), "hi")
			}
		}},
		{"3.2", "ListTasks in pages: every task once", func(b *bench) {
			queue := b.pausedQueue()
			want := map[string]bool{}
			for range 5 {
				want[b.task(queue, httpTask(example)).GetName()] = true
			}
			token, pages := "", 0
			for pages == 0 || token != "" {
				var page []*cloudtaskspb.Task
				it := b.client.ListTasks(b.ctx, &cloudtaskspb.ListTasksRequest{Parent: queue})
				next, err := iterator.NewPager(it, 2, token).NextPage(&page)
				b.ok(err)
				for _, task := range page {
					if !want[task.GetName()] {
						b.Fatalf("listed twice or never created: %s", task.GetName())
					}
					delete(want, task.GetName())
				}
				token, pages = next, pages+1
			}
			b.equal(len(want), 0)
		}},
		{"8.4", "schedule_time unset or past is now", func(b *bench) {
			queue, now := b.pausedQueue(), time.Now()
			for _, task := range []*cloudtaskspb.Task{httpTask(example), httpTask(example, schedule(now.Add(-time.Hour)))} {
				late := b.task(queue, task).GetScheduleTime().AsTime().Sub(now)
				if late < -time.Second || late > 5*time.Second {
					b.Fatalf("schedule time %v after now", late)
				}
			}
		}},
		{"8.4", "schedule_time keeps its microseconds and no more", func(b *bench) {
			at := time.Now().Add(time.Hour).Truncate(time.Second)
			task := b.task(b.pausedQueue(), httpTask(example, schedule(at.Add(123456789))))
			b.equal(task.GetScheduleTime().AsTime(), at.Add(123456*time.Microsecond).UTC())
		}},
		{"8.4", "schedule_time may be 720 h ahead", func(b *bench) {
			b.task(b.pausedQueue(), httpTask(example, schedule(time.Now().Add(720*time.Hour-time.Minute))))
		}},
		{"4", "create_time is truncated to the second", func(b *bench) {
			created := b.task(b.pausedQueue(), httpTask(example)).GetCreateTime()
			if !created.IsValid() || created.GetNanos() != 0 {
				b.Fatalf("create time %v", created)
			}
		}},
		{"3.2", "output-only fields of a task are ignored", func(b *bench) {
			task := b.task(b.pausedQueue(), httpTask(example, func(t *cloudtaskspb.Task) {
				t.DispatchCount, t.ResponseCount, t.View = 3, 2, cloudtaskspb.Task_FULL
				t.CreateTime = timestamppb.New(time.Unix(1, 0))
				t.LastAttempt = &cloudtaskspb.Attempt{DispatchTime: timestamppb.Now()}
			}))
			b.equal(task.GetDispatchCount()+task.GetResponseCount(), int32(0))
			b.equal(task.GetLastAttempt() == nil, true)
			b.equal(task.GetCreateTime().AsTime().Unix() > 1, true)
		}},
		{"8.6", "the largest task: 1,048,569 bytes as stored", func(b *bench) {
			queue := b.pausedQueue()
			task := func(id string, body int) *cloudtaskspb.Task {
				return httpTask(example, schedule(time.Now().Add(time.Hour).Truncate(time.Second)), withBody(strings.Repeat("x", body)),
					func(t *cloudtaskspb.Task) { t.Name = queue + "/tasks/" + id })
			}
			const limit = 1_048_569
			guess := limit - 1000
			b.task(queue, task("t1", guess))
			most := guess + limit - storedSize(b.fullTask(queue+"/tasks/t1"))
			b.task(queue, task("t2", most))
			b.equal(storedSize(b.fullTask(queue+"/tasks/t2")), limit)
			b.fails(b.createTask(queue, task("t3", most+1)), 3, "Task size too large")
		}},
		{"3.3", "DeleteTask", func(b *bench) {
			task := b.task(b.pausedQueue(), httpTask(example))
			b.ok(b.client.DeleteTask(b.ctx, &cloudtaskspb.DeleteTaskRequest{Name: task.GetName()}))
			b.gone(task.GetName())
		}},
		{"8.1", "a task that succeeded is gone", func(b *bench) {
			w := b.worker(nil)
			task := b.task(b.queue(), httpTask(w.url))
			w.one()
			b.gone(task.GetName())
		}},
		{"8.3", "a name stays reserved for 24 hours after its task is gone, and is free then", func(b *bench) {
			b.local("it takes a day")
			w := b.worker(nil)
			queue := b.queue()
			task := httpTask(w.url, func(t *cloudtaskspb.Task) { t.Name = queue + "/tasks/t" })
			b.task(queue, task)
			w.one()
			time.Sleep(23 * time.Hour)
			b.fails(b.createTask(queue, task), 6, usedTask)
			time.Sleep(time.Hour)
			b.task(queue, task)
		}},
		{"8.9", "a task is removed when it is 31 days old", func(b *bench) {
			b.local("it takes a month")
			task := b.task(b.pausedQueue(), httpTask(example))
			time.Sleep(31*24*time.Hour - time.Minute)
			b.getTask(task.GetName())
			time.Sleep(2 * time.Minute)
			b.gone(task.GetName())
		}},
		{"8.8", "counters and attempts", func(b *bench) {
			w := b.worker(always(http.StatusBadGateway))
			queue := b.queue(retry(&cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(time.Hour), MaxBackoff: durationpb.New(time.Hour)}))
			name := b.task(queue, httpTask(w.url)).GetName()
			w.after(time.Hour + time.Minute)
			got := b.getTask(name)
			b.equal(got.GetDispatchCount(), int32(2))
			b.equal(got.GetResponseCount(), int32(2))
			first, last := got.GetFirstAttempt(), got.GetLastAttempt()
			b.protoEqual(first, &cloudtaskspb.Attempt{DispatchTime: first.GetDispatchTime()})
			b.equal(last.GetDispatchTime().AsTime().Sub(first.GetDispatchTime().AsTime()), time.Hour)
			b.equal(last.GetScheduleTime().AsTime(), last.GetDispatchTime().AsTime())
			b.equal(last.GetResponseTime().AsTime(), last.GetDispatchTime().AsTime())
			b.equal(last.GetResponseStatus().GetCode(), int32(13))
			b.equal(last.GetResponseStatus().GetMessage(), "INTERNAL(13): HTTP status code 502")
		}},
		{"8.8", "an attempt that timed out is dispatched and not answered", func(b *bench) {
			w := b.worker(func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			queue := b.queue(retry(&cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(time.Hour), MaxBackoff: durationpb.New(time.Hour)}))
			name := b.task(queue, httpTask(w.url, deadline(15*time.Second))).GetName()
			w.after(time.Minute)
			got := b.getTask(name)
			b.equal(got.GetDispatchCount(), int32(1))
			b.equal(got.GetResponseCount(), int32(0))
			b.equal(got.GetLastAttempt().GetResponseTime() == nil, true)
		}},
		{"3.3", "RunTask dispatches on a paused queue; success deletes the task", func(b *bench) {
			w := b.worker(nil)
			name := b.task(b.pausedQueue(), httpTask(w.url)).GetName()
			b.run(name)
			w.one()
			b.gone(name)
		}},
		{"3.3", "RunTask that fails: schedule_time is the call's plus the delay", func(b *bench) {
			w := b.worker(func(_ int, rw http.ResponseWriter, _ *http.Request) {
				time.Sleep(5 * time.Second)
				rw.WriteHeader(http.StatusInternalServerError)
			})
			queue := b.pausedQueue(retry(&cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(time.Minute)}))
			name := b.task(queue, httpTask(w.url, schedule(time.Now().Add(time.Hour)))).GetName()
			called := time.Now()
			b.run(name)
			w.after(10 * time.Second)
			b.equal(b.getTask(name).GetScheduleTime().AsTime().Sub(called), time.Minute)
		}},
		{"3.3", "RunTask dispatches a task that is running already", func(b *bench) {
			w := b.worker(func(_ int, _ http.ResponseWriter, _ *http.Request) { time.Sleep(5 * time.Second) })
			name := b.task(b.queue(), httpTask(w.url)).GetName()
			b.equal(len(w.after(time.Second)), 1)
			b.run(name)
			got := w.after(time.Second)
			b.equal(len(got), 2)
			w.after(time.Minute)
			b.gone(name)
		}},
	})
}
