package rows

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/iam/apiv1/iampb"
	"google.golang.org/api/iterator"
	"google.golang.org/genproto/googleapis/cloud/location"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// paths are those of REST (docs/cloud-tasks.md#3.1). {p}, {l}, {q} and {t} are
// names of a project, a location, and a queue and a task that exist.
var paths = []struct{ call, method, path, body string }{
	{"ListQueues", "GET", "{l}/queues", ""},
	{"GetQueue", "GET", "{q}", ""},
	{"CreateQueue", "POST", "{l}/queues", `{"name":"{new}"}`},
	{"UpdateQueue", "PATCH", "{q}", `{}`},
	{"DeleteQueue", "DELETE", "{q}", ""},
	{"PurgeQueue with a body", "POST", "{q}:purge", "{}"},
	{"PurgeQueue without a body", "POST", "{q}:purge", ""},
	{"PauseQueue with a body", "POST", "{q}:pause", "{}"},
	{"PauseQueue without a body", "POST", "{q}:pause", ""},
	{"ResumeQueue with a body", "POST", "{q}:resume", "{}"},
	{"ResumeQueue without a body", "POST", "{q}:resume", ""},
	{"GetIamPolicy", "POST", "{q}:getIamPolicy", "{}"},
	{"SetIamPolicy", "POST", "{q}:setIamPolicy", `{"policy":{}}`},
	{"TestIamPermissions", "POST", "{q}:testIamPermissions", `{"permissions":["cloudtasks.tasks.create"]}`},
	{"ListTasks", "GET", "{q}/tasks", ""},
	{"GetTask", "GET", "{t}", ""},
	{"CreateTask", "POST", "{q}/tasks", `{"task":{"httpRequest":{"url":"https://example.com/"}}}`},
	{"DeleteTask", "DELETE", "{t}", ""},
	{"RunTask", "POST", "{t}:run", "{}"},
	{"BatchCreateTasks", "POST", "{q}/tasks:batchCreate", `{"requests":[{"parent":"{q}","task":{"httpRequest":{"url":"https://example.com/"}}}]}`},
	{"BatchDeleteTasks", "POST", "{q}/tasks:batchDelete", `{"names":["{t}"]}`},
	{"UpdateCmekConfig", "PATCH", "{l}/cmekConfig", `{}`},
	{"GetCmekConfig", "GET", "{l}/cmekConfig", ""},
	{"ListLocations", "GET", "{p}/locations", ""},
	{"GetLocation", "GET", "{l}", ""},
}

// pathRows are the calls of REST by their paths, in both versions.
func pathRows() []Row {
	var rows []Row
	for _, p := range paths {
		for _, version := range []string{"v2", "v2beta3"} {
			section := map[string]string{"v2": "3.1", "v2beta3": "1.1"}[version]
			rows = append(rows, Row{section, Documented, version + ": " + p.call, func(b *fixture) {
				b.plain()
				queue := b.pausedQueue()
				task := b.task(queue, httpTask("http://127.0.0.1:9/")).GetName() // RunTask does not leave the machine
				fill := strings.NewReplacer("{p}", "projects/"+b.project, "{l}", b.parent, "{q}", queue, "{t}", task, "{new}", b.freshName())
				b.status(http.StatusOK, p.method, "/"+version+"/"+fill.Replace(p.path), fill.Replace(p.body))
			}})
		}
	}
	return append(rows,
		Row{"3.1", Documented, "the body of CreateTask wraps the task", func(b *fixture) {
			b.plain()
			b.status(http.StatusBadRequest, http.MethodPost, "/v2/"+b.pausedQueue()+"/tasks", `{"httpRequest":{"url":"https://example.com/"}}`)
		}},
		Row{"3.1", Documented, "the body of CreateQueue is the queue", func(b *fixture) {
			b.plain()
			b.status(http.StatusBadRequest, http.MethodPost, "/v2/"+b.parent+"/queues", fmt.Sprintf(`{"queue":{"name":%q}}`, b.freshName()))
		}},
		Row{"3.1", Documented, "GetOperation: an operation that does not exist", func(b *fixture) {
			b.plain()
			b.status(http.StatusNotFound, http.MethodGet, "/v2/"+b.parent+"/operations/none", "")
		}},
		Row{"3.1", Documented, "GetLocation names the location and its ID", func(b *fixture) {
			l, err := b.v2.GetLocation(b.ctx, &location.GetLocationRequest{Name: b.parent})
			b.ok(err)
			b.equal(l.GetName(), b.parent)
			b.equal(l.GetLocationId(), lastID(b.parent))
		}},
		Row{"3.1", Documented, "ListLocations lists locations of the project", func(b *fixture) {
			l, err := b.v2.ListLocations(b.ctx, &location.ListLocationsRequest{Name: "projects/" + b.project}).Next()
			b.ok(err)
			b.equal(l.GetLocationId() != "", true)
		}})
}

