package rows

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
)

var methods = []cloudtaskspb.HttpMethod{
	cloudtaskspb.HttpMethod_POST, cloudtaskspb.HttpMethod_GET, cloudtaskspb.HttpMethod_HEAD, cloudtaskspb.HttpMethod_PUT,
	cloudtaskspb.HttpMethod_DELETE, cloudtaskspb.HttpMethod_PATCH, cloudtaskspb.HttpMethod_OPTIONS,
}

// arrives is a row's test for the request target that a worker sees.
func arrives(uri, want string) func(*fixture) {
	return func(b *fixture) {
		w := b.worker(nil)
		b.task(b.queue(), httpTask(w.url+uri))
		b.equal(w.one().RequestURI, "/"+want)
	}
}

// urlRows are about the request target that a URL becomes (docs/cloud-tasks.md#9.1).
func urlRows() []Row {
	rows := []Row{
		{"9.1", Documented, "path and query reach the worker", arrives("a/b?x=1&y=2", "a/b?x=1&y=2")},
		{"9.1", Documented, "a URL without a path", func(b *fixture) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(strings.TrimSuffix(w.url, "/")))
			b.equal(w.one().RequestURI, "/")
		}},
		{"9.1", Documented, "the host is that of the URL", func(b *fixture) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url))
			b.equal(w.one().Host, w.host)
		}},
	}
	for _, escape := range []string{"%2F", "%2f", "%25", "%20", "%3F", "%23", "%26", "%2B", "+", "%C3%BC", "%00", "%7E"} {
		rows = append(rows, Row{"9.1", Inferred, "an escape stays as it is, in a path: " + escape, arrives("a"+escape+"b", "a"+escape+"b")})
		rows = append(rows, Row{"9.1", Inferred, "an escape stays as it is, in a query: " + escape, arrives("?q=a"+escape+"b", "?q=a"+escape+"b")})
	}
	for _, raw := range []string{" ", "ü", "日本", "🎉", "\u00a0", "\u2028"} {
		var encoded strings.Builder
		for _, c := range []byte(raw) {
			fmt.Fprintf(&encoded, "%%%02X", c)
		}
		rows = append(rows,
			Row{"9.1", Inferred, fmt.Sprintf("a raw %+q in a path is encoded", raw), arrives("a"+raw+"b", "a"+encoded.String()+"b")},
			Row{"9.1", Inferred, fmt.Sprintf("a raw %+q in a query is encoded", raw), arrives("?q=a"+raw+"b", "?q=a"+encoded.String()+"b")})
	}
	for _, char := range "-._~!$&'()*+,;=:@" {
		rows = append(rows, Row{"9.1", Inferred, fmt.Sprintf("a %q in a path stays as it is", char), arrives("a"+string(char)+"b", "a"+string(char)+"b")})
	}
	return rows
}

// headerRows are about headers that a task can set, and those that it cannot
// (docs/cloud-tasks.md#9.2).
func headerRows() []Row {
	rows := []Row{
		{"9.2", Documented, "a header of the task arrives", sendsHeader("X-Mine", "1,2", "1,2")},
		{"9.2", Documented, "a header in lower case arrives", sendsHeader("x-mine", "1", "1")},
		{"9.2", Documented, "an empty header arrives", sendsHeader("X-Mine", "", "")},
		{"9.2", Documented, "Content-Type arrives", sendsHeader("Content-Type", "text/plain", "text/plain")},
		{"9.2", Documented, "Host is computed", func(b *fixture) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url, withHeaders(map[string]string{"Host": "other"})))
			b.equal(w.one().Host, w.host)
		}},
		{"9.2", Documented, "Content-Length is computed", func(b *fixture) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url, withBody("hi"), withHeaders(map[string]string{"Content-Length": "99"})))
			got := w.one()
			b.equal(got.ContentLength, int64(2))
			b.equal(got.body, "hi")
		}},
	}
	for _, name := range []string{"User-Agent", "user-agent", "USER-AGENT"} {
		rows = append(rows, Row{"9.2", Documented, name + " is Google-Cloud-Tasks", sendsHeader(name, "me", userAgent)})
	}
	for _, name := range []string{
		"X-Google-Foo", "x-google-foo", "X-Google-Cloud-Trace", "X-AppEngine-QueueName", "X-AppEngine-TaskName", "X-AppEngine-TaskRetryCount",
		"X-AppEngine-TaskExecutionCount", "X-AppEngine-TaskETA", "X-AppEngine-Country", "x-appengine-cron",
	} {
		rows = append(rows, Row{"9.2", Documented, name + " is ignored", sendsHeader(name, "lies", absent)})
	}
	for _, suffix := range []string{"QueueName", "TaskName", "TaskRetryCount", "TaskExecutionCount", "TaskETA"} {
		for _, name := range []string{"X-CloudTasks-" + suffix, strings.ToLower("X-CloudTasks-" + suffix)} {
			rows = append(rows, Row{"9.2", Inferred, name + " is the service's", func(b *fixture) {
				w := b.worker(nil)
				b.task(b.queue(), httpTask(w.url, withHeaders(map[string]string{name: "lies"})))
				if got := header(w.one(), name); got == "lies" || got == absent || strings.Contains(got, "|") {
					b.Fatalf("%s is %q", name, got)
				}
			}})
		}
	}
	return rows
}

