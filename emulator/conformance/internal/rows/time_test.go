package rows

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/idtoken"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestRateLimits(t *testing.T) {
	conform(t, []rule{
		{"6.2", "a burst of 10 at 1/s, then one a second", func(b *fixture) {
			w := b.worker(nil)
			queue := b.pausedQueue(rate(1))
			for range 15 {
				b.task(queue, httpTask(w.url))
			}
			_, err := b.v2.ResumeQueue(b.ctx, &cloudtaskspb.ResumeQueueRequest{Name: queue})
			b.ok(err)
			b.equal(len(w.after(0)), 10)
			got := w.after(time.Minute)
			b.equal(len(got), 15)
			for _, wait := range between(got[9:]) {
				b.equal(wait, time.Second)
			}
		}},
		{"6.2", "retries take tokens like first dispatches", func(b *fixture) {
			w := b.worker(always(http.StatusNotFound))
			queue := b.queue(rate(1), retry(&cloudtaskspb.RetryConfig{MaxAttempts: 15, MinBackoff: seconds(0), MaxBackoff: seconds(0)}))
			b.task(queue, httpTask(w.url))
			got := w.after(time.Hour)
			b.equal(len(got), 15)
			if early := got[14].at.Sub(got[0].at); early < 4900*time.Millisecond {
				b.Fatalf("15 dispatches in %v with a burst of 10 at 1/s", early)
			}
		}},
		{"6.2", "no more than max_concurrent_dispatches in flight", func(b *fixture) {
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
		{"6.2", "RunTask ignores both limits", func(b *fixture) {
			w := b.worker(func(_ int, _ http.ResponseWriter, _ *http.Request) { time.Sleep(time.Second) })
			queue := b.queue(concurrency(1))
			b.task(queue, httpTask(w.url))
			second := b.task(queue, httpTask(w.url)).GetName()
			b.equal(len(w.after(0)), 1)
			b.run(second)
			b.equal(len(w.after(0)), 2)
			w.after(time.Minute)
		}},
		{"3.3", "UpdateQueue reaches tasks that wait for a token", func(b *fixture) {
			w := b.worker(nil)
			queue := b.pausedQueue(rate(0.001))
			for range 12 {
				b.task(queue, httpTask(w.url))
			}
			_, err := b.v2.ResumeQueue(b.ctx, &cloudtaskspb.ResumeQueueRequest{Name: queue})
			b.ok(err)
			b.equal(len(w.after(time.Second)), 10)
			b.update(&cloudtaskspb.Queue{Name: queue, RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 500}}, "rate_limits.max_dispatches_per_second")
			b.equal(len(w.after(time.Second)), 12)
		}},
		{"8.4", "no task is dispatched before its schedule time", func(b *fixture) {
			w := b.worker(nil)
			queue, at := b.queue(), time.Now().Add(3*time.Hour)
			b.task(queue, httpTask(w.url, schedule(at)))
			got := w.after(4 * time.Hour)
			b.equal(len(got), 1)
			b.equal(got[0].at.Sub(at), time.Duration(0))
		}},
	})
}

// attempts is a row's test for the number of dispatches of a task that always fails.
func attempts(config *cloudtaskspb.RetryConfig, want int) func(*fixture) {
	return func(b *fixture) {
		w := b.worker(always(http.StatusInternalServerError))
		name := b.task(b.queue(retry(config)), httpTask(w.url)).GetName()
		b.equal(len(w.after(32*24*time.Hour)), want)
		b.gone(name)
	}
}

// backoff is a row's test for the first waits of a policy.
func backoff(m, most float64, doublings int32, want ...float64) func(*fixture) {
	return func(b *fixture) {
		w := b.worker(always(http.StatusInternalServerError))
		config := &cloudtaskspb.RetryConfig{MinBackoff: seconds(m), MaxBackoff: seconds(most), MaxDoublings: doublings, MaxAttempts: int32(len(want)) + 1}
		b.task(b.queue(retry(config)), httpTask(w.url))
		var all []time.Duration
		for _, s := range want {
			all = append(all, seconds(s).AsDuration())
		}
		b.equal(between(w.after(2*time.Hour)), all)
	}
}