func (b *fixture) update(q *cloudtaskspb.Queue, paths ...string) *cloudtaskspb.Queue {
	b.Helper()
	updated, err := b.updateQueue(q, paths...)
	b.ok(err)
	return updated
}

func (b *fixture) updateQueue(q *cloudtaskspb.Queue, paths ...string) (*cloudtaskspb.Queue, error) {
	req := &cloudtaskspb.UpdateQueueRequest{Queue: q}
	if len(paths) > 0 {
		req.UpdateMask = &fieldmaskpb.FieldMask{Paths: paths}
	}
	return b.v2.UpdateQueue(b.ctx, req)
}

// callRows are the calls one by one (docs/cloud-tasks.md#3.3).
var callRows = []Row{
	{"3.3", Documented, "UpdateQueue creates a queue that does not exist", func(b *fixture) {
		name := b.freshName()
		b.protoEqual(b.update(&cloudtaskspb.Queue{Name: name}), defaultQueue(name))
		b.protoEqual(b.getQueue(name), defaultQueue(name))
	}},
	{"3.3", Documented, "UpdateQueue by the path of one field leaves the others alone", func(b *fixture) {
		name := b.queue(retry(&cloudtaskspb.RetryConfig{MaxAttempts: 7, MaxDoublings: 3}))
		got := b.update(&cloudtaskspb.Queue{
			Name: name, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 9, MaxDoublings: 1}, RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 1},
		}, "retry_config.max_attempts")
		want := defaultQueue(name)
		want.RetryConfig.MaxAttempts, want.RetryConfig.MaxDoublings = 9, 3
		b.protoEqual(got, want)
		b.protoEqual(b.getQueue(name), want)
	}},
	{"3.3", Documented, "UpdateQueue by the path of a whole message", func(b *fixture) {
		name := b.queue(retry(&cloudtaskspb.RetryConfig{MaxAttempts: 7}))
		b.equal(b.update(&cloudtaskspb.Queue{Name: name, RetryConfig: &cloudtaskspb.RetryConfig{MaxDoublings: 2}}, "retry_config").GetRetryConfig().GetMaxDoublings(), int32(2))
	}},
	{"3.3", Documented, "UpdateQueue without a mask changes every field that is sent", func(b *fixture) {
		name := b.queue()
		got := b.update(&cloudtaskspb.Queue{Name: name, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 4}, RateLimits: &cloudtaskspb.RateLimits{MaxConcurrentDispatches: 5}})
		b.equal(got.GetRetryConfig().GetMaxAttempts(), int32(4))
		b.equal(got.GetRateLimits().GetMaxConcurrentDispatches(), int32(5))
	}},
	{"3.3", Documented, "UpdateQueue cannot change the state", func(b *fixture) {
		name := b.queue()
		b.equal(b.update(&cloudtaskspb.Queue{Name: name, State: cloudtaskspb.Queue_PAUSED}).GetState(), cloudtaskspb.Queue_RUNNING)
	}},
	{"3.3", Documented, "UpdateQueue with an unknown path", fails(codes.InvalidArgument, "", func(b *fixture) error {
		_, err := b.updateQueue(&cloudtaskspb.Queue{Name: b.queue()}, "colour")
		return err
	})},
	{"3.3", Documented, "UpdateQueue reaches tasks that wait for a token", func(b *fixture) {
		w := b.worker(nil)
		queue := b.pausedQueue(rate(0.001))
		for range 12 {
			b.task(queue, httpTask(w.url))
		}
		b.resume(queue)
		w.take(1)
		b.update(&cloudtaskspb.Queue{Name: queue, RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 500}}, "rate_limits.max_dispatches_per_second")
		w.take(12)
	}},
	{"3.3", Documented, "PurgeQueue deletes the tasks, and takes new ones", func(b *fixture) {
		b.local("a purge takes up to a minute")
		queue := b.pausedQueue()
		b.task(queue, httpTask(example))
		b.purge(queue)
		b.equal(len(b.tasks(queue)), 0)
		b.task(queue, httpTask(example))
		b.equal(len(b.tasks(queue)), 1)
	}},
	{"3.3", Documented, "PurgeQueue leaves the queue as it was", func(b *fixture) {
		queue := b.pausedQueue()
		before := b.getQueue(queue)
		b.purge(queue)
		after := b.getQueue(queue)
		after.PurgeTime = nil
		b.protoEqual(after, before)
	}},
	{"3.3", Documented, "DeleteQueue deletes the queue", fails(codes.NotFound, "", func(b *fixture) error {
		name := b.queue()
		b.deleteQueue(name)
		_, err := b.v2.GetQueue(b.ctx, &cloudtaskspb.GetQueueRequest{Name: name})
		return err
	})},
	{"3.3", Documented, "DeleteQueue deletes the tasks", func(b *fixture) {
		queue := b.pausedQueue()
		task := b.task(queue, httpTask(example))
		b.deleteQueue(queue)
		b.gone(task.GetName())
	}},
	{"3.3", Documented, "ListTasks of a deleted queue", func(b *fixture) {
		queue := b.queue()
		b.deleteQueue(queue)
		_, err := b.v2.ListTasks(b.ctx, &cloudtaskspb.ListTasksRequest{Parent: queue}).Next()
		if errors.Is(err, iterator.Done) {
			b.Fatalf("the tasks of a deleted queue are listed")
		}
		b.fails(err, codes.NotFound, "")
	}},
	{"3.3", Documented, "DeleteTask deletes a task that waits", func(b *fixture) {
		task := b.task(b.pausedQueue(), httpTask(example))
		b.deleteTask(task.GetName())
		b.gone(task.GetName())
	}},
	{"3.3", Documented, "DeleteTask of a task that waits: it is not dispatched", func(b *fixture) {
		w := b.worker(nil)
		queue := b.pausedQueue()
		b.deleteTask(b.task(queue, httpTask(w.url)).GetName())
		b.resume(queue)
		b.equal(len(w.idle()), 0)
	}},
	{"3.3", Documented, "GetTask of a task that succeeded", fails(codes.NotFound, "", func(b *fixture) error {
		w := b.worker(nil)
		name := b.task(b.queue(), httpTask(w.url)).GetName()
		w.one()
		b.gone(name)
		_, err := b.v2.GetTask(b.ctx, &cloudtaskspb.GetTaskRequest{Name: name})
		return err
	})},
	{"3.3", Documented, "GetTask of a task whose retries are over", func(b *fixture) {
		w := b.worker(always(http.StatusInternalServerError))
		name := b.task(b.queue(quick(2)), httpTask(w.url)).GetName()
		w.take(2)
		b.gone(name)
	}},
	{"3.3", Documented, "RunTask dispatches on a paused queue", func(b *fixture) {
		w := b.worker(nil)
		b.run(b.task(b.pausedQueue(), httpTask(w.url)).GetName())
		w.one()
	}},
	{"3.3", Documented, "RunTask that succeeds deletes the task", func(b *fixture) {
		w := b.worker(nil)
		name := b.task(b.pausedQueue(), httpTask(w.url)).GetName()
		b.run(name)
		w.one()
		b.gone(name)
	}},
	{"3.3", Documented, "RunTask dispatches a task before its schedule time", func(b *fixture) {
		w := b.worker(nil)
		b.run(b.task(b.queue(), httpTask(w.url, schedule(time.Now().Add(time.Hour)))).GetName())
		w.one()
	}},
	{"3.3", Documented, "RunTask that fails: the next dispatch is due at the call plus the backoff", func(b *fixture) {
		w := b.worker(always(http.StatusInternalServerError))
		name := b.task(b.pausedQueue(never()), httpTask(w.url)).GetName()
		called := time.Now()
		b.run(name)
		w.one()
		b.eventually("no response is counted", func() bool { return b.getTask(name).GetResponseCount() == 1 })
		due := b.getTask(name).GetScheduleTime().AsTime().Sub(called)
		if due < time.Hour-time.Second || due > time.Hour+10*time.Second {
			b.Fatalf("the next dispatch is due %v after the call, want an hour", due)
		}
	}},
	{"3.3", Documented, "RunTask dispatches a task that is running already", func(b *fixture) {
		hold := make(chan struct{})
		defer close(hold)
		w := b.worker(held(hold))
		name := b.task(b.queue(), httpTask(w.url)).GetName()
		w.take(1)
		b.run(name)
		w.take(2)
	}},
	{"3.3", Documented, "RunTask returns the task in the view that is asked for", func(b *fixture) {
		hold := make(chan struct{})
		defer close(hold)
		w := b.worker(held(hold))
		name := b.task(b.pausedQueue(), httpTask(w.url, withBody("hi"))).GetName()
		task, err := b.v2.RunTask(b.ctx, &cloudtaskspb.RunTaskRequest{Name: name, ResponseView: cloudtaskspb.Task_FULL})
		b.ok(err)
		b.equal(task.GetName(), name)
		b.equal(string(task.GetHttpRequest().GetBody()), "hi")
	}},
}

