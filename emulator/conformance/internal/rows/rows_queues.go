package rows

import (
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
)

func rateOf(q *cloudtaskspb.Queue) any  { return q.GetRateLimits().GetMaxDispatchesPerSecond() }
func burstOf(q *cloudtaskspb.Queue) any { return q.GetRateLimits().GetMaxBurstSize() }
func concurrencyOf(q *cloudtaskspb.Queue) any {
	return q.GetRateLimits().GetMaxConcurrentDispatches()
}

func unset(*cloudtaskspb.Queue) {}

// queueTable is about settings and states of queues (docs/cloud-tasks.md#6).
var queueTable = []Row{
	{"6.1", Documented, "500 dispatches a second by default", keptQueue(unset, rateOf, 500.0)},
	{"6.1", Documented, "a burst of 100 by default", keptQueue(unset, burstOf, int32(100))},
	{"6.1", Documented, "1000 concurrent dispatches by default", keptQueue(unset, concurrencyOf, int32(1000))},
	{"6.1", Documented, "RUNNING when created", keptQueue(unset, func(q *cloudtaskspb.Queue) any { return q.GetState() }, cloudtaskspb.Queue_RUNNING)},
	{"6.1", Documented, "nothing else is set by default", func(b *fixture) {
		name := b.queue()
		b.protoEqual(b.getQueue(name), defaultQueue(name))
	}},
	{"6.1", Documented, "CreateQueue returns what GetQueue does", func(b *fixture) {
		name := b.freshName()
		q, err := b.v2.CreateQueue(b.ctx, &cloudtaskspb.CreateQueueRequest{Parent: b.parent, Queue: &cloudtaskspb.Queue{Name: name}})
		b.ok(err)
		b.protoEqual(q, b.getQueue(name))
	}},
	{"6.2", Documented, "a rate of 500", keptQueue(rate(500), rateOf, 500.0)},
	{"6.2", Documented, "a rate of 0.5", keptQueue(rate(0.5), rateOf, 0.5)},
	{"6.2", Documented, "a rate of 0.001", keptQueue(rate(0.001), rateOf, 0.001)},
	{"6.2", Inferred, "a rate of 0 is the default", keptQueue(rate(0), rateOf, 500.0)},
	{"6.2", Documented, "concurrency of 1", keptQueue(concurrency(1), concurrencyOf, int32(1))},
	{"6.2", Documented, "concurrency of 5000", keptQueue(concurrency(5000), concurrencyOf, int32(5000))},
	{"6.2", Inferred, "concurrency of 0 is the default", keptQueue(concurrency(0), concurrencyOf, int32(1000))},
	{"6.2", Observed, "fields of rate limits that are left out are filled in one by one", keptQueue(rate(5), concurrencyOf, int32(1000))},
	{"6.2", Observed, "fields of retries that are left out are filled in one by one", retryKept(&cloudtaskspb.RetryConfig{MaxAttempts: 5}, doublingsOf, int32(16))},
	{"6.2", Observed, "max_burst_size that is sent is ignored", keptQueue(func(q *cloudtaskspb.Queue) { q.RateLimits = &cloudtaskspb.RateLimits{MaxBurstSize: 77} }, burstOf, int32(100))},
	{"6.2", Observed, "max_burst_size below 0 is ignored", keptQueue(func(q *cloudtaskspb.Queue) { q.RateLimits = &cloudtaskspb.RateLimits{MaxBurstSize: -1} }, burstOf, int32(100))},
	{"6.4", Documented, "PauseQueue returns the queue, PAUSED", func(b *fixture) {
		name := b.queue()
		q, err := b.v2.PauseQueue(b.ctx, &cloudtaskspb.PauseQueueRequest{Name: name})
		b.ok(err)
		b.equal(q.GetState(), cloudtaskspb.Queue_PAUSED)
		b.equal(b.getQueue(name).GetState(), cloudtaskspb.Queue_PAUSED)
	}},
	{"6.4", Documented, "ResumeQueue returns the queue, RUNNING", func(b *fixture) {
		name := b.pausedQueue()
		q, err := b.v2.ResumeQueue(b.ctx, &cloudtaskspb.ResumeQueueRequest{Name: name})
		b.ok(err)
		b.equal(q.GetState(), cloudtaskspb.Queue_RUNNING)
		b.equal(b.getQueue(name).GetState(), cloudtaskspb.Queue_RUNNING)
	}},
	{"6.4", Documented, "a paused queue takes tasks", func(b *fixture) { b.task(b.pausedQueue(), httpTask(example)) }},
	{"6.4", Documented, "a paused queue dispatches nothing", func(b *fixture) {
		w := b.worker(nil)
		b.task(b.pausedQueue(), httpTask(w.url))
		b.equal(len(w.idle()), 0)
	}},
	{"6.4", Documented, "a resumed queue dispatches what waited", func(b *fixture) {
		w := b.worker(nil)
		queue := b.pausedQueue()
		for range 3 {
			b.task(queue, httpTask(w.url))
		}
		b.resume(queue)
		w.only(3)
	}},
	{"6.4", Inferred, "retries that are due during a pause wait", func(b *fixture) {
		hold := make(chan struct{})
		w := b.worker(func(nth int, rw http.ResponseWriter, _ *http.Request) {
			if nth == 1 {
				<-hold
				rw.WriteHeader(http.StatusInternalServerError)
			}
		})
		queue := b.queue(quick(5))
		b.task(queue, httpTask(w.url))
		w.take(1)
		_, err := b.v2.PauseQueue(b.ctx, &cloudtaskspb.PauseQueueRequest{Name: queue})
		close(hold)
		b.ok(err)
		b.equal(len(w.idle()), 1)
		b.resume(queue)
		w.take(2)
	}},
	{"6.5", Inferred, "the name of a purged task stays reserved", fails(codes.AlreadyExists, "", func(b *fixture) error {
		b.local("a purge takes up to a minute")
		queue := b.pausedQueue()
		b.task(queue, httpTask(example, withID(queue, "t")))
		b.purge(queue)
		return b.createTask(queue, httpTask(example, withID(queue, "t")))
	})},
	{"6.5", Documented, "tasks created before the purge are gone", func(b *fixture) {
		b.local("a purge takes up to a minute")
		queue := b.pausedQueue()
		tasks := []*cloudtaskspb.Task{b.task(queue, httpTask(example)), b.task(queue, httpTask(example, schedule(time.Now().Add(time.Hour))))}
		b.purge(queue)
		for _, task := range tasks {
			b.gone(task.GetName())
		}
	}},
	{"6.5", Documented, "purge_time is that of the purge", func(b *fixture) {
		before := time.Now()
		at := b.purge(b.pausedQueue()).GetPurgeTime().AsTime()
		if at.Before(before.Add(-5*time.Second)) || at.After(time.Now().Add(5*time.Second)) {
			b.Fatalf("purge time %v, at %v", at, before)
		}
	}},
	{"6.6", Observed, "CreateQueue under the name of a deleted queue: FAILED_PRECONDITION", fails(codes.FailedPrecondition, "", recreated)},
}

