package rows

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	userAgent      = "Google-Cloud-Tasks"
	appEngineAgent = "AppEngine-Google; (+http://code.google.com/appengine)"
)

// taskTable is about the life and the fields of tasks (docs/cloud-tasks.md#8).
var taskTable = []Row{
	{"8.1", Documented, "a task is dispatched when it is created", func(b *fixture) {
		w := b.worker(nil)
		b.task(b.queue(), httpTask(w.url))
		w.one()
	}},
	{"8.1", Documented, "a task that succeeded is deleted", func(b *fixture) {
		w := b.worker(nil)
		b.gone(b.task(b.queue(), httpTask(w.url)).GetName())
	}},
	{"8.1", Documented, "a task that failed is scheduled again", func(b *fixture) {
		w := b.worker(statuses(500))
		b.task(b.queue(quick(5)), httpTask(w.url))
		w.only(2)
	}},
	{"8.3", Documented, "the name of a task that is there: ALREADY_EXISTS", fails(codes.AlreadyExists, "", func(b *fixture) error {
		queue := b.pausedQueue()
		b.task(queue, httpTask(example, withID(queue, "t")))
		return b.createTask(queue, httpTask(example, withID(queue, "t")))
	})},
	{"8.3", Documented, "the name of a deleted task: ALREADY_EXISTS", fails(codes.AlreadyExists, "", goneName)},
	{"8.3", Documented, "the name of a task that is done: ALREADY_EXISTS", fails(codes.AlreadyExists, "", func(b *fixture) error {
		w := b.worker(nil)
		queue := b.queue()
		b.gone(b.task(queue, httpTask(w.url, withID(queue, "t"))).GetName())
		return b.createTask(queue, httpTask(w.url, withID(queue, "t")))
	})},
	{"8.3", Documented, "the name of a task that used up its retries: ALREADY_EXISTS", fails(codes.AlreadyExists, "", func(b *fixture) error {
		w := b.worker(always(http.StatusInternalServerError))
		queue := b.queue(quick(1))
		b.gone(b.task(queue, httpTask(w.url, withID(queue, "t"))).GetName())
		return b.createTask(queue, httpTask(w.url, withID(queue, "t")))
	})},
	{"8.3", Documented, "the same ID in another queue", func(b *fixture) {
		for range 2 {
			queue := b.pausedQueue()
			b.task(queue, httpTask(example, withID(queue, "t")))
		}
	}},
	{"8.3", Documented, "tasks without a name are never deduplicated", func(b *fixture) {
		queue := b.pausedQueue()
		for range 3 {
			b.task(queue, httpTask(example, withBody("same")))
		}
		b.equal(len(b.tasks(queue)), 3)
	}},
	{"8.3", Observed, "a name outside the parent: INVALID_ARGUMENT", fails(codes.InvalidArgument, "", func(b *fixture) error {
		return b.createTask(b.pausedQueue(), httpTask(example, withID(b.freshName(), "t")))
	})},
	{"8.4", Documented, "no task is dispatched before its schedule time", func(b *fixture) {
		w := b.worker(nil)
		at := time.Now().Add(time.Second)
		b.task(b.queue(), httpTask(w.url, schedule(at)))
		if early := at.Sub(w.one().at); early > time.Millisecond {
			b.Fatalf("dispatched %v early", early)
		}
	}},
	{"8.4", Documented, "schedule_time keeps its microseconds and no more", func(b *fixture) {
		at := time.Now().Add(time.Hour).Truncate(time.Second)
		task := b.task(b.pausedQueue(), httpTask(example, schedule(at.Add(123456789))))
		b.equal(task.GetScheduleTime().AsTime(), at.Add(123456*time.Microsecond).UTC())
	}},
	{"8.6", Observed, "the largest task has 1,048,569 bytes as stored", func(b *fixture) {
		queue, most := largest(b)
		b.equal(storedSize(b.fullTask(b.task(queue, sized(queue, "t2", most)).GetName())), sizeLimit)
	}},
	{"8.6", Observed, "a task of one byte more", fails(codes.InvalidArgument, "", func(b *fixture) error {
		queue, most := largest(b)
		return b.createTask(queue, sized(queue, "t2", most+1))
	})},
	{"8.7", Observed, "an HTTP task gains User-Agent", storedHeader(nil, "User-Agent", userAgent)},
	{"8.7", Observed, "an HTTP task gains no Content-Type", storedHeader(nil, "Content-Type", "")},
	{"8.7", Observed, "the case of header names is kept", storedHeader(map[string]string{"x-lower-Case": "kept"}, "x-lower-Case", "kept")},
	{"8.7", Documented, "headers of the dispatch do not show on a task", func(b *fixture) {
		for name := range b.task(b.pausedQueue(), httpTask(example)).GetHttpRequest().GetHeaders() {
			if strings.HasPrefix(strings.ToLower(name), "x-cloudtasks-") {
				b.Fatalf("the task shows %s", name)
			}
		}
	}},
	{"8.7", Observed, "a URL with an invalid escape is accepted", func(b *fixture) { b.task(b.pausedQueue(), httpTask("https://example.com/%zz")) }},
	{"8.7", Observed, "an App Engine task with a body gains Content-Length", appEngineStored(nil, "Content-Length", "2")},
	{"8.7", Observed, "an App Engine task gains User-Agent", appEngineStored(nil, "User-Agent", appEngineAgent)},
	{"8.7", Observed, "an App Engine task with a body gains a Content-Type", appEngineStored(nil, "Content-Type", "application/octet-stream")},
	{"8.7", Observed, "an App Engine task keeps its Content-Type", appEngineStored(map[string]string{"Content-Type": "text/plain"}, "Content-Type", "text/plain")},
	{"8.7", Inferred, "an App Engine task keeps its Content-Type in any case", appEngineStored(map[string]string{"content-type": "text/plain"}, "content-type", "text/plain")},
}

