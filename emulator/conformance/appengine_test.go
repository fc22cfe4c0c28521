package conformance_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

const appEngineAgent = "AppEngine-Google; (+http://code.google.com/appengine)"

func TestAppEngine(t *testing.T) {
	plain := appEngineTask(nil)
	conform(t, []rule{
		{"11.3", "the first attempt", func(b *bench) {
			w := b.appEngine(nil)
			queue := b.queue()
			task := b.task(queue, appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) { r.RelativeUri, r.Body = "/x?y=1", []byte("hi") }))
			got := w.one()
			b.equal(got.Method, http.MethodPost)
			b.equal(got.URL.RequestURI(), "/x?y=1")
			b.equal(got.body, "hi")
			for name, want := range map[string]string{
				"User-Agent":                       appEngineAgent,
				"Content-Type":                     "application/octet-stream",
				"X-AppEngine-QueueName":            queue[strings.LastIndexByte(queue, '/')+1:],
				"X-AppEngine-TaskName":             task.GetName()[strings.LastIndexByte(task.GetName(), '/')+1:],
				"X-AppEngine-TaskRetryCount":       "0",
				"X-AppEngine-TaskExecutionCount":   "0",
				"X-AppEngine-TaskPreviousResponse": absent,
				"X-AppEngine-TaskRetryReason":      absent,
				"X-CloudTasks-QueueName":           absent,
			} {
				if header(got, name) != want {
					b.Errorf("%s: got %q, want %q", name, header(got, name), want)
				}
			}
			b.equal(eta(b, got, "X-AppEngine-TaskETA").UTC(), task.GetScheduleTime().AsTime())
		}},
		{"11.3", "ExecutionCount counts 5xx, the reason is App Error", func(b *bench) {
			w := b.appEngine(statuses(503, 404, 429, 500, 302))
			b.task(b.queue(), plain)
			b.equal(sequence("X-AppEngine-", w.after(time.Hour)), []sent{
				{"0", "0", absent, absent}, {"1", "1", "503", "App Error"}, {"2", "2", "404", "App Error"},
				{"3", "3", "429", "App Error"}, {"4", "4", "500", "App Error"}, {"5", "5", "302", "App Error"},
			})
		}},
		{"22", "after a timeout", func(b *bench) {
			w := b.appEngine(func(attempt int, _ http.ResponseWriter, r *http.Request) {
				if attempt == 1 {
					<-r.Context().Done()
				}
			})
			task := appEngineTask(nil)
			deadline(15 * time.Second)(task)
			b.task(b.queue(), task)
			b.equal(sequence("X-AppEngine-", w.after(time.Hour)), []sent{{"0", "0", absent, absent}, {"1", "0", "0", "Instance Unavailable"}})
		}},
		{"8.7", "what is stored of a task with a body", func(b *bench) {
			task := b.task(b.pausedQueue(), appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) { r.Body = []byte("hi") }))
			got := task.GetAppEngineHttpRequest()
			b.equal(got.GetHeaders(), map[string]string{
				"Content-Length": "2", "User-Agent": appEngineAgent, "Content-Type": "application/octet-stream",
			})
			b.equal(got.GetRelativeUri(), "/")
			b.equal(got.GetHttpMethod(), cloudtaskspb.HttpMethod_POST)
		}},
		{"8.7", "a Content-Type in any casing is kept", func(b *bench) {
			w := b.appEngine(nil)
			task := b.task(b.queue(), appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) {
				r.Body, r.Headers = []byte("hi"), map[string]string{"content-type": "text/plain"}
			}))
			headers := task.GetAppEngineHttpRequest().GetHeaders()
			b.equal(headers["content-type"], "text/plain")
			b.equal(headers["Content-Type"], "")
			b.equal(header(w.one(), "Content-Type"), "text/plain")
		}},
		{"11.3", "the User-Agent is appended to the task's own", func(b *bench) {
			w := b.appEngine(nil)
			b.task(b.queue(), appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) { r.Headers = map[string]string{"User-Agent": "mine"} }))
			b.equal(header(w.one(), "User-Agent"), "mine "+appEngineAgent)
		}},
		{"8.5", "no deadline is stored unless set", func(b *bench) {
			b.equal(b.task(b.pausedQueue(), plain).GetDispatchDeadline() == nil, true)
		}},
		{"11.1", "the host names service and version", func(b *bench) {
			task := b.task(b.pausedQueue(), appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) {
				r.AppEngineRouting = &cloudtaskspb.AppEngineRouting{Service: "svc", Version: "v1"}
			}))
			routing := task.GetAppEngineHttpRequest().GetAppEngineRouting()
			b.equal(routing.GetService(), "svc")
			if host := routing.GetHost(); !strings.HasPrefix(host, "v1.svc."+b.project+".") && !strings.HasPrefix(host, "v1-dot-svc-dot-"+b.project+".") {
				b.Fatalf("host %q", host)
			}
		}},
		{"11.1", "the queue's routing override wins", func(b *bench) {
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
		{"11.2", "redirects are not followed", func(b *bench) {
			w := b.appEngine(func(attempt int, rw http.ResponseWriter, _ *http.Request) {
				if attempt == 1 {
					rw.Header().Set("Location", "/elsewhere")
					rw.WriteHeader(http.StatusFound)
				}
			})
			b.task(b.queue(), appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) { r.RelativeUri = "/here" }))
			got := w.after(time.Hour)
			b.equal(len(got), 2)
			b.equal(got[1].URL.Path, "/here")
		}},
	})
}
