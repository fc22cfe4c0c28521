package rows

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// atApp is a row's test for the first dispatch of an App Engine task.
func atApp(edit func(*cloudtaskspb.AppEngineHttpRequest), see func(b *fixture, d dispatch, task *cloudtaskspb.Task)) func(*fixture) {
	return func(b *fixture) {
		w := b.appEngine(nil)
		task := b.task(b.queue(), appEngineTask(edit))
		see(b, w.one(), task)
	}
}

func appHeader(name, want string) func(*fixture) {
	return atApp(nil, func(b *fixture, d dispatch, _ *cloudtaskspb.Task) { b.equal(header(d, name), want) })
}

// appHeaderOf is a row's test for what becomes of a header of a task.
func appHeaderOf(name, value, want string) func(*fixture) {
	return atApp(func(r *cloudtaskspb.AppEngineHttpRequest) { r.Headers = map[string]string{name: value} },
		func(b *fixture, d dispatch, _ *cloudtaskspb.Task) { b.equal(header(d, name), want) })
}

// hosted is a row's test for the host that results from a task's routing.
func hosted(routing *cloudtaskspb.AppEngineRouting, parts ...string) func(*fixture) {
	return func(b *fixture) {
		task := b.task(b.pausedQueue(), appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) { r.AppEngineRouting = routing }))
		host := task.GetAppEngineHttpRequest().GetAppEngineRouting().GetHost()
		parts := append(append([]string{}, parts...), b.project)
		if !strings.HasPrefix(host, strings.Join(parts, ".")) && !strings.HasPrefix(host, strings.Join(parts, "-dot-")) {
			b.Fatalf("host %q, want it to begin with %q", host, strings.Join(parts, "."))
		}
	}
}

