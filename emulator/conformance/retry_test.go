package conformance_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/durationpb"
)

func seconds(s float64) *durationpb.Duration {
	return durationpb.New(time.Duration(s * float64(time.Second)))
}

// fixed is a retry policy with one pause.
func fixed(attempts int32, limit, pause time.Duration) *cloudtaskspb.RetryConfig {
	c := &cloudtaskspb.RetryConfig{MaxAttempts: attempts, MinBackoff: durationpb.New(pause), MaxBackoff: durationpb.New(pause)}
	if limit > 0 {
		c.MaxRetryDuration = durationpb.New(limit)
	}
	return c
}

// attempts is a row's test for how often a task is tried that always fails.
func attempts(config *cloudtaskspb.RetryConfig, want int) func(*bench) {
	return func(b *bench) {
		w := b.worker(always(http.StatusInternalServerError))
		name := b.task(b.queue(retry(config)), httpTask(w.url)).GetName()
		b.equal(len(w.after(32*24*time.Hour)), want)
		b.gone(name)
	}
}

// backoff is a row's test for the first waits of a policy.
func backoff(m, most float64, doublings int32, want ...float64) func(*bench) {
	return func(b *bench) {
		w := b.worker(always(http.StatusInternalServerError))
		config := &cloudtaskspb.RetryConfig{MinBackoff: seconds(m), MaxBackoff: seconds(most), MaxDoublings: doublings, MaxAttempts: int32(len(want)) + 1}
		b.task(b.queue(retry(config)), httpTask(w.url))
		var all []time.Duration
		for _, s := range want {
			all = append(all, seconds(s).AsDuration())
		}
		b.equal(waits(w.after(2*time.Hour)), all)
	}
}

func TestRetries(t *testing.T) {
	const hour = time.Hour
	rules := []rule{
		{"7.1", "N attempts, no duration: after N attempts", attempts(fixed(5, 0, time.Minute), 5)},
		{"7.1", "unlimited attempts, a duration: once it has passed", attempts(fixed(-1, hour, 10*time.Minute), 7)},
		{"7.1", "both: when both are reached, here the duration", attempts(fixed(3, hour, 10*time.Minute), 7)},
		{"7.1", "both: when both are reached, here the attempts", attempts(fixed(20, hour, 10*time.Minute), 20)},
		{"7.1", "neither: until the age limit", attempts(fixed(-1, 0, 24*hour), 31)},
		{"7.2", "the documented example: 10, 300, 3", backoff(10, 300, 3, 10, 20, 40, 80, 160, 240, 300, 300, 300)},
		{"7.2", "10, 100, 1", backoff(10, 100, 1, 10, 20, 40, 60, 80, 100, 100, 100, 100)},
		{"7.2", "2, 3600, 2", backoff(2, 3600, 2, 2, 4, 8, 16, 24, 32, 40, 48, 56)},
		{"7.2", "5, 5, 16", backoff(5, 5, 16, 5, 5, 5, 5, 5, 5, 5, 5, 5)},
		{"7.2", "the default: 0.1, 3600, 16", backoff(0.1, 3600, 16, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)},
		{"7.2", "a default queue gives up after 100 attempts and 305,353.5 s", func(b *bench) {
			w := b.worker(always(http.StatusInternalServerError))
			b.task(b.queue(), httpTask(w.url))
			got := w.after(5 * 24 * hour)
			b.equal(len(got), 100)
			b.equal(got[99].at.Sub(got[0].at), 305_353_500*time.Millisecond)
		}},
		{"7.2", "the wait begins when the attempt has ended", func(b *bench) {
			w := b.worker(func(_ int, rw http.ResponseWriter, _ *http.Request) {
				time.Sleep(30 * time.Second)
				rw.WriteHeader(http.StatusInternalServerError)
			})
			b.task(b.queue(retry(fixed(2, 0, time.Minute))), httpTask(w.url))
			b.equal(waits(w.after(hour)), []time.Duration{90 * time.Second})
		}},
		{"7.3", "a task's own retry_config overrides the queue's", func(b *bench) {
			w := b.worker(always(http.StatusInternalServerError))
			task := httpTask(w.url, func(t *cloudtaskspb.Task) { t.RetryConfig = fixed(3, 0, time.Minute) })
			b.task(b.queue(retry(fixed(9, 0, time.Second))), task)
			b.equal(waits(w.after(hour)), []time.Duration{time.Minute, time.Minute})
		}},
		{"3.3", "UpdateQueue reaches tasks that wait for a retry", func(b *bench) {
			w := b.worker(always(http.StatusInternalServerError))
			queue := b.queue(retry(fixed(9, 0, time.Minute)))
			b.task(queue, httpTask(w.url))
			w.after(time.Second)
			b.update(&cloudtaskspb.Queue{Name: queue, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 2}}, "retry_config.max_attempts")
			b.equal(len(w.after(hour)), 2)
		}},
		{"8.5", "no answer by the deadline is a failure", func(b *bench) {
			w := b.worker(func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			b.task(b.queue(retry(fixed(2, 0, time.Minute))), httpTask(w.url, deadline(15*time.Second)))
			b.equal(waits(w.after(hour)), []time.Duration{75 * time.Second})
		}},
	}
	for _, status := range []int{200, 201, 204, 205, 208, 226, 299} {
		rules = append(rules, rule{"7.4", fmt.Sprintf("%d is success", status), func(b *bench) {
			w := b.worker(always(status))
			name := b.task(b.queue(), httpTask(w.url)).GetName()
			b.equal(len(w.after(hour)), 1)
			b.gone(name)
		}})
	}
	for _, status := range []int{300, 301, 302, 304, 307, 400, 401, 404, 408, 410, 422, 429, 499, 500, 501, 502, 503, 504, 599} {
		rules = append(rules, rule{"7.4", fmt.Sprintf("%d is failure", status), func(b *bench) {
			w := b.worker(always(status))
			b.task(b.queue(retry(fixed(2, 0, time.Minute))), httpTask(w.url))
			b.equal(len(w.after(hour)), 2)
		}})
	}
	conform(t, rules)
}