// sendsHeader is a row's test for how a header of a task arrives.
func sendsHeader(name, value, want string) func(*fixture) {
	return func(b *fixture) {
		w := b.worker(nil)
		b.task(b.queue(), httpTask(w.url, withHeaders(map[string]string{name: value})))
		b.equal(header(w.one(), name), want)
	}
}

// dispatchTable is about the headers of a dispatch (docs/cloud-tasks.md#9.3,
// #9.4, #9.5).
var dispatchTable = []Row{
	{"9.3", Observed, "no Content-Type unless the task has one", firstHeader("Content-Type", absent)},
	{"9.3", Observed, "no Content-Type with a body either", func(b *fixture) {
		w := b.worker(nil)
		b.task(b.queue(), httpTask(w.url, withBody(`{"a":1}`)))
		b.equal(header(w.one(), "Content-Type"), absent)
	}},
	{"9.4", Documented, "QueueName is the ID of the queue", func(b *fixture) {
		w := b.worker(nil)
		queue := b.queue()
		b.task(queue, httpTask(w.url))
		b.equal(header(w.one(), "X-CloudTasks-QueueName"), lastID(queue))
	}},
	{"9.4", Documented, "TaskName is the ID of the task", func(b *fixture) {
		w := b.worker(nil)
		task := b.task(b.queue(), httpTask(w.url))
		b.equal(header(w.one(), "X-CloudTasks-TaskName"), lastID(task.GetName()))
	}},
	{"9.4", Documented, "TaskName is the given ID of the task", func(b *fixture) {
		w := b.worker(nil)
		queue := b.queue()
		b.task(queue, httpTask(w.url, withID(queue, "a_b-C")))
		b.equal(header(w.one(), "X-CloudTasks-TaskName"), "a_b-C")
	}},
	{"9.4", Documented, "TaskRetryCount of the first dispatch", firstHeader("X-CloudTasks-TaskRetryCount", "0")},
	{"9.4", Documented, "TaskExecutionCount of the first dispatch", firstHeader("X-CloudTasks-TaskExecutionCount", "0")},
	{"9.4", Documented, "no TaskPreviousResponse in the first dispatch", firstHeader("X-CloudTasks-TaskPreviousResponse", absent)},
	{"9.4", Documented, "no TaskRetryReason in the first dispatch", firstHeader("X-CloudTasks-TaskRetryReason", absent)},
	{"9.4", Observed, "User-Agent", firstHeader("User-Agent", userAgent)},
	{"9.4", Observed, "Accept-Encoding", firstHeader("Accept-Encoding", "gzip,deflate,br")},
	{"9.4", Inferred, "no Authorization without a token", firstHeader("Authorization", absent)},
	{"9.4", Observed, "TaskETA is Unix seconds with six or seven decimals", func(b *fixture) {
		w := b.worker(nil)
		b.task(b.queue(), httpTask(w.url))
		eta(b, w.one(), "X-CloudTasks-TaskETA")
	}},
	{"9.4", Documented, "TaskETA is the schedule time", func(b *fixture) {
		w := b.worker(nil)
		task := b.task(b.queue(), httpTask(w.url))
		b.equal(eta(b, w.one(), "X-CloudTasks-TaskETA").UTC(), task.GetScheduleTime().AsTime())
	}},
	{"9.4", Documented, "TaskETA of a retry is the schedule time of the retry", func(b *fixture) {
		w := b.worker(statuses(500))
		b.task(b.queue(retry(fixed(2, 0, 200*time.Millisecond))), httpTask(w.url))
		got := w.take(2)
		if moved := eta(b, got[1], "X-CloudTasks-TaskETA").Sub(eta(b, got[0], "X-CloudTasks-TaskETA")); moved < 190*time.Millisecond {
			b.Fatalf("the ETA of the retry is %v after that of the first dispatch, with a backoff of 200 ms", moved)
		}
	}},
	{"9.4", Documented, "no header has the project or the location", func(b *fixture) {
		w := b.worker(nil)
		b.task(b.queue(), httpTask(w.url))
		for name, values := range w.one().Header {
			if text := strings.Join(values, " "); strings.Contains(text, b.project) || strings.Contains(text, lastID(b.parent)) {
				b.Fatalf("%s: %s", name, text)
			}
		}
	}},
	{"9.5", Observed, "a 302 is a failure, and not followed", func(b *fixture) {
		w := b.worker(func(nth int, rw http.ResponseWriter, _ *http.Request) {
			if nth == 1 {
				rw.Header().Set("Location", "/elsewhere")
				rw.WriteHeader(http.StatusFound)
			}
		})
		b.task(b.queue(quick(5)), httpTask(w.url+"here"))
		got := w.only(2)
		b.equal(got[1].URL.Path, "/here")
		b.equal(header(got[1], "X-CloudTasks-TaskRetryCount"), "1")
	}},
	{"9.5", Inferred, "the body of a response is ignored", func(b *fixture) {
		w := b.worker(func(_ int, rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, `{"error":{"code":500}}`) })
		b.gone(b.task(b.queue(), httpTask(w.url)).GetName())
		w.only(1)
	}},
}

