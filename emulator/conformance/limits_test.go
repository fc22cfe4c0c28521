package conformance_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

func TestRateLimits(t *testing.T) {
	conform(t, []rule{
		{"6.2", "a burst of 10 at 1/s, then one a second", func(b *bench) {
			w := b.worker(nil)
			queue := b.pausedQueue(rate(1))
			for range 15 {
				b.task(queue, httpTask(w.url))
			}
			_, err := b.client.ResumeQueue(b.ctx, &cloudtaskspb.ResumeQueueRequest{Name: queue})
			b.ok(err)
			b.equal(len(w.after(0)), 10)
			got := w.after(time.Minute)
			b.equal(len(got), 15)
			for _, wait := range waits(got[9:]) {
				b.equal(wait, time.Second)
			}
		}},
		{"6.2", "retries take tokens like first attempts", func(b *bench) {
			w := b.worker(always(http.StatusNotFound))
			queue := b.queue(rate(1), retry(&cloudtaskspb.RetryConfig{MaxAttempts: 15, MinBackoff: seconds(0), MaxBackoff: seconds(0)}))
			b.task(queue, httpTask(w.url))
			got := w.after(time.Hour)
			b.equal(len(got), 15)
			if early := got[14].at.Sub(got[0].at); early < 4900*time.Millisecond {
				b.Fatalf("15 attempts in %v with a burst of 10 at 1/s", early)
			}
		}},
		{"6.2", "no more than max_concurrent_dispatches in flight", func(b *bench) {
			var now, most atomic.Int32
			w := b.worker(func(_ int, _ http.ResponseWriter, _ *http.Request) {
				most.Store(max(most.Load(), now.Add(1)))
				time.Sleep(time.Second)
				now.Add(-1)
			})
			queue := b.queue(concurrency(3))
			for range 9 {
				b.task(queue, httpTask(w.url))
			}
			b.equal(len(w.after(time.Minute)), 9)
			b.equal(most.Load(), int32(3))
		}},
		{"6.2", "RunTask ignores both limits", func(b *bench) {
			w := b.worker(func(_ int, _ http.ResponseWriter, _ *http.Request) { time.Sleep(time.Second) })
			queue := b.queue(concurrency(1))
			b.task(queue, httpTask(w.url))
			second := b.task(queue, httpTask(w.url)).GetName()
			b.equal(len(w.after(0)), 1)
			b.run(second)
			b.equal(len(w.after(0)), 2)
			w.after(time.Minute)
		}},
		{"3.3", "UpdateQueue reaches tasks that wait for a token", func(b *bench) {
			w := b.worker(nil)
			queue := b.pausedQueue(rate(0.001))
			for range 12 {
				b.task(queue, httpTask(w.url))
			}
			_, err := b.client.ResumeQueue(b.ctx, &cloudtaskspb.ResumeQueueRequest{Name: queue})
			b.ok(err)
			b.equal(len(w.after(time.Second)), 10)
			b.update(&cloudtaskspb.Queue{Name: queue, RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 500}}, "rate_limits.max_dispatches_per_second")
			b.equal(len(w.after(time.Second)), 12)
		}},
		{"8.4", "no task is dispatched before its schedule time", func(b *bench) {
			w := b.worker(nil)
			queue, at := b.queue(), time.Now().Add(3*time.Hour)
			b.task(queue, httpTask(w.url, schedule(at)))
			got := w.after(4 * time.Hour)
			b.equal(len(got), 1)
			b.equal(got[0].at.Sub(at), time.Duration(0))
		}},
	})
}
