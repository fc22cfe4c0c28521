package rows

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // for the row about compressed calls
	"google.golang.org/grpc/metadata"
)

// transportTable is about deadlines, compression, headers and other properties of calls (docs/cloud-tasks.md#1.2).
var transportTable = []Row{
	{"1.2", Observed, "a call whose deadline is 40 s away is refused", func(b *fixture) {
		got := b.fails(callWithin(b, 40*time.Second), codes.InvalidArgument, "")
		if !strings.HasPrefix(got.message, "The request deadline is ") ||
			!strings.HasSuffix(got.message, ". The deadline cannot be more than 30s in the future.") {
			b.Fatalf("message %q", got.message)
		}
	}},
	{"1.2", Observed, "a refused deadline is told in Pacific time, with fractions of a second", func(b *fixture) {
		message := outcomeOf(callWithin(b, 40*time.Second+123456*time.Microsecond)).message
		text := strings.TrimSuffix(strings.TrimPrefix(message, "The request deadline is "), ". The deadline cannot be more than 30s in the future.")
		at, err := time.Parse("2006-01-02T15:04:05.999999999-07:00", text)
		if err != nil || !strings.Contains(text, ".") {
			b.Fatalf("the deadline is told as %q", text)
		}
		if _, offset := at.Zone(); offset != -7*3600 && offset != -8*3600 {
			b.Fatalf("the deadline %q is not in Pacific time", text)
		}
	}},
	{"1.2", Observed, "a call whose deadline is 25 s away is accepted", func(b *fixture) { b.ok(callWithin(b, 25*time.Second)) }},
	{"1.2", Observed, "a gRPC call without x-goog-request-params is refused", func(b *fixture) {
		b.grpcOnly("the path has the resource")
		err := b.conn.Invoke(b.ctx, getQueueMethod, &cloudtaskspb.GetQueueRequest{Name: b.queue()}, new(cloudtaskspb.Queue))
		b.fails(err, codes.InvalidArgument, "")
	}},
	{"1.2", Documented, "a gRPC call may be compressed with gzip", func(b *fixture) {
		b.grpcOnly("its bodies are plain JSON")
		name := b.queue()
		q, err := b.v2.GetQueue(b.ctx, &cloudtaskspb.GetQueueRequest{Name: name})
		b.ok(err)
		task := &cloudtaskspb.CreateTaskRequest{Parent: q.GetName(), Task: httpTask(example, withBody(strings.Repeat("x", 10_000)), schedule(time.Now().Add(time.Hour)))}
		created := new(cloudtaskspb.Task)
		b.ok(b.conn.Invoke(routed(b.ctx, "parent", name), createTaskMethod, task, created, grpc.UseCompressor("gzip")))
		b.equal(len(b.fullTask(created.GetName()).GetHttpRequest().GetBody()), 10_000)
	}},
	{"1.2", Documented, "$alt=json;enum-encoding=int has enums as numbers", func(b *fixture) {
		b.plain()
		text := b.status(http.StatusOK, http.MethodGet, "/v2/"+b.queue()+"?$alt=json;enum-encoding=int", "")
		b.equal(field(b, text, "state"), float64(cloudtaskspb.Queue_RUNNING))
	}},
	{"1.2", Documented, "without it enums are names", func(b *fixture) {
		b.plain()
		b.equal(field(b, b.status(http.StatusOK, http.MethodGet, "/v2/"+b.queue(), ""), "state"), "RUNNING")
	}},
	{"1.2", Observed, "PATCH as POST with X-HTTP-Method-Override", func(b *fixture) {
		b.plain()
		name := b.queue()
		b.status(http.StatusOK, http.MethodPost, "/v2/"+name+"?updateMask=retryConfig.maxAttempts", `{"retryConfig":{"maxAttempts":7}}`, "X-HTTP-Method-Override", "PATCH")
		b.equal(b.getQueue(name).GetRetryConfig().GetMaxAttempts(), int32(7))
	}},
}

func transportRows() []Row {
	rows := slices.Clone(transportTable)
	for _, parameter := range []string{
		"$.xgafv=1", "$.xgafv=2", "access_token=t", "alt=json", "fields=name", "key=k", "oauth_token=t", "prettyPrint=false", "prettyPrint=true",
		"quotaUser=u", "uploadType=media", "upload_protocol=raw",
	} {
		rows = append(rows, Row{"1.2", Documented, "REST takes the parameter " + parameter, func(b *fixture) {
			b.plain()
			b.equal(field(b, b.status(http.StatusOK, http.MethodGet, "/v2/"+b.queue()+"?"+parameter, ""), "name") != nil, true)
		}})
	}
	return rows
}

const (
	getQueueMethod   = "/google.cloud.tasks.v2.CloudTasks/GetQueue"
	createTaskMethod = "/google.cloud.tasks.v2.CloudTasks/CreateTask"
)

// callWithin returns the error of a call with a deadline.
func callWithin(b *fixture, d time.Duration) error {
	b.grpcOnly("the client tells nobody its deadline")
	name := b.queue()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), d) // the row's own deadline is nearer
	defer cancel()
	return b.conn.Invoke(routed(ctx, "name", name), getQueueMethod, &cloudtaskspb.GetQueueRequest{Name: name}, new(cloudtaskspb.Queue))
}

// routed returns a context whose calls have a routing header.
func routed(ctx context.Context, field, name string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-goog-request-params", field+"="+url.QueryEscape(name))
}

// field returns the value at a dotted path of JSON.
func field(b *fixture, text, names string) any {
	b.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		b.Fatalf("not JSON: %s", brief(text))
	}
	for name := range strings.SplitSeq(names, ".") {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	return value
}
