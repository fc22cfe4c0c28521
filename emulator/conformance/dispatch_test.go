package conformance_test

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// sent are the dispatch headers that vary, of one attempt.
type sent struct {
	retries, executions, previous, reason string
}

const absent = "(absent)"

func header(d dispatch, name string) string {
	if values, ok := d.Header[http.CanonicalHeaderKey(name)]; ok {
		return strings.Join(values, "|")
	}
	return absent
}

// sequence reads the headers of all attempts; prefix is X-CloudTasks- or
// X-AppEngine-.
func sequence(prefix string, got []dispatch) []sent {
	var all []sent
	for _, d := range got {
		all = append(all, sent{
			header(d, prefix+"TaskRetryCount"), header(d, prefix+"TaskExecutionCount"),
			header(d, prefix+"TaskPreviousResponse"), header(d, prefix+"TaskRetryReason"),
		})
	}
	return all
}

func eta(b *bench, d dispatch, name string) time.Time {
	b.Helper()
	text := header(d, name)
	if !regexp.MustCompile(`^\d{9,10}\.\d{6,7}$`).MatchString(text) {
		b.Fatalf("ETA %q is not Unix seconds with six or seven decimals", text)
	}
	whole, fraction, _ := strings.Cut(text, ".")
	s, err := strconv.ParseInt(whole, 10, 64)
	b.ok(err)
	micros, err := strconv.ParseInt(fraction[:6], 10, 64)
	b.ok(err)
	return time.Unix(s, micros*1000)
}

func TestHTTPDispatch(t *testing.T) {
	conform(t, []rule{
		{"9.4", "the first attempt", func(b *bench) {
			w := b.worker(nil)
			queue := b.queue()
			task := b.task(queue, httpTask(w.url+"path?x=1", withBody("hi")))
			got := w.one()
			b.equal(got.Method, http.MethodPost)
			b.equal(got.URL.RequestURI(), "/path?x=1")
			b.equal(got.Host, w.host)
			b.equal(got.body, "hi")
			b.equal(got.ContentLength, int64(2))
			for name, want := range map[string]string{
				"User-Agent":                        "Google-Cloud-Tasks",
				"Accept-Encoding":                   "gzip,deflate,br",
				"Content-Type":                      absent, // docs/cloud-tasks.md#9.3
				"Authorization":                     absent,
				"X-CloudTasks-QueueName":            queue[strings.LastIndexByte(queue, '/')+1:],
				"X-CloudTasks-TaskName":             task.GetName()[strings.LastIndexByte(task.GetName(), '/')+1:],
				"X-CloudTasks-TaskRetryCount":       "0",
				"X-CloudTasks-TaskExecutionCount":   "0",
				"X-CloudTasks-TaskPreviousResponse": absent,
				"X-CloudTasks-TaskRetryReason":      absent,
			} {
				if header(got, name) != want {
					b.Errorf("%s: got %q, want %q", name, header(got, name), want)
				}
			}
			b.equal(eta(b, got, "X-CloudTasks-TaskETA").UTC(), task.GetScheduleTime().AsTime())
		}},
		{"9.4", "the recorded sequence", func(b *bench) {
			w := b.worker(statuses(503, 404, 429, 500, 302))
			b.task(b.queue(), httpTask(w.url))
			b.equal(sequence("X-CloudTasks-", w.after(time.Hour)), []sent{
				{"0", "0", absent, absent}, {"1", "0", "503", ""}, {"2", "1", "404", ""},
				{"3", "2", "429", ""}, {"4", "2", "500", ""}, {"5", "3", "302", ""},
			})
		}},
		{"9.4", "after a timeout", func(b *bench) {
			w := b.worker(func(attempt int, _ http.ResponseWriter, r *http.Request) {
				if attempt == 1 {
					<-r.Context().Done()
				}
			})
			b.task(b.queue(), httpTask(w.url, deadline(15*time.Second)))
			b.equal(sequence("X-CloudTasks-", w.after(time.Hour)), []sent{{"0", "0", absent, absent}, {"1", "0", "504", ""}})
		}},
		{"9.4", "on a retry the ETA is the retry's own schedule time", func(b *bench) {
			w := b.worker(statuses(500))
			b.task(b.queue(retry(fixed(2, 0, time.Minute))), httpTask(w.url))
			got := w.after(time.Hour)
			b.equal(len(got), 2)
			b.equal(eta(b, got[1], "X-CloudTasks-TaskETA").Sub(eta(b, got[0], "X-CloudTasks-TaskETA")), time.Minute)
		}},
		{"9.2", "headers of the task: its own arrive, the service's win", func(b *bench) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url, request(func(r *cloudtaskspb.HttpRequest) {
				r.Headers = map[string]string{
					"X-Mine": "1,2", "Content-Type": "text/plain", "User-Agent": "me", "Host": "other", "Content-Length": "99",
					"X-CloudTasks-TaskRetryCount": "77", "X-CloudTasks-QueueName": "lies",
				}
			})))
			got := w.one()
			b.equal(header(got, "X-Mine"), "1,2")
			b.equal(header(got, "Content-Type"), "text/plain")
			b.equal(header(got, "User-Agent"), "Google-Cloud-Tasks")
			b.equal(got.Host, w.host)
			b.equal(got.ContentLength, int64(0))
			b.equal(header(got, "X-CloudTasks-TaskRetryCount"), "0")
			b.equal(header(got, "X-CloudTasks-QueueName") == "lies", false)
		}},
		{"9.5", "a redirect is a failed attempt", func(b *bench) {
			w := b.worker(func(attempt int, rw http.ResponseWriter, _ *http.Request) {
				if attempt == 1 {
					rw.Header().Set("Location", "/elsewhere")
					rw.WriteHeader(http.StatusFound)
				}
			})
			b.task(b.queue(), httpTask(w.url+"here"))
			got := w.after(time.Hour)
			b.equal(len(got), 2)
			b.equal(got[1].URL.Path, "/here")
		}},
		{"9.6", "every method; a body with PUT and PATCH", func(b *bench) {
			w := b.worker(nil)
			queue := b.queue()
			for number, name := range cloudtaskspb.HttpMethod_name {
				method := cloudtaskspb.HttpMethod(number)
				if method == cloudtaskspb.HttpMethod_HTTP_METHOD_UNSPECIFIED {
					continue
				}
				before := len(w.after(0))
				body := ""
				if name == "POST" || name == "PUT" || name == "PATCH" {
					body = name
				}
				b.task(queue, httpTask(w.url, withBody(body), request(func(r *cloudtaskspb.HttpRequest) { r.HttpMethod = method })))
				got := w.after(time.Second)
				b.equal(len(got), before+1)
				b.equal(got[before].Method, name)
				b.equal(got[before].body, body)
			}
		}},
		{"9.7", "without a token the task's own Authorization passes", func(b *bench) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url, request(func(r *cloudtaskspb.HttpRequest) {
				r.Headers = map[string]string{"Authorization": "Basic mine"}
			})))
			b.equal(header(w.one(), "Authorization"), "Basic mine")
		}},
		{"9.7", "a token replaces the task's own Authorization", func(b *bench) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url, request(func(r *cloudtaskspb.HttpRequest) {
				r.Headers = map[string]string{"Authorization": "Basic mine"}
				r.AuthorizationHeader = oidc("a@p.iam.gserviceaccount.com", "")
			})))
			b.equal(strings.HasPrefix(header(w.one(), "Authorization"), "Bearer "), true)
		}},
	})
}