func dispatchRows() []Row {
	rows := slices.Clone(dispatchTable)
	return append(rows, sequenceRows("9.4", "X-CloudTasks-", []sent{
		{"0", "0", absent, absent}, {"1", "0", "503", ""}, {"2", "1", "404", ""}, {"3", "2", "429", ""}, {"4", "2", "500", ""}, {"5", "3", "302", ""},
	})...)
}

func firstHeader(name, want string) func(*fixture) {
	return func(b *fixture) {
		w := b.worker(nil)
		b.task(b.queue(), httpTask(w.url))
		b.equal(header(w.one(), name), want)
	}
}

// sent are the headers of one dispatch that vary.
type sent struct{ retries, executions, previous, reason string }

// recorded are the responses of the task that was recorded
// (docs/cloud-tasks.md#9.4).
var recorded = []int{503, 404, 429, 500, 302}

// sequenceRows has a row for each header of each retry of the recorded task.
func sequenceRows(section, prefix string, want []sent) []Row {
	var rows []Row
	for i, name := range []string{"TaskRetryCount", "TaskExecutionCount", "TaskPreviousResponse", "TaskRetryReason"} {
		for n := 1; n < len(want); n++ {
			expected := [4]string{want[n].retries, want[n].executions, want[n].previous, want[n].reason}[i]
			rows = append(rows, Row{section, Observed, fmt.Sprintf("%s%s of retry %d, after a %d", prefix, name, n, recorded[n-1]), func(b *fixture) {
				var w *worker
				if prefix == "X-AppEngine-" {
					w = b.appEngine(statuses(recorded...))
					b.task(b.queue(quick(20)), appEngineTask(nil))
				} else {
					w = b.worker(statuses(recorded...))
					b.task(b.queue(quick(20)), httpTask(w.url))
				}
				b.equal(header(w.take(n + 1)[n], prefix+name), expected)
			}})
		}
	}
	return rows
}

var etaFormat = regexp.MustCompile(`^\d{9,10}\.\d{6,7}$`)

func eta(b *fixture, d dispatch, name string) time.Time {
	b.Helper()
	text := header(d, name)
	if !etaFormat.MatchString(text) {
		b.Fatalf("ETA %q is not Unix seconds with six or seven decimals", text)
	}
	whole, fraction, _ := strings.Cut(text, ".")
	s, err := strconv.ParseInt(whole, 10, 64)
	b.ok(err)
	micros, err := strconv.ParseInt(fraction[:6], 10, 64)
	b.ok(err)
	return time.Unix(s, micros*1000)
}

// methodRows are about methods and bodies (docs/cloud-tasks.md#9.6).
func methodRows() []Row {
	var rows []Row
	for _, method := range methods {
		name := method.String()
		rows = append(rows, Row{"9.6", Documented, name + " arrives as " + name, func(b *fixture) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url, withMethod(method)))
			b.equal(w.one().Method, name)
		}})
		switch method {
		case cloudtaskspb.HttpMethod_POST, cloudtaskspb.HttpMethod_PUT, cloudtaskspb.HttpMethod_PATCH:
			rows = append(rows, Row{"9.6", Documented, name + " has a body", func(b *fixture) {
				w := b.worker(nil)
				b.task(b.queue(), httpTask(w.url, withMethod(method), withBody("a\x00\xffb")))
				b.equal(w.one().body, "a\x00\xffb")
			}})
		default:
			rows = append(rows, Row{"9.6", Documented, name + " has no body: CreateTask is an error", func(b *fixture) {
				if err := b.createTask(b.pausedQueue(), httpTask(example, withMethod(method), withBody("x"))); err == nil {
					b.Fatalf("it was accepted")
				}
			}}, Row{"9.6", Inferred, name + " with a body: INVALID_ARGUMENT", fails(codes.InvalidArgument, "", func(b *fixture) error {
				return b.createTask(b.pausedQueue(), httpTask(example, withMethod(method), withBody("x")))
			})})
		}
	}
	return append(rows,
		Row{"9.6", Documented, "POST without a body has Content-Length 0", func(b *fixture) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url))
			b.equal(w.one().ContentLength, int64(0))
		}},
		Row{"9.6", Documented, "a body of 900 KB arrives", func(b *fixture) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url, withBody(strings.Repeat("x", 900_000))))
			b.equal(len(w.one().body), 900_000)
		}})
}
