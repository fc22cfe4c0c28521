package rows

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"cloud.google.com/go/iam/apiv1/iampb"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestBetaTasks(t *testing.T) {
	conform(t, []rule{
		{"5.1", "v2beta3: every field of an HTTP task is kept, and seen by v2", func(b *fixture) {
			queue := b.pausedQueue()
			due := time.Now().Add(time.Hour).Truncate(time.Microsecond)
			asked := &betapb.Task{
				Name: queue + "/tasks/t", ScheduleTime: timestamppb.New(due), DispatchDeadline: durationpb.New(time.Minute),
				RetryConfig: &betapb.RetryConfig{MaxAttempts: 4, MinBackoff: durationpb.New(time.Second)},
				PayloadType: &betapb.Task_HttpRequest{HttpRequest: &betapb.HttpRequest{
					Url: "https://example.com/x", HttpMethod: betapb.HttpMethod_PUT, Headers: map[string]string{"A": "1"}, Body: []byte("body"),
					AuthorizationHeader: &betapb.HttpRequest_OidcToken{OidcToken: &betapb.OidcToken{ServiceAccountEmail: "a@b.test", Audience: "aud"}},
				}},
			}
			got := b.betaTask(queue, asked)
			want := &betapb.Task{
				Name: asked.GetName(), ScheduleTime: asked.GetScheduleTime(), DispatchDeadline: asked.GetDispatchDeadline(),
				RetryConfig: asked.GetRetryConfig(), PayloadType: asked.GetPayloadType(), View: betapb.Task_FULL, CreateTime: got.GetCreateTime(),
			}
			want.GetHttpRequest().Headers["User-Agent"] = "Google-Cloud-Tasks"
			b.protoEqual(got, want)

			seen, err := b.v2.GetTask(b.ctx, &cloudtaskspb.GetTaskRequest{Name: asked.GetName(), ResponseView: cloudtaskspb.Task_FULL})
			b.ok(err)
			b.equal(string(seen.GetHttpRequest().GetBody()), "body")
			b.equal(seen.GetHttpRequest().GetOidcToken().GetAudience(), "aud")
			b.equal(seen.GetRetryConfig().GetMaxAttempts(), int32(4))
		}},
		{"5.1", "v2beta3: an App Engine task", func(b *fixture) {
			got := b.betaTask(b.pausedQueue(), &betapb.Task{PayloadType: &betapb.Task_AppEngineHttpRequest{AppEngineHttpRequest: &betapb.AppEngineHttpRequest{
				AppEngineRouting: &betapb.AppEngineRouting{Service: "s"}, Body: []byte("b"),
			}}}).GetAppEngineHttpRequest()
			b.equal(got.GetRelativeUri(), "/")
			b.equal(got.GetHttpMethod(), betapb.HttpMethod_POST)
			b.equal(got.GetAppEngineRouting().GetService(), "s")
			b.equal(got.GetHeaders()["Content-Type"], "application/octet-stream")
		}},
		{"9", "v2beta3: a task is dispatched like any other", func(b *fixture) {
			w := b.worker(nil)
			task := betaTask(w.url)
			task.GetHttpRequest().Body = []byte("payload")
			b.betaTask(b.queue(), task)
			got := w.one()
			b.equal(got.body, "payload")
			b.equal(got.Header.Get("X-CloudTasks-TaskRetryCount"), "0")
		}},
		{"8.8", "v2beta3: counters and attempts", func(b *fixture) {
			w := b.worker(always(500))
			task := b.betaTask(b.queue(retry(&cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(time.Hour)})), betaTask(w.url))
			w.one()
			var got *betapb.Task
			b.eventually("no response is counted", func() bool {
				var err error
				got, err = b.beta.GetTask(b.ctx, &betapb.GetTaskRequest{Name: task.GetName()})
				b.ok(err)
				return got.GetResponseCount() == 1
			})
			b.equal(got.GetDispatchCount(), int32(1))
			b.equal(got.GetView(), betapb.Task_BASIC)
			b.equal(got.GetLastAttempt().GetResponseStatus().GetMessage(), "INTERNAL(13): HTTP status code 500")
			b.equal(got.GetFirstAttempt().GetDispatchTime().IsValid(), true)
		}},
		{"3.3", "v2beta3: run, list and delete", func(b *fixture) {
			w := b.worker(always(500))
			queue := b.pausedQueue()
			tasks := []*betapb.Task{b.betaTask(queue, betaTask(w.url)), b.betaTask(queue, betaTask(w.url))}
			_, err := b.beta.RunTask(b.ctx, &betapb.RunTaskRequest{Name: tasks[0].GetName()})
			b.ok(err)
			w.one()
			var names []string
			it := b.beta.ListTasks(b.ctx, &betapb.ListTasksRequest{Parent: queue, PageSize: 1})
			for {
				task, err := it.Next()
				if errors.Is(err, iterator.Done) {
					break
				}
				b.ok(err)
				names = append(names, task.GetName())
			}
			b.equal(names, []string{tasks[0].GetName(), tasks[1].GetName()})
			b.ok(b.beta.DeleteTask(b.ctx, &betapb.DeleteTaskRequest{Name: names[0]}))
			b.gone(names[0])
		}},
		{"3.5", "v2beta3: batches and their operations are in its own messages", func(b *fixture) {
			queue := b.pausedQueue()
			req := &betapb.BatchCreateTasksRequest{Parent: queue, Requests: []*betapb.CreateTaskRequest{
				{Parent: queue, Task: betaTask("https://example.com/")}, {Parent: queue, Task: betaTask("")},
			}}
			op, err := b.beta.BatchCreateTasks(b.ctx, req)
			b.ok(err)
			found := b.beta.BatchCreateTasksOperation(op.Name())
			resp, err := found.Poll(b.ctx)
			b.ok(err)
			b.equal(len(resp.GetTasks()), 1)
			meta, err := found.Metadata()
			b.ok(err)
			b.equal(meta.GetState(), betapb.BatchCreateTasksMetadata_PARTIALLY_SUCCEEDED)
			b.equal(meta.GetFailedRequests()[1].GetMessage(), "HttpRequest.url is required.")

			remove, err := b.beta.BatchDeleteTasks(b.ctx, &betapb.BatchDeleteTasksRequest{
				Parent: queue, Names: []string{resp.GetTasks()[0].GetName(), queue + "/tasks/never"},
			})
			b.ok(err)
			b.ok(remove.Wait(b.ctx))
			removed, err := remove.Metadata()
			b.ok(err)
			b.equal(removed.GetState(), betapb.BatchDeleteTasksMetadata_PARTIALLY_SUCCEEDED)
			b.equal(len(b.tasks(queue)), 0)
		}},
		{"3.5", "v2beta3: a request_id of v2 is another request", fails(codes.AlreadyExists, "", func(b *fixture) error {
			queue := b.pausedQueue()
			req := batch(queue, 1)
			req.RequestId = "6f1f1b9e-8a2b-4f4e-9a70-0b6d7f6f1c11"
			b.batchCreate(req)
			_, err := b.beta.BatchCreateTasks(b.ctx, &betapb.BatchCreateTasksRequest{
				Parent: queue, RequestId: req.GetRequestId(), Requests: []*betapb.CreateTaskRequest{{Parent: queue, Task: betaTask("https://example.com/")}},
			})
			return err
		})},
		{"3.3", "v2beta3: policies are those of v2", func(b *fixture) {
			queue := b.queue()
			set, err := b.v2.SetIamPolicy(b.ctx, &iampb.SetIamPolicyRequest{Resource: queue, Policy: &iampb.Policy{
				Bindings: []*iampb.Binding{{Role: "roles/viewer", Members: []string{"user:a@b.test"}}},
			}})
			b.ok(err)
			got, err := b.beta.GetIamPolicy(b.ctx, &iampb.GetIamPolicyRequest{Resource: queue})
			b.ok(err)
			b.protoEqual(got, set)
			_, err = b.beta.SetIamPolicy(b.ctx, &iampb.SetIamPolicyRequest{Resource: queue, Policy: got})
			b.ok(err)
			may, err := b.beta.TestIamPermissions(b.ctx, &iampb.TestIamPermissionsRequest{Resource: queue, Permissions: []string{"cloudtasks.queues.get"}})
			b.ok(err)
			b.equal(may.GetPermissions(), []string{"cloudtasks.queues.get"})
		}},
		{"4", "v2beta3: CMEK keys are those of v2", func(b *fixture) {
			b.local("a key that does not exist")
			name, key := b.parent+"/cmekConfig", "projects/p/locations/l/keyRings/r/cryptoKeys/k"
			_, err := b.beta.UpdateCmekConfig(b.ctx, &betapb.UpdateCmekConfigRequest{CmekConfig: &betapb.CmekConfig{Name: name, KmsKey: key}})
			b.ok(err)
			seen, err := b.v2.GetCmekConfig(b.ctx, &cloudtaskspb.GetCmekConfigRequest{Name: name})
			b.ok(err)
			b.equal(seen.GetKmsKey(), key)
			got, err := b.beta.GetCmekConfig(b.ctx, &betapb.GetCmekConfigRequest{Name: name})
			b.ok(err)
			b.equal(got.GetKmsKey(), key)
		}},
		{"3.4", "v2beta3: BufferTask, locations and operations under its own paths", func(b *fixture) {
			host := "worker.test"
			queue := b.pausedQueue(func(q *cloudtaskspb.Queue) {
				q.HttpTarget = &cloudtaskspb.HttpTarget{UriOverride: &cloudtaskspb.UriOverride{Host: &host}}
			})
			for path, status := range map[string]int{
				"POST /v2beta3/" + queue + "/tasks:buffer":          200,
				"GET /v2beta3/projects/p/locations":                 200,
				"GET /v2beta3/projects/p/locations/l":               200,
				"GET /v2beta3/projects/p/locations/l/operations/no": 404,
				"POST /v2beta3/" + queue + "/tasks:lease":           404, // v2beta2's
				"GET /v2beta3/" + queue + "?readMask=stats,taskTtl": 200,
				"GET /v2beta3/" + queue + "?readMask=stats.nothing": 400,
			} {
				method, path, _ := strings.Cut(path, " ")
				got, _ := b.send(method, path, "")
				if got != status {
					b.Errorf("%s %s: got %d, want %d", method, path, got, status)
				}
			}
		}},
	})
}

