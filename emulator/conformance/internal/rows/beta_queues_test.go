package rows

import (
	"errors"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

// defaultBetaQueue is a queue that was created without settings. Its TTLs are the
// defaults of the emulator.
func defaultBetaQueue(name string) *betapb.Queue {
	return &betapb.Queue{
		Name:       name,
		State:      betapb.Queue_RUNNING,
		Type:       betapb.Queue_PUSH,
		RateLimits: &betapb.RateLimits{MaxDispatchesPerSecond: 500, MaxBurstSize: 100, MaxConcurrentDispatches: 1000},
		RetryConfig: &betapb.RetryConfig{
			MaxAttempts: 100, MinBackoff: durationpb.New(100 * time.Millisecond), MaxBackoff: durationpb.New(time.Hour), MaxDoublings: 16,
		},
		TaskTtl:      durationpb.New(31 * day),
		TombstoneTtl: durationpb.New(day),
	}
}

// everyBetaSetting is a queue with every field that a caller may set.
func everyBetaSetting(q *betapb.Queue) {
	host, port := "worker.test", int64(8080)
	q.QueueType = &betapb.Queue_AppEngineHttpQueue{AppEngineHttpQueue: &betapb.AppEngineHttpQueue{
		AppEngineRoutingOverride: &betapb.AppEngineRouting{Service: "s", Version: "v", Instance: "i"},
	}}
	q.HttpTarget = &betapb.HttpTarget{
		UriOverride: &betapb.UriOverride{
			Scheme: betapb.UriOverride_HTTP.Enum(), Host: &host, Port: &port,
			PathOverride: &betapb.PathOverride{Path: "/p"}, QueryOverride: &betapb.QueryOverride{QueryParams: "a=b"},
			UriOverrideEnforceMode: betapb.UriOverride_IF_NOT_EXISTS,
		},
		HttpMethod: betapb.HttpMethod_PATCH,
		HeaderOverrides: []*betapb.HttpTarget_HeaderOverride{
			{Header: &betapb.HttpTarget_Header{Key: "A", Value: "1"}}, {Header: &betapb.HttpTarget_Header{Key: "B", Value: "2"}},
		},
		AuthorizationHeader: &betapb.HttpTarget_OidcToken{OidcToken: &betapb.OidcToken{ServiceAccountEmail: "a@b.test", Audience: "aud"}},
	}
	q.RateLimits = &betapb.RateLimits{MaxDispatchesPerSecond: 7.5, MaxBurstSize: 33, MaxConcurrentDispatches: 44}
	q.RetryConfig = &betapb.RetryConfig{
		MaxAttempts: 5, MaxRetryDuration: durationpb.New(time.Minute),
		MinBackoff: durationpb.New(time.Second), MaxBackoff: durationpb.New(time.Hour), MaxDoublings: 3,
	}
	q.StackdriverLoggingConfig = &betapb.StackdriverLoggingConfig{SamplingRatio: 0.5}
	q.TaskTtl, q.TombstoneTtl = durationpb.New(20*day), durationpb.New(2*time.Hour)
}

func TestBetaQueues(t *testing.T) {
	conform(t, []rule{
		{"5.1", "v2beta3: a queue made without options", func(b *fixture) {
			name := b.freshName()
			b.protoEqual(b.betaQueue(func(q *betapb.Queue) { q.Name = name }), defaultBetaQueue(name))
			b.protoEqual(b.betaGet(name), defaultBetaQueue(name))
			b.protoEqual(b.getQueue(name), defaultQueue(name))
		}},
		{"5.1", "v2beta3: a queue made through v2 is the same queue", func(b *fixture) {
			name := b.queue()
			b.protoEqual(b.betaGet(name), defaultBetaQueue(name))
		}},
		{"5.1", "v2beta3: every setting is kept, and seen by v2", func(b *fixture) {
			want := &betapb.Queue{Name: b.freshName()}
			everyBetaSetting(want)
			created := b.betaQueue(everyBetaSetting, func(q *betapb.Queue) { q.Name = want.GetName() })
			want.State, want.Type = betapb.Queue_RUNNING, betapb.Queue_PUSH
			want.GetAppEngineHttpQueue().GetAppEngineRoutingOverride().Host = created.GetAppEngineHttpQueue().GetAppEngineRoutingOverride().GetHost()
			b.protoEqual(created, want)
			b.protoEqual(b.betaGet(want.GetName()), want)

			seen := b.getQueue(want.GetName())
			b.equal(seen.GetAppEngineRoutingOverride().GetService(), "s")
			b.equal(seen.GetHttpTarget().GetUriOverride().GetHost(), "worker.test")
			b.equal(seen.GetHttpTarget().GetUriOverride().GetScheme(), cloudtaskspb.UriOverride_HTTP)
			b.equal(seen.GetHttpTarget().GetHeaderOverrides()[1].GetHeader().GetKey(), "B")
			b.equal(seen.GetHttpTarget().GetOidcToken().GetAudience(), "aud")
			b.equal(seen.GetRateLimits().GetMaxBurstSize(), int32(33))
		}},
		{"5.1", "v2beta3: UpdateQueue creates, replaces by an empty mask, and changes what a mask names", func(b *fixture) {
			name := b.freshName()
			b.protoEqual(b.betaUpdate(&betapb.Queue{Name: name, TaskTtl: durationpb.New(12 * day)}, "task_ttl").GetTaskTtl(), durationpb.New(12*day))
			want := defaultBetaQueue(name)
			want.TombstoneTtl = durationpb.New(3 * time.Hour)
			b.protoEqual(b.betaUpdate(&betapb.Queue{Name: name, TombstoneTtl: durationpb.New(3 * time.Hour)}), want)
			want.RetryConfig.MaxAttempts = 9
			b.protoEqual(b.betaUpdate(&betapb.Queue{Name: name, RetryConfig: &betapb.RetryConfig{MaxAttempts: 9}}, "retry_config.max_attempts"), want)
			b.protoEqual(b.betaGet(name), want)
		}},
		{"5.1", "v2beta3: UpdateQueue sets and clears the App Engine override by its own path", func(b *fixture) {
			name := b.queue()
			const path = "app_engine_http_queue.app_engine_routing_override"
			q := b.betaUpdate(&betapb.Queue{Name: name, QueueType: &betapb.Queue_AppEngineHttpQueue{AppEngineHttpQueue: &betapb.AppEngineHttpQueue{
				AppEngineRoutingOverride: &betapb.AppEngineRouting{Service: "s"},
			}}}, path)
			b.equal(q.GetAppEngineHttpQueue().GetAppEngineRoutingOverride().GetService(), "s")
			b.betaUpdate(&betapb.Queue{Name: name}, path)
			b.protoEqual(b.getQueue(name), defaultQueue(name))
		}},
		{"5.1", "v2beta3: an update through v2 leaves the TTLs alone", func(b *fixture) {
			name := b.betaQueue(taskTTL(12*day), tombstoneTTL(2*time.Hour)).GetName()
			b.update(&cloudtaskspb.Queue{Name: name})
			got := b.betaGet(name)
			b.protoEqual(got.GetTaskTtl(), durationpb.New(12*day))
			b.protoEqual(got.GetTombstoneTtl(), durationpb.New(2*time.Hour))
		}},
		{"5.1", "v2beta3: what only the service sets is ignored", func(b *fixture) {
			name := b.betaQueue(func(q *betapb.Queue) {
				q.State, q.Stats = betapb.Queue_PAUSED, &betapb.QueueStats{TasksCount: 9}
			}).GetName()
			b.betaUpdate(&betapb.Queue{Name: name, State: betapb.Queue_PAUSED, Stats: &betapb.QueueStats{TasksCount: 9}, Type: betapb.Queue_PULL},
				"state", "stats", "type")
			b.protoEqual(b.betaGet(name), defaultBetaQueue(name))
		}},
		{"5.1", "v2beta3: max_burst_size follows a rate that changes without it, and nothing else", func(b *fixture) {
			name := b.betaQueue(betaLimits(500, 42)).GetName()
			limits := func(l *betapb.RateLimits, paths ...string) int32 {
				return b.betaUpdate(&betapb.Queue{Name: name, RateLimits: l}, paths...).GetRateLimits().GetMaxBurstSize()
			}
			b.equal(limits(&betapb.RateLimits{MaxConcurrentDispatches: 3}, "rate_limits.max_concurrent_dispatches"), int32(42))
			b.equal(limits(&betapb.RateLimits{MaxDispatchesPerSecond: 500}, "rate_limits.max_dispatches_per_second"), int32(42))
			b.equal(limits(&betapb.RateLimits{MaxDispatchesPerSecond: 400}, "rate_limits.max_dispatches_per_second"), int32(80))
			b.equal(limits(&betapb.RateLimits{MaxDispatchesPerSecond: 300, MaxBurstSize: 500}, "rate_limits"), int32(500))
			b.equal(b.getQueue(name).GetRateLimits().GetMaxBurstSize(), int32(500))
			b.equal(b.update(&cloudtaskspb.Queue{Name: name, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 2}}, "retry_config").
				GetRateLimits().GetMaxBurstSize(), int32(60)) // any update through v2 resets it
		}},
		{"5.1", "v2beta3: so many tasks go out at once as the burst has", func(b *fixture) {
			w := b.worker(nil)
			name := b.betaQueue(betaLimits(0.01, 3)).GetName()
			for range 5 {
				b.task(name, httpTask(w.url))
			}
			b.equal(len(w.after(time.Second)), 3)
		}},
		{"5.1", "v2beta3: pause, resume, purge and delete", func(b *fixture) {
			name := b.betaQueue().GetName()
			q, err := b.beta.PauseQueue(b.ctx, &betapb.PauseQueueRequest{Name: name})
			b.ok(err)
			b.equal(q.GetState(), betapb.Queue_PAUSED)
			b.equal(b.getQueue(name).GetState(), cloudtaskspb.Queue_PAUSED)
			b.task(name, httpTask("https://example.com/"))
			q, err = b.beta.PurgeQueue(b.ctx, &betapb.PurgeQueueRequest{Name: name})
			b.ok(err)
			if !q.GetPurgeTime().IsValid() {
				b.Fatalf("purge time %v", q.GetPurgeTime())
			}
			b.local("a purge takes up to a minute")
			b.equal(len(b.tasks(name)), 0)
			q, err = b.beta.ResumeQueue(b.ctx, &betapb.ResumeQueueRequest{Name: name})
			b.ok(err)
			b.equal(q.GetState(), betapb.Queue_RUNNING)
			b.ok(b.beta.DeleteQueue(b.ctx, &betapb.DeleteQueueRequest{Name: name}))
			_, err = b.v2.GetQueue(b.ctx, &cloudtaskspb.GetQueueRequest{Name: name})
			b.fails(err, codes.NotFound, noQueue)
		}},
		{"3.2", "v2beta3: ListQueues pages and filters, by its own fields too", func(b *fixture) {
			b.local("the project may have other queues")
			long, short := b.betaQueue(taskTTL(300*day)).GetName(), b.betaQueue(taskTTL(11*day)).GetName()
			list := func(req *betapb.ListQueuesRequest) (names []string) {
				req.Parent = b.parent
				it := b.beta.ListQueues(b.ctx, req)
				for {
					q, err := it.Next()
					if errors.Is(err, iterator.Done) {
						return names
					}
					b.ok(err)
					names = append(names, q.GetName())
				}
			}
			b.equal(list(&betapb.ListQueuesRequest{Filter: `name="` + short + `"`}), []string{short})
			b.equal(len(list(&betapb.ListQueuesRequest{PageSize: 1})), 2)
			b.equal(list(&betapb.ListQueuesRequest{Filter: "type=PULL"}), []string(nil))
			b.equal(list(&betapb.ListQueuesRequest{Filter: `name="` + long + `"`, ReadMask: readMask([]string{"task_ttl"})}), []string{""})
		}},
		{"5.1", "v2beta3: a read mask shows what it names, and statistics only then", func(b *fixture) {
			name := b.betaQueue(betaLimits(5, 0)).GetName()
			b.protoEqual(b.betaGet(name, "name", "rate_limits.max_burst_size", "task_ttl"), &betapb.Queue{
				Name: name, RateLimits: &betapb.RateLimits{MaxBurstSize: 10}, TaskTtl: durationpb.New(31 * day),
			})
			b.protoEqual(b.betaGet(name, "stats"), &betapb.Queue{Stats: &betapb.QueueStats{EffectiveExecutionRate: 5}})
			b.protoEqual(b.betaGet(name, "stats.effective_execution_rate"), &betapb.Queue{Stats: &betapb.QueueStats{EffectiveExecutionRate: 5}})
		}},
		{"5.1", "v2beta3: a read mask of * is none", func(b *fixture) {
			b.grpcOnly("its client cannot encode such a mask")
			name := b.queue()
			b.protoEqual(b.betaGet(name, "*"), defaultBetaQueue(name))
		}},
	})
}