func taskRows() []Row {
	rows := slices.Clone(taskTable)
	return append(append(append(rows, scheduleRows()...), deadlineRows()...), attemptRows...)
}

func goneName(b *fixture) error {
	queue := b.pausedQueue()
	b.deleteTask(b.task(queue, httpTask(example, withID(queue, "t"))).GetName())
	return b.createTask(queue, httpTask(example, withID(queue, "t")))
}

// scheduleRows are about schedule times that mean now, and those too far ahead
// (docs/cloud-tasks.md#8.4).
func scheduleRows() []Row {
	rows := []Row{
		{"8.4", Documented, "a schedule time that is unset is now", scheduledNow(func() *timestamppb.Timestamp { return nil })},
		{"8.4", Documented, "a schedule time a second ago is now", scheduledNow(func() *timestamppb.Timestamp { return timestamppb.New(time.Now().Add(-time.Second)) })},
		{"8.4", Documented, "a schedule time of 1970 is now", scheduledNow(date(1970))},
		{"8.4", Documented, "a schedule time of 1601 is now", scheduledNow(date(1601))},
		{"8.4", Documented, "a schedule time of the year 1 is now", scheduledNow(date(1))},
	}
	for _, ahead := range []time.Duration{time.Minute, 24 * time.Hour, 719 * time.Hour, 720*time.Hour - time.Minute} {
		rows = append(rows, Row{"8.4", Documented, fmt.Sprintf("a schedule time %v ahead", ahead), func(b *fixture) {
			at := time.Now().Add(ahead).Truncate(time.Second)
			b.equal(b.task(b.pausedQueue(), httpTask(example, schedule(at))).GetScheduleTime().AsTime(), at.UTC())
		}})
	}
	rows = append(rows, Row{"8.4", Documented, "a schedule time 720 h and 5 minutes ahead", fails(codes.InvalidArgument, "", func(b *fixture) error {
		return b.createTask(b.pausedQueue(), httpTask(example, schedule(time.Now().Add(720*time.Hour+5*time.Minute))))
	})})
	for _, year := range []int{2261, 2263, 3000, 9999} { // 2262 is the last year that 64 bits of nanoseconds hold
		rows = append(rows, Row{"8.4", Documented, fmt.Sprintf("a schedule time of the year %d", year),
			refusedTask(schedule(time.Date(year, 12, 31, 23, 59, 59, 0, time.UTC)))})
	}
	return rows
}

func date(year int) func() *timestamppb.Timestamp {
	return func() *timestamppb.Timestamp { return timestamppb.New(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)) }
}

