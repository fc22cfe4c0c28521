package rows

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

// fieldTable is about the ranges and the precision of fields
// (docs/cloud-tasks.md#4).
var fieldTable = []Row{
	{"4", Documented, "max_attempts of -1", retryKept(&cloudtaskspb.RetryConfig{MaxAttempts: -1}, attemptsOf, int32(-1))},
	{"4", Documented, "max_attempts of 1", retryKept(&cloudtaskspb.RetryConfig{MaxAttempts: 1}, attemptsOf, int32(1))},
	{"4", Documented, "max_attempts of 1000", retryKept(&cloudtaskspb.RetryConfig{MaxAttempts: 1000}, attemptsOf, int32(1000))},
	{"4", Documented, "max_attempts unset is 100", retryKept(&cloudtaskspb.RetryConfig{}, attemptsOf, int32(100))},
	{"4", Documented, "max_doublings of 1", retryKept(&cloudtaskspb.RetryConfig{MaxDoublings: 1}, doublingsOf, int32(1))},
	{"4", Documented, "max_doublings of 32", retryKept(&cloudtaskspb.RetryConfig{MaxDoublings: 32}, doublingsOf, int32(32))},
	{"4", Documented, "max_doublings unset is 16", retryKept(&cloudtaskspb.RetryConfig{}, doublingsOf, int32(16))},
	{"4", Documented, "max_retry_duration is kept", retryKept(&cloudtaskspb.RetryConfig{MaxRetryDuration: seconds(90)}, limitOf, 90*time.Second)},
	{"4", Documented, "max_retry_duration is cut to the second", retryKept(&cloudtaskspb.RetryConfig{MaxRetryDuration: seconds(90.9)}, limitOf, 90*time.Second)},
	{"4", Documented, "max_retry_duration unset is unlimited", retryKept(&cloudtaskspb.RetryConfig{}, limitOf, time.Duration(0))},
	{"4", Documented, "min_backoff is kept", retryKept(&cloudtaskspb.RetryConfig{MinBackoff: seconds(5)}, minOf, 5*time.Second)},
	{"4", Documented, "min_backoff unset is 0.1 s", retryKept(&cloudtaskspb.RetryConfig{}, minOf, 100*time.Millisecond)},
	{"4", Documented, "max_backoff is kept", retryKept(&cloudtaskspb.RetryConfig{MaxBackoff: seconds(7200)}, maxOf, 2*time.Hour)},
	{"4", Documented, "max_backoff unset is 3600 s", retryKept(&cloudtaskspb.RetryConfig{}, maxOf, time.Hour)},
	{"4", Documented, "min_backoff equal to max_backoff", retryKept(fixed(3, 0, 10*time.Second), minOf, 10*time.Second)},
	{"4", Documented, "a sampling ratio of 0.5", keptQueue(sampling(0.5), samplingOf, 0.5)},
	{"4", Documented, "a sampling ratio of 1", keptQueue(sampling(1), samplingOf, 1.0)},
	{"4", Documented, "a sampling ratio over 1", refusedQueue(sampling(1.1))},
	{"4", Documented, "a sampling ratio under 0", refusedQueue(sampling(-0.1))},
	{"4", Documented, "purge_time is cut to the microsecond", func(b *fixture) {
		if at := b.purge(b.pausedQueue()).GetPurgeTime(); !at.IsValid() || at.GetNanos()%1000 != 0 {
			b.Fatalf("purge time %v", at)
		}
	}},
	{"4", Documented, "create_time is cut to the second", func(b *fixture) {
		if at := b.task(b.pausedQueue(), httpTask(example)).GetCreateTime(); !at.IsValid() || at.GetNanos() != 0 {
			b.Fatalf("create time %v", at)
		}
	}},
	{"4", Documented, "the method is POST by default", func(b *fixture) {
		b.equal(b.task(b.pausedQueue(), httpTask(example)).GetHttpRequest().GetHttpMethod(), cloudtaskspb.HttpMethod_POST)
	}},
	{"4", Documented, "the method of an App Engine task is POST by default", func(b *fixture) {
		b.equal(b.task(b.pausedQueue(), appEngineTask(nil)).GetAppEngineHttpRequest().GetHttpMethod(), cloudtaskspb.HttpMethod_POST)
	}},
	{"4", Documented, "a URL of 2083 characters", func(b *fixture) { b.task(b.pausedQueue(), httpTask(longURL(2083))) }},
	{"4", Documented, "a URL of 2084 characters", refusedTask(withURL(longURL(2084)))},
	{"4", Inferred, "the length of a URL is that of its encoded form", refusedTask(withURL(longURL(2083)[:2080] + "ü"))},
	{"4", Documented, "a relative URI of 2083 characters", func(b *fixture) {
		b.task(b.pausedQueue(), relative("/"+strings.Repeat("x", 2082)))
	}},
	{"4", Documented, "a relative URI of 2084 characters", refusedRelative("/" + strings.Repeat("x", 2083))},
	{"4", Documented, "a relative URI without its slash", refusedRelative("x")},
	{"4", Documented, "a relative URI with a space", refusedRelative("/a b")},
	{"4", Documented, "headers of 79 KB", func(b *fixture) {
		b.task(b.pausedQueue(), httpTask(example, withHeaders(map[string]string{"X-Long": strings.Repeat("x", 79_000)})))
	}},
	{"4", Documented, "headers of more than 80 KB", refusedTask(withHeaders(map[string]string{"X-Long": strings.Repeat("x", 82_000)}))},
	{"4", Documented, "headers of more than 80 KB in all", refusedTask(withHeaders(map[string]string{
		"X-1": strings.Repeat("x", 42_000), "X-2": strings.Repeat("x", 42_000),
	}))},
	{"4", Documented, "a CMEK key is kept, and shown", func(b *fixture) {
		b.local("it changes the project")
		const key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
		b.setKey(key)
		got, err := b.v2.GetCmekConfig(b.ctx, &cloudtaskspb.GetCmekConfigRequest{Name: b.parent + "/cmekConfig"})
		b.ok(err)
		b.equal(got.GetKmsKey(), key)
	}},
	{"4", Documented, "an empty CMEK key turns it off", func(b *fixture) {
		b.local("it changes the project")
		b.setKey("projects/p/locations/us-central1/keyRings/r/cryptoKeys/k")
		b.setKey("")
		got, err := b.v2.GetCmekConfig(b.ctx, &cloudtaskspb.GetCmekConfigRequest{Name: b.parent + "/cmekConfig"})
		b.ok(err)
		b.equal(got.GetKmsKey(), "")
	}},
	{"4", Documented, "a CMEK key beside a queue's HTTP target", func(b *fixture) {
		b.local("it changes the project")
		b.setKey("projects/p/locations/us-central1/keyRings/r/cryptoKeys/k")
		host := "example.com"
		if err := b.createQueue(&cloudtaskspb.Queue{Name: b.freshName(), HttpTarget: uri(&cloudtaskspb.UriOverride{Host: &host})}); err == nil {
			b.Fatalf("both are accepted")
		}
	}},
}