func TestRetries(t *testing.T) {
	const hour = time.Hour
	conform(t, []rule{
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
		{"7.2", "a default queue gives up after 100 attempts and 305,353.5 s", func(b *fixture) {
			w := b.worker(always(http.StatusInternalServerError))
			b.task(b.queue(), httpTask(w.url))
			got := w.after(5 * 24 * hour)
			b.equal(len(got), 100)
			b.equal(got[99].at.Sub(got[0].at), 305_353_500*time.Millisecond)
		}},
		{"7.2", "the wait begins when the dispatch has ended", func(b *fixture) {
			w := b.worker(func(_ int, rw http.ResponseWriter, _ *http.Request) {
				time.Sleep(30 * time.Second)
				rw.WriteHeader(http.StatusInternalServerError)
			})
			b.task(b.queue(retry(fixed(2, 0, time.Minute))), httpTask(w.url))
			b.equal(between(w.after(hour)), []time.Duration{90 * time.Second})
		}},
		{"7.3", "a task's own retry_config overrides the queue's", func(b *fixture) {
			w := b.worker(always(http.StatusInternalServerError))
			task := httpTask(w.url, func(t *cloudtaskspb.Task) { t.RetryConfig = fixed(3, 0, time.Minute) })
			b.task(b.queue(retry(fixed(9, 0, time.Second))), task)
			b.equal(between(w.after(hour)), []time.Duration{time.Minute, time.Minute})
		}},
		{"3.3", "UpdateQueue reaches tasks that wait for a retry", func(b *fixture) {
			w := b.worker(always(http.StatusInternalServerError))
			queue := b.queue(retry(fixed(9, 0, time.Minute)))
			b.task(queue, httpTask(w.url))
			w.after(time.Second)
			b.update(&cloudtaskspb.Queue{Name: queue, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 2}}, "retry_config.max_attempts")
			b.equal(len(w.after(hour)), 2)
		}},
		{"8.5", "no response by the deadline is a failure", func(b *fixture) {
			w := b.worker(func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			b.task(b.queue(retry(fixed(2, 0, time.Minute))), httpTask(w.url, deadline(15*time.Second)))
			b.equal(between(w.after(hour)), []time.Duration{75 * time.Second})
		}},
	})
}

func TestQueues(t *testing.T) {
	conform(t, []rule{
		{"3.2", "a page token lives two hours", func(b *fixture) {
			b.local("it takes two hours")
			b.queue()
			b.queue()
			var page []*cloudtaskspb.Queue
			it := b.v2.ListQueues(b.ctx, &cloudtaskspb.ListQueuesRequest{Parent: b.parent})
			token, err := iterator.NewPager(it, 1, "").NextPage(&page)
			b.ok(err)
			time.Sleep(2*time.Hour - time.Minute)
			_, err = b.v2.ListQueues(b.ctx, &cloudtaskspb.ListQueuesRequest{Parent: b.parent, PageToken: token}).Next()
			b.ok(err)
			time.Sleep(2 * time.Minute)
			_, err = b.v2.ListQueues(b.ctx, &cloudtaskspb.ListQueuesRequest{Parent: b.parent, PageToken: token}).Next()
			b.fails(err, codes.InvalidArgument, "")
		}},
		{"6.6", "a queue's name can be used again after its window", func(b *fixture) {
			b.local("it takes a week")
			name := b.queue()
			b.deleteQueue(name)
			time.Sleep(7*24*time.Hour + time.Second)
			b.ok(b.createQueue(&cloudtaskspb.Queue{Name: name}))
		}},
		{"6.4", "PauseQueue, and pausing again; ResumeQueue, and resuming again", func(b *fixture) {
			name := b.queue()
			for range 2 {
				q, err := b.v2.PauseQueue(b.ctx, &cloudtaskspb.PauseQueueRequest{Name: name})
				b.ok(err)
				b.equal(q.GetState(), cloudtaskspb.Queue_PAUSED)
			}
			b.equal(b.getQueue(name).GetState(), cloudtaskspb.Queue_PAUSED)
			for range 2 {
				q, err := b.v2.ResumeQueue(b.ctx, &cloudtaskspb.ResumeQueueRequest{Name: name})
				b.ok(err)
				b.equal(q.GetState(), cloudtaskspb.Queue_RUNNING)
			}
		}},
	})
}