func queueRows() []Row {
	rows := slices.Clone(queueTable)
	for _, perSecond := range []float64{0.25, 1} {
		rows = append(rows, Row{"6.2", Observed, fmt.Sprintf("a rate of %v has a burst of 10", perSecond), keptQueue(rate(perSecond), burstOf, int32(10))})
	}
	return rows
}

func recreated(b *fixture) error {
	name := b.queue()
	b.deleteQueue(name)
	return b.createQueue(&cloudtaskspb.Queue{Name: name})
}

// limitRows are about the effect of rate limits (docs/cloud-tasks.md#6.2).
var limitRows = []Row{
	{"6.2", Inferred, "a rate of 0.01 dispatches a burst and no more", func(b *fixture) {
		w := b.worker(nil)
		queue := b.pausedQueue(rate(0.01))
		for range 12 {
			b.task(queue, httpTask(w.url))
		}
		burst := int(b.getQueue(queue).GetRateLimits().GetMaxBurstSize())
		b.resume(queue)
		if got := len(w.only(min(burst, 12))); got > burst {
			b.Fatalf("%d dispatches, with a burst of %d", got, burst)
		}
	}},
	{"6.2", Documented, "after the burst, dispatches come at the rate", func(b *fixture) {
		w := b.worker(nil)
		queue := b.pausedQueue(rate(4))
		burst := int(b.getQueue(queue).GetRateLimits().GetMaxBurstSize())
		for range burst + 4 {
			b.task(queue, httpTask(w.url))
		}
		resumed := time.Now()
		b.resume(queue)
		if took := w.take(burst + 4)[burst+3].at.Sub(resumed); took < 900*time.Millisecond {
			b.Fatalf("%d dispatches in %v, with a burst of %d at 4 a second", burst+4, took, burst)
		}
	}},
	{"6.2", Documented, "retries take tokens as first dispatches do", func(b *fixture) {
		w := b.worker(always(http.StatusNotFound))
		queue := b.queue(rate(4), quick(14))
		created := time.Now()
		b.task(queue, httpTask(w.url))
		if took := w.take(14)[13].at.Sub(created); took < 900*time.Millisecond {
			b.Fatalf("14 dispatches in %v with a burst of 10 at 4 a second", took)
		}
	}},
	{"6.2", Documented, "no more than max_concurrent_dispatches are in flight", func(b *fixture) {
		var now, most atomic.Int32
		w := b.worker(func(_ int, _ http.ResponseWriter, _ *http.Request) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(30 * time.Millisecond)
			now.Add(-1)
		})
		queue := b.queue(concurrency(2))
		for range 6 {
			b.task(queue, httpTask(w.url))
		}
		w.take(6)
		if most.Load() > 2 {
			b.Fatalf("%d dispatches in flight, want 2 at most", most.Load())
		}
	}},
	{"6.2", Documented, "as many as max_concurrent_dispatches are in flight", func(b *fixture) {
		hold := make(chan struct{})
		defer close(hold)
		w := b.worker(held(hold))
		queue := b.queue(concurrency(3))
		for range 5 {
			b.task(queue, httpTask(w.url))
		}
		w.only(3)
	}},
	{"6.2", Documented, "RunTask ignores the concurrency", func(b *fixture) {
		hold := make(chan struct{})
		defer close(hold)
		w := b.worker(held(hold))
		queue := b.queue(concurrency(1))
		b.task(queue, httpTask(w.url))
		w.take(1)
		b.run(b.task(queue, httpTask(w.url)).GetName())
		w.take(2)
	}},
	{"6.2", Documented, "RunTask ignores the rate", func(b *fixture) {
		w := b.worker(nil)
		queue := b.queue(rate(0.001))
		for range 10 {
			b.task(queue, httpTask(w.url))
		}
		w.take(10)
		b.run(b.task(queue, httpTask(w.url)).GetName())
		w.take(11)
	}},
}