func fieldRows() []Row {
	rows := slices.Clone(fieldTable)
	for _, method := range methods {
		if method == cloudtaskspb.HttpMethod_POST || method == cloudtaskspb.HttpMethod_PUT {
			continue
		}
		rows = append(rows, Row{"4", Documented, "an App Engine task with a body and " + method.String(), fails(codes.InvalidArgument, "", func(b *fixture) error {
			return b.createTask(b.pausedQueue(), appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) { r.HttpMethod, r.Body = method, []byte("x") }))
		})})
	}
	for _, perSecond := range []float64{math.Inf(1), math.NaN()} {
		rows = append(rows, Row{"4", Inferred, fmt.Sprintf("a rate of %v", perSecond), refusedQueue(rate(perSecond))})
	}
	return rows
}

func retryKept(c *cloudtaskspb.RetryConfig, get func(*cloudtaskspb.RetryConfig) any, want any) func(*fixture) {
	return keptQueue(retry(c), func(q *cloudtaskspb.Queue) any { return get(q.GetRetryConfig()) }, want)
}

func attemptsOf(c *cloudtaskspb.RetryConfig) any  { return c.GetMaxAttempts() }
func doublingsOf(c *cloudtaskspb.RetryConfig) any { return c.GetMaxDoublings() }
func limitOf(c *cloudtaskspb.RetryConfig) any     { return duration(c.GetMaxRetryDuration()) }
func minOf(c *cloudtaskspb.RetryConfig) any       { return duration(c.GetMinBackoff()) }
func maxOf(c *cloudtaskspb.RetryConfig) any       { return duration(c.GetMaxBackoff()) }
func duration(d *durationpb.Duration) any         { return d.AsDuration() }

func sampling(ratio float64) func(*cloudtaskspb.Queue) {
	return func(q *cloudtaskspb.Queue) {
		q.StackdriverLoggingConfig = &cloudtaskspb.StackdriverLoggingConfig{SamplingRatio: ratio}
	}
}

func samplingOf(q *cloudtaskspb.Queue) any { return q.GetStackdriverLoggingConfig().GetSamplingRatio() }

// longURL is a URL of n characters.
func longURL(n int) string { return example + strings.Repeat("x", n-len(example)) }

func relative(uri string) *cloudtaskspb.Task {
	return appEngineTask(func(r *cloudtaskspb.AppEngineHttpRequest) { r.RelativeUri = uri })
}

func refusedRelative(uri string) func(*fixture) {
	return fails(codes.InvalidArgument, "", func(b *fixture) error { return b.createTask(b.pausedQueue(), relative(uri)) })
}

func (b *fixture) setKey(key string) {
	b.Helper()
	_, err := b.v2.UpdateCmekConfig(b.ctx, &cloudtaskspb.UpdateCmekConfigRequest{
		CmekConfig: &cloudtaskspb.CmekConfig{Name: b.parent + "/cmekConfig", KmsKey: key},
	})
	b.ok(err)
}