func TestTasks(t *testing.T) {
	conform(t, []rule{
		{"8.3", "a name stays reserved for 24 hours after its task is gone, and is free then", func(b *fixture) {
			b.local("it takes a day")
			w := b.worker(nil)
			queue := b.queue()
			task := httpTask(w.url, func(t *cloudtaskspb.Task) { t.Name = queue + "/tasks/t" })
			b.task(queue, task)
			w.one()
			time.Sleep(23 * time.Hour)
			b.fails(b.createTask(queue, task), 6, usedTask)
			time.Sleep(time.Hour)
			b.task(queue, task)
		}},
		{"8.9", "a task is removed when it is 31 days old", func(b *fixture) {
			b.local("it takes a month")
			task := b.task(b.pausedQueue(), httpTask(example))
			time.Sleep(31*24*time.Hour - time.Minute)
			b.getTask(task.GetName())
			time.Sleep(2 * time.Minute)
			b.gone(task.GetName())
		}},
		{"8.8", "counters and attempts", func(b *fixture) {
			w := b.worker(always(http.StatusBadGateway))
			queue := b.queue(retry(&cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(time.Hour), MaxBackoff: durationpb.New(time.Hour)}))
			name := b.task(queue, httpTask(w.url)).GetName()
			w.after(time.Hour + time.Minute)
			got := b.getTask(name)
			b.equal(got.GetDispatchCount(), int32(2))
			b.equal(got.GetResponseCount(), int32(2))
			first, last := got.GetFirstAttempt(), got.GetLastAttempt()
			b.protoEqual(first, &cloudtaskspb.Attempt{DispatchTime: first.GetDispatchTime()})
			b.equal(last.GetDispatchTime().AsTime().Sub(first.GetDispatchTime().AsTime()), time.Hour)
			b.equal(last.GetScheduleTime().AsTime(), last.GetDispatchTime().AsTime())
			b.equal(last.GetResponseTime().AsTime(), last.GetDispatchTime().AsTime())
			b.equal(last.GetResponseStatus().GetCode(), int32(13))
			b.equal(last.GetResponseStatus().GetMessage(), "INTERNAL(13): HTTP status code 502")
		}},
		{"8.8", "a dispatch that timed out has no response", func(b *fixture) {
			w := b.worker(func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			queue := b.queue(retry(&cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(time.Hour), MaxBackoff: durationpb.New(time.Hour)}))
			name := b.task(queue, httpTask(w.url, deadline(15*time.Second))).GetName()
			w.after(time.Minute)
			got := b.getTask(name)
			b.equal(got.GetDispatchCount(), int32(1))
			b.equal(got.GetResponseCount(), int32(0))
			b.equal(got.GetLastAttempt().GetResponseTime() == nil, true)
		}},
		{"3.3", "RunTask that fails: schedule_time is the call's plus the delay", func(b *fixture) {
			w := b.worker(func(_ int, rw http.ResponseWriter, _ *http.Request) {
				time.Sleep(5 * time.Second)
				rw.WriteHeader(http.StatusInternalServerError)
			})
			queue := b.pausedQueue(retry(&cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(time.Minute)}))
			name := b.task(queue, httpTask(w.url, schedule(time.Now().Add(time.Hour)))).GetName()
			called := time.Now()
			b.run(name)
			w.after(10 * time.Second)
			b.equal(b.getTask(name).GetScheduleTime().AsTime().Sub(called), time.Minute)
		}},
		{"3.3", "RunTask dispatches a task that is running already", func(b *fixture) {
			w := b.worker(func(_ int, _ http.ResponseWriter, _ *http.Request) { time.Sleep(5 * time.Second) })
			name := b.task(b.queue(), httpTask(w.url)).GetName()
			b.equal(len(w.after(time.Second)), 1)
			b.run(name)
			got := w.after(time.Second)
			b.equal(len(got), 2)
			w.after(time.Minute)
			b.gone(name)
		}},
		{"9.4", "after a timeout", func(b *fixture) {
			w := b.worker(firstHangs)
			b.task(b.queue(), httpTask(w.url, deadline(15*time.Second)))
			b.equal(sequence("X-CloudTasks-", w.after(time.Hour)), []sent{{"0", "0", absent, absent}, {"1", "0", "504", ""}})
		}},
		{"11.3", "after a timeout", func(b *fixture) {
			w := b.appEngine(firstHangs)
			task := appEngineTask(nil)
			deadline(15 * time.Second)(task)
			b.task(b.queue(), task)
			b.equal(sequence("X-AppEngine-", w.after(time.Hour)), []sent{{"0", "0", absent, absent}, {"1", "0", "0", "Instance Unavailable"}})
		}},
		{"9.4", "on a retry the ETA is the retry's own schedule time", func(b *fixture) {
			w := b.worker(statuses(500))
			b.task(b.queue(retry(fixed(2, 0, time.Minute))), httpTask(w.url))
			got := w.after(time.Hour)
			b.equal(len(got), 2)
			b.equal(eta(b, got[1], "X-CloudTasks-TaskETA").Sub(eta(b, got[0], "X-CloudTasks-TaskETA")), time.Minute)
		}},
		{"3.4", "BufferTask: a queue without routing", func(b *fixture) {
			b.status(http.StatusBadRequest, http.MethodPost, "/v2/"+b.queue()+"/tasks:buffer", "x")
		}},
		{"3.5", "BatchDeleteTasks: the text where every deletion failed", fails(codes.Aborted,
			"None of the requests succeeded, refer to BatchDeleteTasksMetadata.failed_requests for individual error details", func(b *fixture) error {
				queue := b.pausedQueue()
				return b.batchDelete(queue, queue+"/tasks/never").Wait(b.ctx)
			})},
	})
}