func scheduledNow(at func() *timestamppb.Timestamp) func(*fixture) {
	return func(b *fixture) {
		now := time.Now()
		late := b.task(b.pausedQueue(), httpTask(example, func(t *cloudtaskspb.Task) { t.ScheduleTime = at() })).GetScheduleTime().AsTime().Sub(now)
		if late < -5*time.Second || late > 10*time.Second {
			b.Fatalf("the schedule time is %v after now", late)
		}
	}
}

// deadlineRows are about dispatch deadlines (docs/cloud-tasks.md#8.5).
func deadlineRows() []Row {
	rows := []Row{
		{"8.5", Observed, "an HTTP task stores the default of 600 s", func(b *fixture) {
			b.equal(b.task(b.pausedQueue(), httpTask(example)).GetDispatchDeadline().AsDuration(), 10*time.Minute)
		}},
		{"8.5", Observed, "an App Engine task stores no deadline unless set", func(b *fixture) {
			b.equal(b.task(b.pausedQueue(), appEngineTask(nil)).GetDispatchDeadline() == nil, true)
		}},
		{"8.5", Documented, "a deadline keeps its milliseconds and no more", func(b *fixture) {
			task := b.task(b.pausedQueue(), httpTask(example, deadline(20*time.Second+1234567*time.Nanosecond)))
			b.equal(task.GetDispatchDeadline().AsDuration(), 20*time.Second+time.Millisecond)
		}},
	}
	for _, d := range []struct {
		given     time.Duration
		http, app bool
	}{
		{15 * time.Second, true, true}, {20 * time.Second, true, true}, {30 * time.Minute, true, true}, {24*time.Hour + 15*time.Second, false, true},
		{14 * time.Second, false, false}, {time.Second, false, false}, {-time.Second, false, false},
		{30*time.Minute + time.Second, false, true}, {24*time.Hour + 16*time.Second, false, false}, {100 * 24 * time.Hour, false, false},
	} {
		rows = append(rows,
			Row{"8.5", Documented, fmt.Sprintf("a deadline of %v of an HTTP task", d.given), limited(httpTask(example, deadline(d.given)), d.http)},
			Row{"8.5", Documented, fmt.Sprintf("a deadline of %v of an App Engine task", d.given), limited(func() *cloudtaskspb.Task {
				task := appEngineTask(nil)
				deadline(d.given)(task)
				return task
			}(), d.app)})
	}
	return rows
}

// limited is a row's test for a dispatch deadline that is, or is not, in its range.
func limited(task *cloudtaskspb.Task, in bool) func(*fixture) {
	return func(b *fixture) {
		if !in {
			b.fails(b.createTask(b.pausedQueue(), task), codes.InvalidArgument, "")
			return
		}
		b.equal(b.task(b.pausedQueue(), task).GetDispatchDeadline().AsDuration(), task.GetDispatchDeadline().AsDuration())
	}
}

const sizeLimit = 1_048_569

// storedSize is the size that the service counts: the whole task but its view.
func storedSize(t *cloudtaskspb.Task) int {
	t = proto.CloneOf(t)
	t.View = 0
	return proto.Size(t)
}

func sized(queue, id string, body int) *cloudtaskspb.Task {
	return httpTask(example, schedule(time.Now().Add(time.Hour).Truncate(time.Second)), withBody(strings.Repeat("x", body)), withID(queue, id))
}

// largest returns the size of the largest body that a task can have.
func largest(b *fixture) (queue string, body int) {
	b.Helper()
	queue = b.pausedQueue()
	guess := sizeLimit - 1000
	return queue, guess + sizeLimit - storedSize(b.fullTask(b.task(queue, sized(queue, "t1", guess)).GetName()))
}

func storedHeader(headers map[string]string, name, want string) func(*fixture) {
	return func(b *fixture) {
		b.equal(b.task(b.pausedQueue(), httpTask(example, withBody("hi"), withHeaders(headers))).GetHttpRequest().GetHeaders()[name], want)
	}
}

func appEngineStored(headers map[string]string, name, want string) func(*fixture) {
	return func(b *fixture) {
		task := b.task(b.pausedQueue(), appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) { r.Body, r.Headers = []byte("hi"), headers }))
		b.equal(task.GetAppEngineHttpRequest().GetHeaders()[name], want)
	}
}