// appEngineTable is about App Engine tasks (docs/cloud-tasks.md#11). Those with
// a dispatch need --app-engine.
var appEngineTable = []Row{
	{"11.1", Documented, "the host of a task without routing", hosted(nil)},
	{"11.1", Documented, "the host names the service", hosted(&cloudtaskspb.AppEngineRouting{Service: "svc"}, "svc")},
	{"11.1", Documented, "the host names version and service", hosted(&cloudtaskspb.AppEngineRouting{Service: "svc", Version: "v1"}, "v1", "svc")},
	{"11.1", Documented, "the host names instance, version and service",
		hosted(&cloudtaskspb.AppEngineRouting{Service: "svc", Version: "v1", Instance: "i"}, "i", "v1", "svc")},
	{"11.1", Documented, "the host is output only", hosted(&cloudtaskspb.AppEngineRouting{Service: "svc", Host: "mine.example"}, "svc")},
	{"11.1", Documented, "the routing is kept", func(b *fixture) {
		task := b.task(b.pausedQueue(), appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) {
			r.AppEngineRouting = &cloudtaskspb.AppEngineRouting{Service: "svc", Version: "v1"}
		}))
		routing := task.GetAppEngineHttpRequest().GetAppEngineRouting()
		b.equal([]string{routing.GetService(), routing.GetVersion(), routing.GetInstance()}, []string{"svc", "v1", ""})
	}},
	{"11.1", Documented, "the queue's routing wins", func(b *fixture) {
		w := b.appEngine(nil)
		queue := b.queue(func(q *cloudtaskspb.Queue) {
			q.AppEngineRoutingOverride = &cloudtaskspb.AppEngineRouting{Service: "queue"}
		})
		b.task(queue, appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) {
			r.AppEngineRouting = &cloudtaskspb.AppEngineRouting{Service: "task"}
		}))
		if host := w.one().Host; !strings.HasPrefix(host, "queue.") && !strings.HasPrefix(host, "queue-dot-") {
			b.Fatalf("host %q", host)
		}
	}},
	{"11.1", Documented, "the relative URI is / by default", atApp(nil, func(b *fixture, d dispatch, _ *cloudtaskspb.Task) { b.equal(d.RequestURI, "/") })},
	{"11.1", Documented, "the relative URI arrives", atApp(func(r *cloudtaskspb.AppEngineHttpRequest) { r.RelativeUri = "/x?y=1" },
		func(b *fixture, d dispatch, _ *cloudtaskspb.Task) { b.equal(d.RequestURI, "/x?y=1") })},
	{"11.1", Documented, "the body arrives", atApp(func(r *cloudtaskspb.AppEngineHttpRequest) { r.Body = []byte("hi") },
		func(b *fixture, d dispatch, _ *cloudtaskspb.Task) { b.equal(d.body, "hi") })},
	{"11.2", Documented, "redirects are not followed", func(b *fixture) {
		w := b.appEngine(func(nth int, rw http.ResponseWriter, _ *http.Request) {
			if nth == 1 {
				rw.Header().Set("Location", "/elsewhere")
				rw.WriteHeader(http.StatusFound)
			}
		})
		b.task(b.queue(quick(5)), appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) { r.RelativeUri = "/here" }))
		b.equal(w.only(2)[1].URL.Path, "/here")
	}},
	{"11.3", Documented, "QueueName", func(b *fixture) {
		w := b.appEngine(nil)
		queue := b.queue()
		b.task(queue, appEngineTask(nil))
		b.equal(header(w.one(), "X-AppEngine-QueueName"), lastID(queue))
	}},
	{"11.3", Documented, "TaskName", atApp(nil, func(b *fixture, d dispatch, task *cloudtaskspb.Task) {
		b.equal(header(d, "X-AppEngine-TaskName"), lastID(task.GetName()))
	})},
	{"11.3", Documented, "TaskETA", atApp(nil, func(b *fixture, d dispatch, task *cloudtaskspb.Task) {
		b.equal(eta(b, d, "X-AppEngine-TaskETA").UTC(), task.GetScheduleTime().AsTime())
	})},
	{"11.3", Documented, "TaskRetryCount of the first dispatch", appHeader("X-AppEngine-TaskRetryCount", "0")},
	{"11.3", Documented, "TaskExecutionCount of the first dispatch", appHeader("X-AppEngine-TaskExecutionCount", "0")},
	{"11.3", Observed, "no TaskPreviousResponse in the first dispatch", appHeader("X-AppEngine-TaskPreviousResponse", absent)},
	{"11.3", Observed, "no TaskRetryReason in the first dispatch", appHeader("X-AppEngine-TaskRetryReason", absent)},
	{"11.3", Documented, "no X-CloudTasks-QueueName", appHeader("X-CloudTasks-QueueName", absent)},
	{"11.3", Documented, "User-Agent", appHeader("User-Agent", appEngineAgent)},
	{"11.3", Documented, "the User-Agent is appended to the task's own", appHeaderOf("User-Agent", "mine", "mine "+appEngineAgent)},
	{"11.3", Documented, "with a body, Content-Type is application/octet-stream", atApp(func(r *cloudtaskspb.AppEngineHttpRequest) { r.Body = []byte("hi") },
		func(b *fixture, d dispatch, _ *cloudtaskspb.Task) {
			b.equal(header(d, "Content-Type"), "application/octet-stream")
		})},
	{"11.3", Documented, "a Content-Type of the task arrives", appHeaderOf("Content-Type", "text/plain", "text/plain")},
	{"11.3", Documented, "a header of the task arrives", appHeaderOf("X-Mine", "1", "1")},
	{"11.3", Documented, "X-Google-Foo cannot be set", appHeaderOf("X-Google-Foo", "lies", absent)},
	{"11.3", Documented, "X-AppEngine-Foo cannot be set", appHeaderOf("X-AppEngine-Foo", "lies", absent)},
	{"11.3", Documented, "X-AppEngine-TaskRetryCount cannot be set", appHeaderOf("X-AppEngine-TaskRetryCount", "77", "0")},
}

func appEngineRows() []Row {
	rows := slices.Clone(appEngineTable)
	for _, status := range []int{200, 204, 299} {
		rows = append(rows, Row{"11.4", Documented, fmt.Sprintf("%d is success", status), func(b *fixture) {
			w := b.appEngine(always(status))
			b.gone(b.task(b.queue(quick(3)), appEngineTask(nil)).GetName())
			w.only(1)
		}})
	}
	for _, status := range []int{301, 404, 429, 500, 503} {
		rows = append(rows, Row{"11.4", Documented, fmt.Sprintf("%d is a failure", status), func(b *fixture) {
			w := b.appEngine(always(status))
			b.task(b.queue(quick(2)), appEngineTask(nil))
			w.take(2)
		}})
	}
	return append(rows, sequenceRows("11.3", "X-AppEngine-", []sent{
		{"0", "0", absent, absent}, {"1", "1", "503", "App Error"}, {"2", "2", "404", "App Error"},
		{"3", "3", "429", "App Error"}, {"4", "4", "500", "App Error"}, {"5", "5", "302", "App Error"},
	})...)
}
