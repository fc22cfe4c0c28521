package handofftest

import (
	"path"
	"slices"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff"
)

// due is a task whose schedule time has come.
type due struct {
	name string
	kind string
}

// Step waits until the next task is due, dispatches it, and returns the result.
// It returns false if no task is left.
//
// In real time, Step fails the test if the next task is due in more than a
// minute. Run such a test in a testing/synctest bubble.
func (k *Kit) Step() (Result, bool) {
	k.t.Helper()
	for {
		next, ok := k.next()
		if !ok {
			return Result{}, false
		}
		if result, ok := k.dispatch(next); ok {
			return result, true
		}
	}
}

// endless is the number of dispatches of one task at which Drain fails the test.
// A task that is retried every hour has 744 in its 31 days.
const endless = 1000

// refusals is the number of dispatches of one task, refused for their caller, at
// which Drain fails the test.
const refusals = 2

// Drain calls Step until no task is left, or until one of the stop functions
// returns true for the latest result. It also dispatches the tasks that handlers
// enqueue. It returns all results in order. Drain fails the test if one task is
// dispatched 1,000 times, or if the router refuses the caller of one for the second
// time.
func (k *Kit) Drain(stop ...func(Result) bool) []Result {
	k.t.Helper()
	var results []Result
	refused := make(map[string]int) // by task; its RetryCount is not read before its caller is known
	for {
		result, ok := k.Step()
		if !ok {
			return results
		}
		results = append(results, result)
		if slices.ContainsFunc(stop, func(stop func(Result) bool) bool { return stop(result) }) {
			return results
		}
		if result.Outcome == handoff.Unauthenticated || result.Outcome == handoff.Forbidden {
			refused[result.Info.Task]++
		}
		if refused[result.Info.Task] == refusals {
			k.t.Fatalf("handofftest: a task was refused %d times, and no retry changes that: %s; stop Drain at the first refusal if it is what the test is about, else let the client's Target sign as an account that the verifier lists and From allows, such as handofftest.Account", refusals, result)
		}
		if result.Info.RetryCount+1 == endless {
			k.t.Fatalf("handofftest: a task was dispatched %d times and has not ended; the latest: %s", endless, result)
		}
	}
}

// StopAfter stops [Kit.Drain] after n attempts. Deliveries that did not run a
// handler do not count.
func StopAfter(n int) func(Result) bool {
	attempts := 0
	return func(r Result) bool {
		for _, delivery := range slices.Concat(r.Others, []Result{r}) {
			if delivery.ran() {
				attempts++
			}
		}
		return attempts >= n
	}
}

// StopAt stops [Kit.Drain] after the first attempt at a task that carries a T,
// whatever its handler returned.
func StopAt[T handoff.Payload]() func(Result) bool {
	kind := kindOf[T]()
	return func(r Result) bool { return r.ran() && r.Info.Kind == kind }
}

// longest is the longest that a test in real time waits for a dispatch.
const longest = time.Minute

// next waits for the next task to be due. It lists tasks again only when all that
// were due are dispatched: tasks that are added meanwhile are due later.
func (k *Kit) next() (next due, ok bool) {
	k.t.Helper()
	for len(k.due) == 0 {
		waiting := k.queues.tasks()
		if len(waiting) == 0 {
			return due{}, false
		}
		slices.SortStableFunc(waiting, byDue)
		k.await(waiting[0])
		now := time.Now()
		for _, task := range waiting {
			if !task.ScheduleTime.AsTime().After(now) {
				address, _, _ := parts(task)
				k.due = append(k.due, due{name: task.Name, kind: kindAt(address)})
			}
		}
	}
	next, k.due = k.due[0], k.due[1:]
	return next, true
}

func (k *Kit) await(task *cloudtaskspb.Task) {
	k.t.Helper()
	wait := time.Until(task.ScheduleTime.AsTime())
	if wait > longest && !virtual() {
		address, _, _ := parts(task)
		k.t.Fatalf("handofftest: the next dispatch, of %s on queue %s, is due in %s; run the test in a bubble, with synctest.Test, where waiting takes no time",
			kindAt(address), queueOf(task.Name), wait.Round(time.Second))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-k.t.Context().Done():
		k.t.Fatalf("handofftest: the test ended while waiting for a dispatch: %v", k.t.Context().Err())
	}
}

// virtual reports whether the test runs in a bubble. A bubble's clock starts in
// the year 2000, and a task lives 31 days at most.
func virtual() bool { return time.Now().Year() < 2010 }

// dispatch makes one dispatch and waits for its end. It returns false if the
// task is gone. The queue is paused, so only RunTask can dispatch
// (docs/cloud-tasks.md#3.3).
func (k *Kit) dispatch(task due) (Result, bool) {
	k.t.Helper()
	k.mu.Lock()
	k.seen = nil
	k.mu.Unlock()
	ctx := k.t.Context()
	switch _, err := k.queues.api.RunTask(ctx, &cloudtaskspb.RunTaskRequest{Name: task.name}); {
	case status.Code(err) == codes.NotFound:
		return Result{}, false
	case err != nil:
		k.t.Fatalf("handofftest: RunTask: %v", err)
	}
	if err := k.Emulator.Wait(ctx); err != nil {
		k.t.Fatalf("handofftest: the test ended during a dispatch of %s: %v", task.kind, err)
	}
	result := k.result(task)
	_, err := k.queues.api.GetTask(ctx, &cloudtaskspb.GetTaskRequest{Name: task.name})
	if err != nil && status.Code(err) != codes.NotFound {
		k.t.Fatalf("handofftest: GetTask: %v", err)
	}
	result.Retry = err == nil // the service decides: it may not have received the response
	return result, true
}

// result returns the result of the dispatch. It leaves out deliveries whose
// handler still runs, beyond the dispatch deadline.
func (k *Kit) result(task due) Result {
	k.mu.Lock()
	defer k.mu.Unlock()
	var results []Result
	for _, seen := range k.seen {
		if seen.ended.Load() {
			again := seen.delivery.Status < 200 || seen.delivery.Status > 299
			results = append(results, Result{Delivery: seen.delivery, Retry: again, Settled: seen.settled, memo: seen.memo})
		}
	}
	if len(results) == 0 {
		results = []Result{{Settled: NotClaimed}}
	}
	for i := range results {
		if info := &results[i].Info; info.Task == "" { // refused before the headers were read
			info.Kind, info.Queue, info.Task = task.kind, queueOf(task.name), path.Base(task.name)
		}
	}
	return merge(results)
}