// attemptRows are about counters and the fields of type Attempt (docs/cloud-tasks.md#8.8).
var attemptRows = []Row{
	{"8.8", Documented, "a task that was not dispatched counts nothing", func(b *fixture) {
		task := b.task(b.pausedQueue(), httpTask(example))
		b.equal([]int32{task.GetDispatchCount(), task.GetResponseCount()}, []int32{0, 0})
		b.equal(task.GetFirstAttempt() == nil && task.GetLastAttempt() == nil, true)
	}},
	{"8.8", Documented, "dispatch_count counts dispatches", failedTask(func(b *fixture, t *cloudtaskspb.Task) { b.equal(t.GetDispatchCount(), int32(1)) })},
	{"8.8", Documented, "response_count counts responses", failedTask(func(b *fixture, t *cloudtaskspb.Task) { b.equal(t.GetResponseCount(), int32(1)) })},
	{"8.8", Documented, "a dispatch that runs is counted, without a response", func(b *fixture) {
		hold := make(chan struct{})
		defer close(hold)
		w := b.worker(held(hold))
		name := b.task(b.queue(), httpTask(w.url)).GetName()
		w.one()
		task := b.getTask(name)
		b.equal([]int32{task.GetDispatchCount(), task.GetResponseCount()}, []int32{1, 0})
	}},
	{"8.8", Documented, "first_attempt has its dispatch time", failedTask(func(b *fixture, t *cloudtaskspb.Task) {
		b.equal(t.GetFirstAttempt().GetDispatchTime().IsValid(), true)
	})},
	{"8.8", Documented, "first_attempt has nothing else", failedTask(func(b *fixture, t *cloudtaskspb.Task) {
		b.protoEqual(t.GetFirstAttempt(), &cloudtaskspb.Attempt{DispatchTime: t.GetFirstAttempt().GetDispatchTime()})
	})},
	{"8.8", Documented, "last_attempt has its schedule time", failedTask(func(b *fixture, t *cloudtaskspb.Task) {
		b.equal(t.GetLastAttempt().GetScheduleTime().IsValid(), true)
	})},
	{"8.8", Documented, "last_attempt has its dispatch time", failedTask(func(b *fixture, t *cloudtaskspb.Task) {
		b.equal(t.GetLastAttempt().GetDispatchTime().IsValid(), true)
	})},
	{"8.8", Documented, "last_attempt has its response time, not before the dispatch", failedTask(func(b *fixture, t *cloudtaskspb.Task) {
		last := t.GetLastAttempt()
		b.equal(last.GetResponseTime().IsValid() && !last.GetResponseTime().AsTime().Before(last.GetDispatchTime().AsTime()), true)
	})},
	{"8.8", Documented, "last_attempt has its response status", failedTask(func(b *fixture, t *cloudtaskspb.Task) {
		b.equal(t.GetLastAttempt().GetResponseStatus() != nil, true)
	})},
	{"8.8", Observed, "response_status of a 502 is INTERNAL", failedTask(func(b *fixture, t *cloudtaskspb.Task) {
		b.equal(codes.Code(t.GetLastAttempt().GetResponseStatus().GetCode()), codes.Internal)
	})},
	{"8.8", Observed, "response_status of a 502 says HTTP status code 502", failedTask(func(b *fixture, t *cloudtaskspb.Task) {
		if message := t.GetLastAttempt().GetResponseStatus().GetMessage(); !strings.Contains(message, "HTTP status code 502") {
			b.Fatalf("message %q", message)
		}
	})},
	{"8.8", Documented, "first_attempt stays that of the first, last_attempt that of the last", func(b *fixture) {
		w := b.worker(always(http.StatusBadGateway))
		name := b.task(b.pausedQueue(never()), httpTask(w.url)).GetName()
		for n := range int32(2) {
			time.Sleep(10 * time.Millisecond)
			b.run(name)
			b.eventually("no response is counted", func() bool { return b.getTask(name).GetResponseCount() == n+1 })
		}
		task := b.getTask(name)
		b.equal(task.GetFirstAttempt().GetDispatchTime().AsTime().Before(task.GetLastAttempt().GetDispatchTime().AsTime()), true)
	}},
}

// failedTask is a row's test for a task after a dispatch that ended with 502.
func failedTask(see func(b *fixture, t *cloudtaskspb.Task)) func(*fixture) {
	return func(b *fixture) { see(b, failedOnce(b, b.worker(always(http.StatusBadGateway)), b.queue(never()))) }
}