// TestTTLs: both TTLs take effect, and a change also applies to existing tasks and names.
func TestTTLs(t *testing.T) {
	later := func(task *cloudtaskspb.Task) { task.ScheduleTime = timestamppb.New(time.Now().Add(30 * day)) }
	again := func(b *fixture, queue string) error {
		return b.createTask(queue, httpTask("https://example.com/", func(t *cloudtaskspb.Task) { t.Name = queue + "/tasks/t" }))
	}
	conform(t, []rule{
		{"5.1", "task_ttl: a task is deleted when it is so old", func(b *fixture) {
			b.local("it takes ten days")
			queue := b.betaQueue(taskTTL(10 * day)).GetName()
			task := b.task(queue, httpTask("https://example.com/", later))
			time.Sleep(10*day - time.Second)
			b.getTask(task.GetName())
			time.Sleep(2 * time.Second)
			b.gone(task.GetName())
		}},
		{"5.1", "task_ttl: longer than the default", func(b *fixture) {
			b.local("it takes a year")
			queue := b.betaQueue(taskTTL(365 * day)).GetName()
			_, err := b.beta.PauseQueue(b.ctx, &betapb.PauseQueueRequest{Name: queue})
			b.ok(err)
			task := b.task(queue, httpTask("https://example.com/"))
			time.Sleep(364 * day)
			b.getTask(task.GetName())
			time.Sleep(day + time.Second)
			b.gone(task.GetName())
		}},
		{"5.1", "task_ttl: a shorter one holds for the tasks that are there", func(b *fixture) {
			b.local("it takes days")
			queue := b.pausedQueue()
			task := b.task(queue, httpTask("https://example.com/"))
			time.Sleep(12 * day)
			q := &betapb.Queue{Name: queue}
			taskTTL(13 * day)(q)
			b.betaUpdate(q, "task_ttl")
			b.getTask(task.GetName())
			time.Sleep(day + time.Second)
			b.gone(task.GetName())
		}},
		{"5.1", "tombstone_ttl: a name is free when it has passed, not before", func(b *fixture) {
			b.local("it takes hours")
			for _, window := range []time.Duration{time.Hour, 9 * day} {
				queue := b.betaQueue(tombstoneTTL(window)).GetName()
				b.ok(again(b, queue))
				b.ok(b.v2.DeleteTask(b.ctx, &cloudtaskspb.DeleteTaskRequest{Name: queue + "/tasks/t"}))
				time.Sleep(window - time.Second)
				b.fails(again(b, queue), codes.AlreadyExists, usedTask)
				time.Sleep(time.Second)
				b.ok(again(b, queue))
			}
		}},
		{"5.1", "tombstone_ttl: a shorter one frees names at once, a longer one holds them", func(b *fixture) {
			b.local("it takes hours")
			queue := b.betaQueue(tombstoneTTL(10 * time.Hour)).GetName()
			b.ok(again(b, queue))
			b.ok(b.v2.DeleteTask(b.ctx, &cloudtaskspb.DeleteTaskRequest{Name: queue + "/tasks/t"}))
			time.Sleep(2 * time.Hour)
			q := &betapb.Queue{Name: queue}
			tombstoneTTL(3 * time.Hour)(q)
			b.betaUpdate(q, "tombstone_ttl")
			b.fails(again(b, queue), codes.AlreadyExists, usedTask)
			tombstoneTTL(time.Hour)(q)
			b.betaUpdate(q, "tombstone_ttl")
			b.ok(again(b, queue))
		}},
	})
}

