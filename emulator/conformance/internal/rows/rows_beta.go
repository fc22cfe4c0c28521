package rows

import (
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

const day = 24 * time.Hour

func (b *fixture) betaCreate(q *betapb.Queue) (*betapb.Queue, error) {
	return b.beta.CreateQueue(b.ctx, &betapb.CreateQueueRequest{Parent: b.parent, Queue: q})
}

// betaQueue creates a queue through v2beta3.
func (b *fixture) betaQueue(edits ...func(*betapb.Queue)) *betapb.Queue {
	b.Helper()
	q := &betapb.Queue{Name: b.freshName()}
	for _, edit := range edits {
		edit(q)
	}
	created, err := b.betaCreate(q)
	b.ok(err)
	return created
}

func (b *fixture) betaGet(name string, mask ...string) *betapb.Queue {
	b.Helper()
	q, err := b.beta.GetQueue(b.ctx, &betapb.GetQueueRequest{Name: name, ReadMask: readMask(mask)})
	b.ok(err)
	return q
}

func readMask(paths []string) *fieldmaskpb.FieldMask {
	if len(paths) == 0 {
		return nil
	}
	return &fieldmaskpb.FieldMask{Paths: paths}
}

func (b *fixture) betaUpdate(q *betapb.Queue, paths ...string) *betapb.Queue {
	b.Helper()
	updated, err := b.beta.UpdateQueue(b.ctx, &betapb.UpdateQueueRequest{Queue: q, UpdateMask: readMask(paths)})
	b.ok(err)
	return updated
}

func taskTTL(d time.Duration) func(*betapb.Queue) {
	return func(q *betapb.Queue) { q.TaskTtl = durationpb.New(d) }
}

func tombstoneTTL(d time.Duration) func(*betapb.Queue) {
	return func(q *betapb.Queue) { q.TombstoneTtl = durationpb.New(d) }
}

func betaLimits(perSecond float64, burst int32) func(*betapb.Queue) {
	return func(q *betapb.Queue) {
		q.RateLimits = &betapb.RateLimits{MaxDispatchesPerSecond: perSecond, MaxBurstSize: burst}
	}
}

// betaTask is a task for url.
func betaTask(url string) *betapb.Task {
	return &betapb.Task{PayloadType: &betapb.Task_HttpRequest{HttpRequest: &betapb.HttpRequest{Url: url}}}
}

func (b *fixture) betaTask(queue string, task *betapb.Task) *betapb.Task {
	b.Helper()
	created, err := b.beta.CreateTask(b.ctx, &betapb.CreateTaskRequest{Parent: queue, Task: task, ResponseView: betapb.Task_FULL})
	b.ok(err)
	return created
}

// refusedBeta is a row's test for a queue that cannot be created.
func refusedBeta(message string, edits ...func(*betapb.Queue)) func(*fixture) {
	return fails(codes.InvalidArgument, message, func(b *fixture) error {
		q := &betapb.Queue{Name: b.freshName()}
		for _, edit := range edits {
			edit(q)
		}
		_, err := b.betaCreate(q)
		return err
	})
}

// keptBeta is a row's test for a setting that only v2beta3 has.
func keptBeta(edit func(*betapb.Queue), get func(*betapb.Queue) any, want any) func(*fixture) {
	return func(b *fixture) { b.equal(get(b.betaGet(b.betaQueue(edit).GetName())), want) }
}

func taskTTLOf(q *betapb.Queue) any      { return q.GetTaskTtl().AsDuration() }
func tombstoneTTLOf(q *betapb.Queue) any { return q.GetTombstoneTtl().AsDuration() }
func betaBurstOf(q *betapb.Queue) any    { return q.GetRateLimits().GetMaxBurstSize() }

// betaQueueRows are about queues of v2beta3 (docs/cloud-tasks.md#5.1).
var betaQueueRows = []Row{
	{"5.1", Documented, "task_ttl of 10 days", keptBeta(taskTTL(10*day), taskTTLOf, 10*day)},
	{"5.1", Documented, "task_ttl of 10 years", keptBeta(taskTTL(3650*day), taskTTLOf, 3650*day)},
	{"5.1", Documented, "task_ttl is 31 days by default", keptBeta(func(*betapb.Queue) {}, taskTTLOf, 31*day)},
	{"5.1", Documented, "task_ttl under 10 days", refusedBeta("", taskTTL(10*day-time.Second))},
	{"5.1", Documented, "tombstone_ttl of an hour", keptBeta(tombstoneTTL(time.Hour), tombstoneTTLOf, time.Hour)},
	{"5.1", Documented, "tombstone_ttl of 9 days", keptBeta(tombstoneTTL(9*day), tombstoneTTLOf, 9*day)},
	{"5.1", Documented, "tombstone_ttl is an hour by default", keptBeta(func(*betapb.Queue) {}, tombstoneTTLOf, time.Hour)},
	{"5.1", Documented, "tombstone_ttl under an hour", refusedBeta("", tombstoneTTL(time.Hour-time.Second))},
	{"5.1", Documented, "tombstone_ttl over 9 days", refusedBeta("", tombstoneTTL(9*day+time.Second))},
	{"5.1", Documented, "max_burst_size is kept", keptBeta(betaLimits(10, 33), betaBurstOf, int32(33))},
	{"5.1", Documented, "max_burst_size of 500", keptBeta(betaLimits(10, 500), betaBurstOf, int32(500))},
	{"5.1", Documented, "max_burst_size over 500", refusedBeta("", betaLimits(10, 501))},
	{"5.1", Documented, "a change of the rate without max_burst_size computes it anew", func(b *fixture) {
		name := b.betaQueue(betaLimits(500, 42)).GetName()
		got := b.betaUpdate(&betapb.Queue{Name: name, RateLimits: &betapb.RateLimits{MaxDispatchesPerSecond: 400}}, "rate_limits.max_dispatches_per_second")
		b.equal(got.GetRateLimits().GetMaxBurstSize() != 42, true)
	}},
	{"5.1", Documented, "as many tasks go out at once as max_burst_size says", func(b *fixture) {
		w := b.worker(nil)
		name := b.betaQueue(betaLimits(0.01, 3)).GetName()
		for range 5 {
			b.task(name, httpTask(w.url))
		}
		w.only(3)
	}},
	{"5.1", Documented, "the type is PUSH", keptBeta(func(*betapb.Queue) {}, func(q *betapb.Queue) any { return q.GetType() }, betapb.Queue_PUSH)},
	{"5.1", Documented, "the type is immutable", func(b *fixture) {
		name := b.betaQueue().GetName()
		_, _ = b.beta.UpdateQueue(b.ctx, &betapb.UpdateQueueRequest{Queue: &betapb.Queue{Name: name, Type: betapb.Queue_PULL}, UpdateMask: readMask([]string{"type"})})
		b.equal(b.betaGet(name).GetType(), betapb.Queue_PUSH)
	}},
	{"5.1", Documented, "no stats unless read_mask names them", func(b *fixture) { b.equal(b.betaGet(b.queue()).GetStats() == nil, true) }},
	{"5.1", Documented, "stats: tasks_count", func(b *fixture) {
		queue := b.pausedQueue()
		b.task(queue, httpTask(example))
		b.eventually("no task is counted", func() bool { return b.betaGet(queue, "stats").GetStats().GetTasksCount() == 1 })
	}},
	{"5.1", Documented, "stats: oldest_estimated_arrival_time", func(b *fixture) {
		queue := b.pausedQueue()
		b.task(queue, httpTask(example))
		b.eventually("no time is told", func() bool { return b.betaGet(queue, "stats").GetStats().GetOldestEstimatedArrivalTime().IsValid() })
	}},
	{"5.1", Documented, "stats: concurrent_dispatches_count", func(b *fixture) {
		hold := make(chan struct{})
		defer close(hold)
		w := b.worker(held(hold))
		queue := b.queue()
		b.task(queue, httpTask(w.url))
		w.one()
		b.eventually("no dispatch is counted", func() bool { return b.betaGet(queue, "stats").GetStats().GetConcurrentDispatchesCount() == 1 })
	}},
	{"5.1", Documented, "stats: executed_last_minute_count", func(b *fixture) {
		w := b.worker(nil)
		queue := b.queue()
		b.task(queue, httpTask(w.url))
		w.one()
		b.eventually("no execution is counted", func() bool { return b.betaGet(queue, "stats").GetStats().GetExecutedLastMinuteCount() == 1 })
	}},
	{"5.1", Documented, "stats: effective_execution_rate", func(b *fixture) {
		b.equal(b.betaGet(b.queue(rate(20)), "stats").GetStats().GetEffectiveExecutionRate() > 0, true)
	}},
	{"5.1", Documented, "GetQueue by a read_mask", func(b *fixture) {
		got := b.betaGet(b.betaQueue(taskTTL(20*day)).GetName(), "task_ttl")
		b.equal(got.GetTaskTtl().AsDuration(), 20*day)
		b.equal(got.GetRetryConfig() == nil, true)
	}},
	{"5.1", Documented, "ListQueues by a read_mask", func(b *fixture) {
		name := b.betaQueue(taskTTL(20 * day)).GetName()
		q, err := b.beta.ListQueues(b.ctx, &betapb.ListQueuesRequest{Parent: b.parent, Filter: `name="` + name + `"`, ReadMask: readMask([]string{"task_ttl"})}).Next()
		b.ok(err)
		b.equal(q.GetTaskTtl().AsDuration(), 20*day)
		b.equal(q.GetRetryConfig() == nil, true)
	}},
	{"5.1", Inferred, "an invalid read_mask", fails(codes.InvalidArgument, "", func(b *fixture) error {
		_, err := b.beta.GetQueue(b.ctx, &betapb.GetQueueRequest{Name: b.queue(), ReadMask: readMask([]string{"colour"})})
		return err
	})},
	{"5.1", Documented, "App Engine routing is in a field of its own", func(b *fixture) {
		name := b.betaQueue(func(q *betapb.Queue) {
			q.QueueType = &betapb.Queue_AppEngineHttpQueue{AppEngineHttpQueue: &betapb.AppEngineHttpQueue{
				AppEngineRoutingOverride: &betapb.AppEngineRouting{Service: "s"},
			}}
		}).GetName()
		b.equal(b.betaGet(name).GetAppEngineHttpQueue().GetAppEngineRoutingOverride().GetService(), "s")
		b.equal(b.getQueue(name).GetAppEngineRoutingOverride().GetService(), "s")
	}},
	{"5.1", Documented, "the name of a gone task is free after tombstone_ttl, not before", fails(codes.AlreadyExists, "", func(b *fixture) error {
		queue := b.betaQueue(tombstoneTTL(time.Hour)).GetName()
		_, err := b.v2.PauseQueue(b.ctx, &cloudtaskspb.PauseQueueRequest{Name: queue})
		b.ok(err)
		b.deleteTask(b.task(queue, httpTask(example, withID(queue, "t"))).GetName())
		return b.createTask(queue, httpTask(example, withID(queue, "t")))
	})},
	{"1.1", Documented, "a queue of v2 is one of v2beta3", func(b *fixture) {
		got := b.betaGet(b.queue(rate(7)))
		b.equal(got.GetRateLimits().GetMaxDispatchesPerSecond(), 7.0)
		b.equal(got.GetState(), betapb.Queue_RUNNING)
	}},
	{"1.1", Documented, "a queue of v2beta3 is one of v2", func(b *fixture) {
		b.equal(b.getQueue(b.betaQueue(betaLimits(7, 0)).GetName()).GetRateLimits().GetMaxDispatchesPerSecond(), 7.0)
	}},
}

// betaTaskRows are about tasks of v2beta3.
var betaTaskRows = []Row{
	{"1.1", Documented, "a task of v2beta3 is one of v2", func(b *fixture) {
		task := betaTask(example)
		task.GetHttpRequest().Body = []byte("hi")
		b.equal(string(b.fullTask(b.betaTask(b.pausedQueue(), task).GetName()).GetHttpRequest().GetBody()), "hi")
	}},
	{"1.1", Documented, "a task of v2 is one of v2beta3", func(b *fixture) {
		got, err := b.beta.GetTask(b.ctx, &betapb.GetTaskRequest{Name: b.task(b.pausedQueue(), httpTask(example, withBody("hi"))).GetName(), ResponseView: betapb.Task_FULL})
		b.ok(err)
		b.equal(string(got.GetHttpRequest().GetBody()), "hi")
	}},
	{"1.1", Documented, "a task of v2beta3 is dispatched", func(b *fixture) {
		w := b.worker(nil)
		b.betaTask(b.queue(), betaTask(w.url))
		b.equal(header(w.one(), "X-CloudTasks-TaskRetryCount"), "0")
	}},
	{"5.1", Documented, "payload_type may be an App Engine request", func(b *fixture) {
		got := b.betaTask(b.pausedQueue(), &betapb.Task{PayloadType: &betapb.Task_AppEngineHttpRequest{AppEngineHttpRequest: &betapb.AppEngineHttpRequest{
			AppEngineRouting: &betapb.AppEngineRouting{Service: "s"},
		}}}).GetAppEngineHttpRequest()
		b.equal(got.GetAppEngineRouting().GetService(), "s")
	}},
	{"1.1", Documented, "RunTask of v2beta3", func(b *fixture) {
		w := b.worker(nil)
		_, err := b.beta.RunTask(b.ctx, &betapb.RunTaskRequest{Name: b.betaTask(b.pausedQueue(), betaTask(w.url)).GetName()})
		b.ok(err)
		w.one()
	}},
	{"1.1", Documented, "BatchCreateTasks of v2beta3", func(b *fixture) {
		queue := b.pausedQueue()
		op, err := b.beta.BatchCreateTasks(b.ctx, &betapb.BatchCreateTasksRequest{Parent: queue, Requests: []*betapb.CreateTaskRequest{
			{Parent: queue, Task: betaTask(example)}, {Parent: queue, Task: betaTask("")},
		}})
		b.ok(err)
		_, _ = op.Wait(b.ctx)
		meta, err := op.Metadata()
		b.ok(err)
		b.equal(meta.GetState(), betapb.BatchCreateTasksMetadata_PARTIALLY_SUCCEEDED)
	}},
}

// betaErrorRows are what both versions refuse.
func betaErrorRows() []Row {
	return []Row{
		{"1.1", Documented, "v2beta3 refuses a rate above 500", refusedBeta("", betaLimits(501, 0))},
		{"1.1", Documented, "v2beta3 refuses a name with an underscore", refusedBeta("", func(q *betapb.Queue) { q.Name += "_" })},
		{"1.1", Documented, "v2beta3 finds the queue of v2 that exists", fails(codes.AlreadyExists, "", func(b *fixture) error {
			_, err := b.betaCreate(&betapb.Queue{Name: b.queue()})
			return err
		})},
		{"1.1", Documented, "v2beta3 does not find a queue that is missing", fails(codes.NotFound, "", func(b *fixture) error {
			_, err := b.beta.GetQueue(b.ctx, &betapb.GetQueueRequest{Name: b.freshName()})
			return err
		})},
		{"1.1", Documented, "v2beta3 does not find a task that is missing", fails(codes.NotFound, "", func(b *fixture) error {
			_, err := b.beta.GetTask(b.ctx, &betapb.GetTaskRequest{Name: b.queue() + "/tasks/t"})
			return err
		})},
		{"1.1", Documented, "v2beta3 refuses a task without a target", fails(codes.InvalidArgument, "", func(b *fixture) error {
			_, err := b.beta.CreateTask(b.ctx, &betapb.CreateTaskRequest{Parent: b.queue(), Task: new(betapb.Task)})
			return err
		})},
	}
}
