package rows

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// retryTable is about retries and what is a failure (docs/cloud-tasks.md#7).
var retryTable = []Row{
	{"7.1", Documented, "max_attempts of 1: no retry", attempted(quick(1), 1)},
	{"7.1", Documented, "max_attempts of 5: 5 attempts", attempted(quick(5), 5)},
	{"7.1", Documented, "max_attempts and max_retry_duration: both must be reached, here the attempts are the later",
		attempted(retry(fixed(8, time.Second, 200*time.Millisecond)), 8)},
	{"7.1", Documented, "max_attempts and max_retry_duration: both must be reached, here the duration is the later", func(b *fixture) {
		w := b.worker(always(http.StatusInternalServerError))
		name := b.task(b.queue(retry(fixed(2, 10*time.Second, 200*time.Millisecond))), httpTask(w.url)).GetName()
		w.take(4)
		b.deleteTask(name)
	}},
	{"7.1", Documented, "unlimited attempts and a duration: the task ends when it has passed", func(b *fixture) {
		w := b.worker(always(http.StatusInternalServerError))
		name := b.task(b.queue(retry(fixed(-1, 3*time.Second, 200*time.Millisecond))), httpTask(w.url)).GetName()
		w.take(3)
		b.gone(name)
	}},
	{"7.1", Documented, "unlimited attempts and no duration: it goes on", func(b *fixture) {
		w := b.worker(always(http.StatusInternalServerError))
		name := b.task(b.queue(quick(-1)), httpTask(w.url)).GetName()
		w.take(12)
		b.deleteTask(name)
	}},
	{"7.1", Documented, "a task that used up its retries is deleted", func(b *fixture) {
		w := b.worker(always(http.StatusInternalServerError))
		queue := b.queue(quick(2))
		b.gone(b.task(queue, httpTask(w.url)).GetName())
		b.equal(len(b.tasks(queue)), 0)
	}},
	{"7.2", Inferred, "the default: 0.1 s, doubled each time", backedOff(nil, 100, 200, 400, 800)},
	{"7.2", Inferred, "after max_doublings the wait grows by the last step", backedOff(&cloudtaskspb.RetryConfig{MaxDoublings: 1}, 100, 200, 400, 600)},
	{"7.2", Documented, "the wait is max_backoff at most", backedOff(&cloudtaskspb.RetryConfig{MinBackoff: seconds(0.2), MaxBackoff: seconds(0.4)}, 200, 400, 400, 400)},
	{"7.2", Documented, "the wait begins when the dispatch has ended", func(b *fixture) {
		w := b.worker(func(_ int, rw http.ResponseWriter, _ *http.Request) {
			time.Sleep(300 * time.Millisecond)
			rw.WriteHeader(http.StatusInternalServerError)
		})
		b.task(b.queue(retry(fixed(2, 0, 200*time.Millisecond))), httpTask(w.url))
		if waited := between(w.take(2))[0]; waited < 490*time.Millisecond {
			b.Fatalf("the retry came %v after a dispatch of 300 ms, with a backoff of 200 ms", waited)
		}
	}},
	{"7.2", Documented, "the schedule time of a retry is the end of the dispatch plus the wait", func(b *fixture) {
		w := b.worker(always(http.StatusInternalServerError))
		task := failedOnce(b, w, b.queue(never()))
		b.equal(task.GetScheduleTime().AsTime().Sub(task.GetLastAttempt().GetResponseTime().AsTime()).Round(time.Second), time.Hour)
	}},
	{"7.3", Documented, "a task's own retry_config overrides the queue's", func(b *fixture) {
		w := b.worker(always(http.StatusInternalServerError))
		name := b.task(b.queue(quick(9)), httpTask(w.url, func(t *cloudtaskspb.Task) { t.RetryConfig = fixed(2, 0, 20*time.Millisecond) })).GetName()
		b.gone(name)
		w.only(2)
	}},
	{"7.3", Documented, "a task's own retry_config is shown", func(b *fixture) {
		config := fixed(3, 0, time.Minute)
		task := b.task(b.pausedQueue(), httpTask(example, func(t *cloudtaskspb.Task) { t.RetryConfig = config }))
		b.equal(task.GetRetryConfig().GetMaxAttempts(), int32(3))
		b.equal(task.GetRetryConfig().GetMinBackoff().AsDuration(), time.Minute)
	}},
	{"7.3", Documented, "a task without a retry_config shows none", func(b *fixture) {
		b.equal(b.task(b.pausedQueue(), httpTask(example)).GetRetryConfig() == nil, true)
	}},
	{"7.4", Documented, "no response is a failure", func(b *fixture) {
		w := b.worker(func(nth int, _ http.ResponseWriter, _ *http.Request) {
			if nth == 1 {
				panic(http.ErrAbortHandler) // hangs up
			}
		})
		b.task(b.queue(quick(5)), httpTask(w.url))
		w.only(2)
	}},
	{"7.4", Documented, "nobody who listens is a failure", func(b *fixture) {
		b.local("it has no worker")
		name := b.task(b.queue(quick(-1)), httpTask("http://127.0.0.1:9/")).GetName()
		b.eventually("nothing was retried", func() bool { return b.getTask(name).GetDispatchCount() > 1 })
	}},
}