// TestStats: the stats of a queue in v2beta3 over time.
func TestStats(t *testing.T) {
	conform(t, []rule{
		{"5.1", "stats: depth, the next arrival, responses of the last minute, dispatches in flight, rate", func(b *fixture) {
			hold := make(chan struct{})
			w := b.worker(func(nth int, rw http.ResponseWriter, _ *http.Request) {
				switch nth {
				case 1:
					rw.WriteHeader(http.StatusInternalServerError)
				case 3:
					<-hold
				}
			})
			queue := b.queue(rate(20), retry(&cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(time.Hour)}))
			stats := func() *betapb.QueueStats { return b.betaGet(queue, "stats").GetStats() }
			b.protoEqual(stats(), &betapb.QueueStats{EffectiveExecutionRate: 20})

			start := time.Now().Truncate(time.Microsecond)
			for range 3 { // the first fails, the second ends well, the third hangs
				b.task(queue, httpTask(w.url))
				w.after(time.Second)
			}
			due := start.Add(time.Hour)
			got := stats()
			b.equal(got.GetOldestEstimatedArrivalTime().AsTime().Sub(due).Abs() < time.Second, true)
			got.OldestEstimatedArrivalTime = nil
			b.protoEqual(got, &betapb.QueueStats{TasksCount: 2, ExecutedLastMinuteCount: 2, ConcurrentDispatchesCount: 1, EffectiveExecutionRate: 20})

			time.Sleep(50 * time.Second)
			b.equal(stats().GetExecutedLastMinuteCount(), int64(2))
			time.Sleep(10 * time.Second)
			b.equal(stats().GetExecutedLastMinuteCount(), int64(0))
			close(hold)
			w.after(time.Second)
			got = stats()
			got.OldestEstimatedArrivalTime = nil
			b.protoEqual(got, &betapb.QueueStats{TasksCount: 1, ExecutedLastMinuteCount: 1, EffectiveExecutionRate: 20})
		}},
	})
}
