package rows

import (
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const example = "https://example.com/"

// httpTask is a task for url.
func httpTask(url string, edits ...func(*cloudtaskspb.Task)) *cloudtaskspb.Task {
	t := &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{Url: url}}}
	for _, edit := range edits {
		edit(t)
	}
	return t
}

// appEngineTask is a task for the project's App Engine app.
func appEngineTask(edit func(*cloudtaskspb.AppEngineHttpRequest)) *cloudtaskspb.Task {
	r := &cloudtaskspb.AppEngineHttpRequest{}
	if edit != nil {
		edit(r)
	}
	return &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_AppEngineHttpRequest{AppEngineHttpRequest: r}}
}

func request(edit func(*cloudtaskspb.HttpRequest)) func(*cloudtaskspb.Task) {
	return func(t *cloudtaskspb.Task) { edit(t.GetHttpRequest()) }
}

func withURL(u string) func(*cloudtaskspb.Task) {
	return request(func(r *cloudtaskspb.HttpRequest) { r.Url = u })
}

func withBody(body string) func(*cloudtaskspb.Task) {
	return request(func(r *cloudtaskspb.HttpRequest) { r.Body = []byte(body) })
}

func withHeaders(headers map[string]string) func(*cloudtaskspb.Task) {
	return request(func(r *cloudtaskspb.HttpRequest) { r.Headers = headers })
}

func withMethod(method cloudtaskspb.HttpMethod) func(*cloudtaskspb.Task) {
	return request(func(r *cloudtaskspb.HttpRequest) { r.HttpMethod = method })
}

func withID(queue, id string) func(*cloudtaskspb.Task) {
	return func(t *cloudtaskspb.Task) { t.Name = queue + "/tasks/" + id }
}

func deadline(d time.Duration) func(*cloudtaskspb.Task) {
	return func(t *cloudtaskspb.Task) { t.DispatchDeadline = durationpb.New(d) }
}

func schedule(at time.Time) func(*cloudtaskspb.Task) {
	return func(t *cloudtaskspb.Task) { t.ScheduleTime = timestamppb.New(at) }
}

func rate(perSecond float64) func(*cloudtaskspb.Queue) {
	return func(q *cloudtaskspb.Queue) {
		q.RateLimits = &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: perSecond}
	}
}

func concurrency(n int32) func(*cloudtaskspb.Queue) {
	return func(q *cloudtaskspb.Queue) {
		q.RateLimits = &cloudtaskspb.RateLimits{MaxConcurrentDispatches: n}
	}
}

func retry(c *cloudtaskspb.RetryConfig) func(*cloudtaskspb.Queue) {
	return func(q *cloudtaskspb.Queue) { q.RetryConfig = c }
}

func seconds(s float64) *durationpb.Duration {
	return durationpb.New(time.Duration(s * float64(time.Second)))
}

// fixed is a retry policy with one wait.
func fixed(attempts int32, limit, wait time.Duration) *cloudtaskspb.RetryConfig {
	c := &cloudtaskspb.RetryConfig{MaxAttempts: attempts, MinBackoff: durationpb.New(wait), MaxBackoff: durationpb.New(wait)}
	if limit > 0 {
		c.MaxRetryDuration = durationpb.New(limit)
	}
	return c
}

// quick is a retry policy with short waits, for rows that are not about backoff.
func quick(attempts int32) func(*cloudtaskspb.Queue) {
	return retry(fixed(attempts, 0, 20*time.Millisecond))
}

// never is a retry policy whose first retry is an hour away.
func never() func(*cloudtaskspb.Queue) { return retry(fixed(100, 0, time.Hour)) }

func named(id string) func(*cloudtaskspb.Queue) {
	return func(q *cloudtaskspb.Queue) { q.Name = q.GetName()[:strings.LastIndexByte(q.GetName(), '/')+1] + id }
}

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

// lastID is the last segment of a name.
func lastID(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// defaultQueue is a queue that was created without settings.
func defaultQueue(name string) *cloudtaskspb.Queue {
	return &cloudtaskspb.Queue{
		Name:       name,
		State:      cloudtaskspb.Queue_RUNNING,
		RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 500, MaxBurstSize: 100, MaxConcurrentDispatches: 1000},
		RetryConfig: &cloudtaskspb.RetryConfig{
			MaxAttempts: 100, MinBackoff: durationpb.New(100 * time.Millisecond), MaxBackoff: durationpb.New(time.Hour), MaxDoublings: 16,
		},
	}
}