func retryRows() []Row {
	rows := slices.Clone(retryTable)
	for _, status := range []int{200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 299} {
		rows = append(rows, Row{"7.4", Documented, fmt.Sprintf("%d is success", status), func(b *fixture) {
			w := b.worker(always(status))
			name := b.task(b.queue(quick(3)), httpTask(w.url)).GetName()
			b.gone(name)
			w.only(1)
		}})
	}
	for _, status := range []int{
		300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413, 415, 418, 422, 425, 429, 451, 499,
		500, 501, 502, 503, 504, 505, 511, 599,
	} {
		rows = append(rows, Row{"7.4", Documented, fmt.Sprintf("%d is a failure", status), func(b *fixture) {
			w := b.worker(always(status))
			b.task(b.queue(quick(2)), httpTask(w.url))
			w.take(2)
		}})
	}
	return rows
}

// attempted is a row's test for the number of dispatches of a task that always fails.
func attempted(edit func(*cloudtaskspb.Queue), want int) func(*fixture) {
	return func(b *fixture) {
		w := b.worker(always(http.StatusInternalServerError))
		name := b.task(b.queue(edit), httpTask(w.url)).GetName()
		w.take(want)
		b.gone(name)
		w.only(want)
	}
}

// backedOff is a row's test for the first waits of a policy, in milliseconds. A
// retry is never early, and on a busy machine it is late. So the shortest wait of
// eight tries counts, and it may be half as long again.
func backedOff(c *cloudtaskspb.RetryConfig, want ...int) func(*fixture) {
	return func(b *fixture) {
		w := b.worker(func(nth int, rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(http.StatusInternalServerError)
		})
		queue := b.queue(retry(c))
		best := slices.Repeat([]time.Duration{time.Hour}, len(want))
		for range 8 {
			before := len(w.idle())
			name := b.task(queue, httpTask(w.url)).GetName()
			got := between(w.take(before + len(want) + 1)[before:])
			b.deleteTask(name)
			good := true
			for i, ms := range want {
				least := time.Duration(ms) * time.Millisecond
				if got[i] < least-10*time.Millisecond {
					b.Fatalf("wait %d is %v, want %v", i+1, got[i], least)
				}
				best[i] = min(best[i], got[i])
				good = good && best[i] < least+least/2+50*time.Millisecond
			}
			if good {
				return
			}
		}
		b.Fatalf("the shortest waits are %v, want %v ms", best, want)
	}
}

// between are the times between dispatches.
func between(got []dispatch) []time.Duration {
	var all []time.Duration
	for i := 1; i < len(got); i++ {
		all = append(all, got[i].at.Sub(got[i-1].at))
	}
	return all
}

// failedOnce creates a task and returns it after its first dispatch.
func failedOnce(b *fixture, w *worker, queue string) *cloudtaskspb.Task {
	b.Helper()
	name := b.task(queue, httpTask(w.url)).GetName()
	w.one()
	b.eventually("no response is counted", func() bool { return b.getTask(name).GetResponseCount() == 1 })
	return b.getTask(name)
}