// firstHangs does not respond to the first dispatch of a task.
func firstHangs(nth int, _ http.ResponseWriter, r *http.Request) {
	if nth == 1 {
		<-r.Context().Done()
	}
}

// sequence returns the headers of all dispatches; prefix is X-CloudTasks- or
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

func TestTokens(t *testing.T) {
	conform(t, []rule{
		{"10.2", "Google's own library accepts it with the published keys", func(b *fixture) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url, withOIDC("aud")))
			token := strings.TrimPrefix(header(w.one(), "Authorization"), "Bearer ")
			validator, err := idtoken.NewValidator(b.ctx, option.WithHTTPClient(&http.Client{Transport: b.http.Transport}))
			b.ok(err)
			_, err = validator.Validate(b.ctx, token, "aud")
			b.ok(err)
			if _, err = validator.Validate(b.ctx, token, "other"); err == nil {
				b.Fatalf("accepted for another audience")
			}
		}},
		{"10.2", "made at dispatch: a task a month ahead carries a fresh one", func(b *fixture) {
			w := b.worker(nil)
			b.task(b.queue(), httpTask(w.url, withOIDC("aud"), schedule(time.Now().Add(719*time.Hour))))
			got := w.after(720 * time.Hour)
			b.equal(len(got), 1)
			_, claims := b.decodeToken(got[0])
			b.equal(number(b, claims["iat"]), got[0].at.Unix())
		}},
	})
}
