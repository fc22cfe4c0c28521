package rows

import (
	"cmp"
	"slices"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

const (
	enforced = cloudtaskspb.UriOverride_ALWAYS
	lacking  = cloudtaskspb.UriOverride_IF_NOT_EXISTS
	nowhere  = "nowhere.invalid"
)

// overridden is a row's test for the URI that a task for url arrives with.
func overridden(o *cloudtaskspb.UriOverride, url, want string) func(*fixture) {
	return func(b *fixture) {
		w := b.worker(nil)
		b.task(b.queue(target(uri(o))), httpTask("http://"+w.host+url))
		b.equal(w.one().RequestURI, want)
	}
}

// elsewhere is a row's test for a task with an unused host, which the queue overrides.
func elsewhere(url string, override func(o *cloudtaskspb.UriOverride, host string, port int64)) func(*fixture) {
	return func(b *fixture) {
		w := b.worker(nil)
		host, port := w.address(b)
		o := &cloudtaskspb.UriOverride{}
		override(o, host, port)
		b.task(b.queue(target(uri(o))), httpTask(cmp.Or(url, w.url)))
		b.equal(w.one().Host, w.host)
	}
}

// headersOf is a queue's target with header overrides.
func headersOf(pairs ...string) *cloudtaskspb.HttpTarget {
	t := &cloudtaskspb.HttpTarget{}
	for i := 0; i+1 < len(pairs); i += 2 {
		t.HeaderOverrides = append(t.HeaderOverrides, &cloudtaskspb.HttpTarget_HeaderOverride{
			Header: &cloudtaskspb.HttpTarget_Header{Key: pairs[i], Value: pairs[i+1]},
		})
	}
	return t
}

// withOverride is a row's test for a header of a dispatch from a queue with header
// overrides.
func withOverride(t *cloudtaskspb.HttpTarget, own map[string]string, name, want string) func(*fixture) {
	return func(b *fixture) {
		w := b.worker(nil)
		b.task(b.queue(target(t)), httpTask(w.url, withHeaders(own)))
		b.equal(header(w.one(), name), want)
	}
}

// overrideTable is about the HTTP target of a queue (docs/cloud-tasks.md#9.8).
var overrideTable = []Row{
	{"9.8", Documented, "scheme: replaced", elsewhere("", func(o *cloudtaskspb.UriOverride, _ string, _ int64) { o.Scheme = cloudtaskspb.UriOverride_HTTP.Enum() })},
	{"9.8", Documented, "scheme: HTTPS is kept", keptQueue(target(uri(&cloudtaskspb.UriOverride{Scheme: cloudtaskspb.UriOverride_HTTPS.Enum()})),
		func(q *cloudtaskspb.Queue) any { return q.GetHttpTarget().GetUriOverride().GetScheme() }, cloudtaskspb.UriOverride_HTTPS)},
	{"9.8", Documented, "host and port: replaced", elsewhere("http://nowhere.invalid:1/", func(o *cloudtaskspb.UriOverride, host string, port int64) {
		o.Host, o.Port = &host, &port
	})},
	{"9.8", Documented, "port: replaced", func(b *fixture) {
		w := b.worker(nil)
		host, port := w.address(b)
		b.task(b.queue(portOf(port)), httpTask("http://"+host+":1/"))
		b.equal(w.one().Host, w.host)
	}},
	{"9.8", Documented, "scheme, host and port: all replaced", elsewhere("https://nowhere.invalid/", func(o *cloudtaskspb.UriOverride, host string, port int64) {
		o.Scheme, o.Host, o.Port = cloudtaskspb.UriOverride_HTTP.Enum(), &host, &port
	})},
	{"9.8", Documented, "port: 0 clears it", keptQueue(target(uri(&cloudtaskspb.UriOverride{Host: new(nowhere), Port: new(int64(0))})),
		func(q *cloudtaskspb.Queue) any { return q.GetHttpTarget().GetUriOverride().GetHost() }, nowhere)},
	{"9.8", Documented, "path: replaced", overridden(&cloudtaskspb.UriOverride{PathOverride: path("/new")}, "/path?x=1", "/new?x=1")},
	{"9.8", Documented, "path: an empty override clears it", overridden(&cloudtaskspb.UriOverride{PathOverride: path("")}, "/path?x=1", "/?x=1")},
	{"9.8", Inferred, "path: a raw space is encoded", overridden(&cloudtaskspb.UriOverride{PathOverride: path("/a b")}, "/", "/a%20b")},
	{"9.8", Inferred, "path: a raw character is encoded", overridden(&cloudtaskspb.UriOverride{PathOverride: path("/ü")}, "/", "/%C3%BC")},
	{"9.8", Inferred, "path: an escape stays as it is", overridden(&cloudtaskspb.UriOverride{PathOverride: path("/a%2Fb")}, "/", "/a%2Fb")},
	{"9.8", Documented, "query: replaced", overridden(&cloudtaskspb.UriOverride{QueryOverride: params("y=2")}, "/path?x=1", "/path?y=2")},
	{"9.8", Documented, "query: an empty override clears it", overridden(&cloudtaskspb.UriOverride{QueryOverride: params("")}, "/path?x=1", "/path")},
	{"9.8", Inferred, "query: a raw space is encoded", overridden(&cloudtaskspb.UriOverride{QueryOverride: params("q=two words")}, "/", "/?q=two%20words")},
	{"9.8", Inferred, "query: an escape stays as it is", overridden(&cloudtaskspb.UriOverride{QueryOverride: params("q=%26")}, "/", "/?q=%26")},
	{"9.8", Documented, "path and query: both replaced", overridden(&cloudtaskspb.UriOverride{PathOverride: path("/n"), QueryOverride: params("y=2")}, "/path?x=1", "/n?y=2")},
	{"9.8", Documented, "ALWAYS replaces", overridden(&cloudtaskspb.UriOverride{PathOverride: path("/new"), UriOverrideEnforceMode: enforced}, "/path", "/new")},
	{"9.8", Documented, "IF_NOT_EXISTS keeps the task's path", overridden(&cloudtaskspb.UriOverride{PathOverride: path("/new"), UriOverrideEnforceMode: lacking}, "/path", "/path")},
	{"9.8", Documented, "IF_NOT_EXISTS keeps the task's query", overridden(&cloudtaskspb.UriOverride{QueryOverride: params("y=2"), UriOverrideEnforceMode: lacking}, "/path?x=1", "/path?x=1")},
	{"9.8", Documented, "IF_NOT_EXISTS gives the query that the task lacks", overridden(&cloudtaskspb.UriOverride{QueryOverride: params("y=2"), UriOverrideEnforceMode: lacking}, "/path", "/path?y=2")},
	{"9.8", Documented, "IF_NOT_EXISTS keeps the task's host", elsewhere("", func(o *cloudtaskspb.UriOverride, _ string, _ int64) {
		o.Host, o.UriOverrideEnforceMode = new(nowhere), lacking
	})},
	{"9.8", Documented, "host: an empty one", refusedQueue(target(uri(&cloudtaskspb.UriOverride{Host: new(string)})))},
	{"9.8", Inferred, "port: less than 0", refusedQueue(portOf(-1))},
	{"9.8", Inferred, "port: more than 65535", refusedQueue(portOf(65536))},
	{"9.8", Documented, "headers: replace the task's", withOverride(headersOf("X-A", "queue"), map[string]string{"X-A": "task"}, "X-A", "queue")},
	{"9.8", Documented, "headers: replace the task's in any case", withOverride(headersOf("x-a", "queue"), map[string]string{"X-A": "task"}, "X-A", "queue")},
	{"9.8", Documented, "headers: are added", withOverride(headersOf("X-B", "queue"), map[string]string{"X-A": "task"}, "X-B", "queue")},
	{"9.8", Documented, "headers: the task's others stay", withOverride(headersOf("X-B", "queue"), map[string]string{"X-A": "task"}, "X-A", "task")},
	{"9.8", Documented, "headers: User-Agent is the service's", withOverride(headersOf("User-Agent", "queue"), nil, "User-Agent", userAgent)},
	{"9.8", Documented, "a new override reaches tasks that wait", func(b *fixture) {
		w := b.worker(nil)
		queue := b.pausedQueue()
		b.task(queue, httpTask(w.url+"path"))
		b.update(&cloudtaskspb.Queue{Name: queue, HttpTarget: uri(&cloudtaskspb.UriOverride{PathOverride: path("/new")})}, "http_target")
		b.resume(queue)
		b.equal(w.one().URL.Path, "/new")
	}},
	{"9.8", Documented, "an update by the mask http_target without a value removes it", func(b *fixture) {
		name := b.queue(target(&cloudtaskspb.HttpTarget{HttpMethod: cloudtaskspb.HttpMethod_PUT}))
		b.protoEqual(b.update(&cloudtaskspb.Queue{Name: name}, "http_target"), defaultQueue(name))
	}},
	{"9.6", Documented, "where the queue overrides the method to GET, the body is ignored", func(b *fixture) {
		w := b.worker(nil)
		b.task(b.queue(target(&cloudtaskspb.HttpTarget{HttpMethod: cloudtaskspb.HttpMethod_GET})), httpTask(w.url, withBody("hi")))
		b.equal(w.one().body, "")
	}},
}

func overrideRows() []Row {
	rows := slices.Clone(overrideTable)
	for _, method := range methods {
		rows = append(rows, Row{"9.8", Documented, "method: " + method.String(), func(b *fixture) {
			w := b.worker(nil)
			b.task(b.queue(target(&cloudtaskspb.HttpTarget{HttpMethod: method})), httpTask(w.url))
			b.equal(w.one().Method, method.String())
		}})
	}
	return rows
}

func portOf(port int64) func(*cloudtaskspb.Queue) {
	return target(uri(&cloudtaskspb.UriOverride{Port: &port}))
}