func (b *fixture) purge(queue string) *cloudtaskspb.Queue {
	b.Helper()
	q, err := b.v2.PurgeQueue(b.ctx, &cloudtaskspb.PurgeQueueRequest{Name: queue})
	b.ok(err)
	return q
}

// policyRows are about IAM policies (docs/cloud-tasks.md#3.3).
var policyRows = []Row{
	{"3.3", Documented, "GetIamPolicy: empty if none was set", func(b *fixture) {
		p, err := b.v2.GetIamPolicy(b.ctx, &iampb.GetIamPolicyRequest{Resource: b.queue()})
		b.ok(err)
		b.equal(len(p.GetBindings()), 0)
	}},
	{"3.3", Documented, "SetIamPolicy, then GetIamPolicy", func(b *fixture) {
		b.local("the member does not exist")
		queue := b.queue()
		want := &iampb.Binding{Role: "roles/cloudtasks.enqueuer", Members: []string{"user:a@example.com"}}
		b.setPolicy(queue, want)
		p, err := b.v2.GetIamPolicy(b.ctx, &iampb.GetIamPolicyRequest{Resource: queue})
		b.ok(err)
		b.equal(len(p.GetBindings()), 1)
		b.protoEqual(p.GetBindings()[0], want)
	}},
	{"3.3", Documented, "SetIamPolicy replaces the policy", func(b *fixture) {
		b.local("the member does not exist")
		queue := b.queue()
		b.setPolicy(queue, &iampb.Binding{Role: "roles/cloudtasks.enqueuer", Members: []string{"user:a@example.com"}})
		b.setPolicy(queue)
		p, err := b.v2.GetIamPolicy(b.ctx, &iampb.GetIamPolicyRequest{Resource: queue})
		b.ok(err)
		b.equal(len(p.GetBindings()), 0)
	}},
	{"3.3", Documented, "TestIamPermissions: what the caller has", func(b *fixture) {
		want := []string{"cloudtasks.tasks.create"}
		got, err := b.v2.TestIamPermissions(b.ctx, &iampb.TestIamPermissionsRequest{Resource: b.queue(), Permissions: want})
		b.ok(err)
		b.equal(got.GetPermissions(), want)
	}},
	{"3.3", Documented, "TestIamPermissions of what does not exist: none, and no error", func(b *fixture) {
		got, err := b.v2.TestIamPermissions(b.ctx, &iampb.TestIamPermissionsRequest{Resource: b.freshName(), Permissions: []string{"cloudtasks.tasks.create"}})
		b.ok(err)
		b.equal(len(got.GetPermissions()), 0)
	}},
}

func (b *fixture) setPolicy(queue string, bindings ...*iampb.Binding) {
	b.Helper()
	_, err := b.v2.SetIamPolicy(b.ctx, &iampb.SetIamPolicyRequest{Resource: queue, Policy: &iampb.Policy{Bindings: bindings}})
	b.ok(err)
}
