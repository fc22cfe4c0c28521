package conformance_test

import (
	"net/http"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

func target(t *cloudtaskspb.HttpTarget) func(*cloudtaskspb.Queue) {
	return func(q *cloudtaskspb.Queue) { q.HttpTarget = t }
}

func uri(o *cloudtaskspb.UriOverride) *cloudtaskspb.HttpTarget {
	return &cloudtaskspb.HttpTarget{UriOverride: o}
}

func path(p string) *cloudtaskspb.PathOverride { return &cloudtaskspb.PathOverride{Path: p} }

func params(q string) *cloudtaskspb.QueryOverride {
	return &cloudtaskspb.QueryOverride{QueryParams: q}
}

// TestQueueOverrides: what a queue's HTTP target does to its tasks. Every
// task is for http://HOST/path?x=1 of a worker.
func TestQueueOverrides(t *testing.T) {
	const (
		always  = cloudtaskspb.UriOverride_ALWAYS
		lacking = cloudtaskspb.UriOverride_IF_NOT_EXISTS
	)
	// overridden is a row's test for the URI that a dispatch asks for.
	overridden := func(o *cloudtaskspb.UriOverride, url, want string) func(*bench) {
		return func(b *bench) {
			w := b.worker(nil)
			b.task(b.queue(target(uri(o))), httpTask("http://"+w.host+url))
			b.equal(w.one().URL.RequestURI(), want)
		}
	}
	conform(t, []rule{
		{"9.8", "path: replaced", overridden(&cloudtaskspb.UriOverride{PathOverride: path("/new")}, "/path?x=1", "/new?x=1")},
		{"9.8", "path: an empty override clears it", overridden(&cloudtaskspb.UriOverride{PathOverride: path("")}, "/path?x=1", "/?x=1")},
		{"9.8", "query: replaced", overridden(&cloudtaskspb.UriOverride{QueryOverride: params("y=2")}, "/path?x=1", "/path?y=2")},
		{"9.8", "query: an empty override clears it", overridden(&cloudtaskspb.UriOverride{QueryOverride: params("")}, "/path?x=1", "/path")},
		{"9.8", "ALWAYS is what unset means", overridden(
			&cloudtaskspb.UriOverride{PathOverride: path("/new"), UriOverrideEnforceMode: always}, "/path?x=1", "/new?x=1")},
		{"9.8", "IF_NOT_EXISTS keeps what the task has", overridden(
			&cloudtaskspb.UriOverride{PathOverride: path("/new"), QueryOverride: params("y=2"), UriOverrideEnforceMode: lacking}, "/path?x=1", "/path?x=1")},
		{"9.8", "IF_NOT_EXISTS gives what the task lacks", overridden(
			&cloudtaskspb.UriOverride{QueryOverride: params("y=2"), UriOverrideEnforceMode: lacking}, "/path", "/path?y=2")},
		{"9.8", "host and port", func(b *bench) {
			w, other := b.worker(nil), b.worker(nil)
			port := int64(8080)
			b.mu.Lock()
			b.workers[other.host+":8080"] = other
			b.mu.Unlock()
			b.task(b.queue(target(uri(&cloudtaskspb.UriOverride{Host: &other.host, Port: &port}))), httpTask(w.url))
			b.equal(other.one().Host, other.host+":8080")
			b.equal(len(w.after(0)), 0)
		}},
		{"9.8", "method", func(b *bench) {
			w := b.worker(nil)
			b.task(b.queue(target(&cloudtaskspb.HttpTarget{HttpMethod: cloudtaskspb.HttpMethod_PUT})), httpTask(w.url, withBody("hi")))
			got := w.one()
			b.equal(got.Method, http.MethodPut)
			b.equal(got.body, "hi")
		}},
		{"9.6", "method GET: the task's body is ignored", func(b *bench) {
			w := b.worker(nil)
			b.task(b.queue(target(&cloudtaskspb.HttpTarget{HttpMethod: cloudtaskspb.HttpMethod_GET})), httpTask(w.url, withBody("hi")))
			got := w.one()
			b.equal(got.Method, http.MethodGet)
			b.equal(got.body, "")
		}},
		{"9.8", "headers: replace the task's, else are added", func(b *bench) {
			w := b.worker(nil)
			override := func(k, v string) *cloudtaskspb.HttpTarget_HeaderOverride {
				return &cloudtaskspb.HttpTarget_HeaderOverride{Header: &cloudtaskspb.HttpTarget_Header{Key: k, Value: v}}
			}
			queue := b.queue(target(&cloudtaskspb.HttpTarget{
				HeaderOverrides: []*cloudtaskspb.HttpTarget_HeaderOverride{override("X-A", "queue"), override("X-B", "queue")},
			}))
			b.task(queue, httpTask(w.url, request(func(r *cloudtaskspb.HttpRequest) {
				r.Headers = map[string]string{"X-A": "task", "X-C": "task"}
			})))
			got := w.one()
			b.equal([]string{header(got, "X-A"), header(got, "X-B"), header(got, "X-C")}, []string{"queue", "queue", "task"})
		}},
		{"9.8", "token: beats the task's and its Authorization", func(b *bench) {
			w := b.worker(nil)
			queue := b.queue(target(&cloudtaskspb.HttpTarget{AuthorizationHeader: &cloudtaskspb.HttpTarget_OidcToken{
				OidcToken: &cloudtaskspb.OidcToken{ServiceAccountEmail: "queue@p.iam.gserviceaccount.com", Audience: "queue"},
			}}))
			b.task(queue, httpTask(w.url, request(func(r *cloudtaskspb.HttpRequest) {
				r.Headers = map[string]string{"Authorization": "Basic mine"}
				r.AuthorizationHeader = oidc("task@p.iam.gserviceaccount.com", "task")
			})))
			claims := b.claims(w.one())
			b.equal(claims["aud"], any("queue"))
			b.equal(claims["email"], any("queue@p.iam.gserviceaccount.com"))
		}},
		{"9.8", "applies to tasks already in the queue", func(b *bench) {
			w := b.worker(nil)
			queue := b.pausedQueue()
			b.task(queue, httpTask(w.url+"path"))
			b.update(&cloudtaskspb.Queue{Name: queue, HttpTarget: uri(&cloudtaskspb.UriOverride{PathOverride: path("/new")})}, "http_target")
			_, err := b.client.ResumeQueue(b.ctx, &cloudtaskspb.ResumeQueueRequest{Name: queue})
			b.ok(err)
			b.equal(w.one().URL.Path, "/new")
		}},
		{"3.4", "BufferTask: the body becomes the task's", func(b *bench) {
			w := b.worker(nil)
			port := int64(80)
			scheme := cloudtaskspb.UriOverride_HTTP
			queue := b.queue(target(uri(&cloudtaskspb.UriOverride{Scheme: &scheme, Host: &w.host, Port: &port, PathOverride: path("/buffered")})))
			b.mu.Lock()
			b.workers[w.host+":80"] = w
			b.mu.Unlock()
			for i, suffix := range []string{"/tasks/mine:buffer", "/tasks:buffer", "/tasks/:buffer"} {
				status, body := b.http(http.MethodPut, "/v2/"+queue+suffix, "raw body")
				b.equal(status, http.StatusOK)
				b.equal(body["task"] != nil, true)
				got := w.after(time.Minute)
				b.equal(len(got), i+1)
				b.equal(got[i].body, "raw body")
				b.equal(got[i].URL.Path, "/buffered")
				b.equal(header(got[i], "X-CloudTasks-TaskName") == "mine", i == 0)
			}
		}},
		{"3.4", "BufferTask: a queue without routing", func(b *bench) {
			status, _ := b.http(http.MethodPost, "/v2/"+b.queue()+"/tasks:buffer", "x")
			b.equal(status, http.StatusBadRequest)
		}},
		{"3.4", "BufferTask: a missing queue", func(b *bench) {
			status, _ := b.http(http.MethodPost, "/v2/"+b.freshName()+"/tasks:buffer", "x")
			b.equal(status, http.StatusNotFound)
		}},
	})
}
