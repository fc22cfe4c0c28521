package conformance_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

func (b *bench) update(q *cloudtaskspb.Queue, paths ...string) *cloudtaskspb.Queue {
	b.Helper()
	req := &cloudtaskspb.UpdateQueueRequest{Queue: q}
	if len(paths) > 0 {
		req.UpdateMask = &fieldmaskpb.FieldMask{Paths: paths}
	}
	updated, err := b.client.UpdateQueue(b.ctx, req)
	b.ok(err)
	return updated
}

// listQueues reads all pages of a size and returns the IDs by page.
func (b *bench) listQueues(size int32, filter string) [][]string {
	b.Helper()
	var pages [][]string
	token := ""
	for {
		var page []*cloudtaskspb.Queue
		it := b.client.ListQueues(b.ctx, &cloudtaskspb.ListQueuesRequest{Parent: b.parent, Filter: filter, PageSize: size})
		next, err := iterator.NewPager(it, int(size), token).NextPage(&page)
		b.ok(err)
		var names []string
		for _, q := range page {
			names = append(names, q.GetName())
		}
		pages = append(pages, names)
		if token = next; token == "" {
			return pages
		}
	}
}

func (b *bench) protoEqual(got, want proto.Message) {
	b.Helper()
	if !proto.Equal(got, want) {
		b.Fatalf("got:  %v\nwant: %v", got, want)
	}
}

// defaultQueue is what a queue made without options looks like.
func defaultQueue(name string) *cloudtaskspb.Queue {
	return &cloudtaskspb.Queue{
		Name:       name,
		State:      cloudtaskspb.Queue_RUNNING,
		RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 500, MaxBurstSize: 100, MaxConcurrentDispatches: 1000},
		RetryConfig: &cloudtaskspb.RetryConfig{
			MaxAttempts: 100, MinBackoff: durationpb.New(100 * time.Millisecond), MaxBackoff: durationpb.New(time.Hour), MaxDoublings: 16,
		},
	}
}

func TestQueues(t *testing.T) {
	conform(t, []rule{
		{"6.1", "a queue made without options", func(b *bench) {
			name := b.queue()
			b.protoEqual(b.getQueue(name), defaultQueue(name))
		}},
		{"6.2", "fields left out are defaulted one by one", func(b *bench) {
			name := b.queue(rate(5), retry(&cloudtaskspb.RetryConfig{MaxAttempts: 5}))
			want := defaultQueue(name)
			want.RateLimits.MaxDispatchesPerSecond, want.RateLimits.MaxBurstSize = 5, 10
			want.RetryConfig.MaxAttempts = 5
			b.protoEqual(b.getQueue(name), want)
		}},
		{"22", "burst is the larger of 10 and a fifth of the rate", func(b *bench) {
			for perSecond, burst := range map[float64]int32{0.25: 10, 1: 10, 500: 100} {
				b.equal(b.getQueue(b.queue(rate(perSecond))).GetRateLimits().GetMaxBurstSize(), burst)
			}
		}},
		{"3.2", "output-only fields in a request are ignored", func(b *bench) {
			name := b.queue(func(q *cloudtaskspb.Queue) {
				q.State = cloudtaskspb.Queue_PAUSED
				q.RateLimits = &cloudtaskspb.RateLimits{MaxBurstSize: 77}
			})
			b.protoEqual(b.getQueue(name), defaultQueue(name))
		}},
		{"6.2", "fractional rates are legal", func(b *bench) {
			b.equal(b.getQueue(b.queue(rate(0.5))).GetRateLimits().GetMaxDispatchesPerSecond(), 0.5)
		}},
		{"4", "maxAttempts of -1 is kept", func(b *bench) {
			b.equal(b.getQueue(b.queue(retry(&cloudtaskspb.RetryConfig{MaxAttempts: -1}))).GetRetryConfig().GetMaxAttempts(), int32(-1))
		}},
		{"4", "the logging ratio is stored", func(b *bench) {
			name := b.queue(func(q *cloudtaskspb.Queue) {
				q.StackdriverLoggingConfig = &cloudtaskspb.StackdriverLoggingConfig{SamplingRatio: 0.5}
			})
			b.equal(b.getQueue(name).GetStackdriverLoggingConfig().GetSamplingRatio(), 0.5)
		}},
		{"3.2", "ListQueues is in the order of names, in pages of at most the asked size", func(b *bench) {
			var names []string
			for range 5 {
				names = append(names, b.queue())
			}
			slices.Sort(names)
			b.local("the project may have other queues")
			b.equal(b.listQueues(2, ""), [][]string{names[:2], names[2:4], names[4:]})
		}},
		{"3.2", "ListQueues filters", func(b *bench) {
			paused, slow, _ := b.pausedQueue(), b.queue(rate(3)), b.queue()
			b.local("the project may have other queues")
			for filter, want := range map[string]string{
				"state: PAUSED": paused, "state=PAUSED": paused, "state != RUNNING": paused,
				"rateLimits.maxDispatchesPerSecond<=3": slow, "rate_limits.max_dispatches_per_second < 4": slow,
				`name="` + slow + `"`: slow,
			} {
				got := b.listQueues(10, filter)
				if !slices.EqualFunc(got, [][]string{{want}}, slices.Equal) {
					b.Errorf("filter %s: got %v, want %v", filter, got, want)
				}
			}
		}},
		{"3.2", "ListQueues with another filter than the page token's", func(b *bench) {
			b.queue()
			b.queue()
			var page []*cloudtaskspb.Queue
			it := b.client.ListQueues(b.ctx, &cloudtaskspb.ListQueuesRequest{Parent: b.parent})
			token, err := iterator.NewPager(it, 1, "").NextPage(&page)
			b.ok(err)
			it = b.client.ListQueues(b.ctx, &cloudtaskspb.ListQueuesRequest{Parent: b.parent, Filter: "state=RUNNING", PageToken: token})
			_, err = it.Next()
			b.fails(err, codes.InvalidArgument, "")
		}},
		{"3.2", "a page token lives two hours", func(b *bench) {
			b.local("it takes two hours")
			b.queue()
			b.queue()
			var page []*cloudtaskspb.Queue
			it := b.client.ListQueues(b.ctx, &cloudtaskspb.ListQueuesRequest{Parent: b.parent})
			token, err := iterator.NewPager(it, 1, "").NextPage(&page)
			b.ok(err)
			time.Sleep(2*time.Hour - time.Minute)
			_, err = b.client.ListQueues(b.ctx, &cloudtaskspb.ListQueuesRequest{Parent: b.parent, PageToken: token}).Next()
			b.ok(err)
			time.Sleep(2 * time.Minute)
			_, err = b.client.ListQueues(b.ctx, &cloudtaskspb.ListQueuesRequest{Parent: b.parent, PageToken: token}).Next()
			b.fails(err, codes.InvalidArgument, "")
		}},
		{"3.3", "UpdateQueue creates a queue that does not exist", func(b *bench) {
			name := b.freshName()
			b.protoEqual(b.update(&cloudtaskspb.Queue{Name: name}), defaultQueue(name))
			b.protoEqual(b.getQueue(name), defaultQueue(name))
		}},
		{"3.3", "UpdateQueue with a leaf path leaves the rest alone", func(b *bench) {
			name := b.queue(retry(&cloudtaskspb.RetryConfig{MaxAttempts: 7, MaxDoublings: 3}))
			got := b.update(&cloudtaskspb.Queue{
				Name: name, RetryConfig: &cloudtaskspb.RetryConfig{MaxAttempts: 9, MaxDoublings: 1}, RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 1},
			}, "retry_config.max_attempts")
			want := defaultQueue(name)
			want.RetryConfig.MaxAttempts, want.RetryConfig.MaxDoublings = 9, 3
			b.protoEqual(got, want)
			b.protoEqual(b.getQueue(name), want)
		}},
		{"3.3", "UpdateQueue with a path of a whole message", func(b *bench) {
			name := b.queue(retry(&cloudtaskspb.RetryConfig{MaxAttempts: 7}))
			got := b.update(&cloudtaskspb.Queue{Name: name, RetryConfig: &cloudtaskspb.RetryConfig{MaxDoublings: 2}}, "retry_config")
			b.equal(got.GetRetryConfig().GetMaxDoublings(), int32(2))
		}},
		{"9.8", "UpdateQueue clears what the mask names and the body lacks", func(b *bench) {
			name := b.queue(func(q *cloudtaskspb.Queue) {
				q.HttpTarget = &cloudtaskspb.HttpTarget{HttpMethod: cloudtaskspb.HttpMethod_PUT}
			})
			b.equal(b.getQueue(name).GetHttpTarget().GetHttpMethod(), cloudtaskspb.HttpMethod_PUT)
			b.protoEqual(b.update(&cloudtaskspb.Queue{Name: name}, "http_target"), defaultQueue(name))
		}},
		{"3.3", "UpdateQueue cannot change the state", func(b *bench) {
			name := b.queue()
			b.equal(b.update(&cloudtaskspb.Queue{Name: name, State: cloudtaskspb.Queue_PAUSED}).GetState(), cloudtaskspb.Queue_RUNNING)
		}},
		{"3.3", "UpdateQueue with a path that is no field", fails(codes.InvalidArgument, "", func(b *bench) error {
			_, err := b.client.UpdateQueue(b.ctx, &cloudtaskspb.UpdateQueueRequest{
				Queue: &cloudtaskspb.Queue{Name: b.queue()}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"colour"}},
			})
			return err
		})},
		{"12.1", "UpdateQueue is validated like CreateQueue", fails(codes.InvalidArgument, "RateLimits.maxDispatchesPerSecond must be less than or equal to 500.",
			func(b *bench) error {
				_, err := b.client.UpdateQueue(b.ctx, &cloudtaskspb.UpdateQueueRequest{
					Queue: &cloudtaskspb.Queue{Name: b.queue(), RateLimits: &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: 501}},
				})
				return err
			})},
		{"6.4", "PauseQueue, and pausing again; ResumeQueue, and resuming again", func(b *bench) {
			name := b.queue()
			for range 2 {
				q, err := b.client.PauseQueue(b.ctx, &cloudtaskspb.PauseQueueRequest{Name: name})
				b.ok(err)
				b.equal(q.GetState(), cloudtaskspb.Queue_PAUSED)
			}
			b.equal(b.getQueue(name).GetState(), cloudtaskspb.Queue_PAUSED)
			for range 2 {
				q, err := b.client.ResumeQueue(b.ctx, &cloudtaskspb.ResumeQueueRequest{Name: name})
				b.ok(err)
				b.equal(q.GetState(), cloudtaskspb.Queue_RUNNING)
			}
		}},
		{"6.4", "tasks are created but not dispatched while paused, and go out on resume", func(b *bench) {
			w := b.worker(nil)
			queue := b.pausedQueue()
			b.task(queue, httpTask(w.url))
			b.equal(len(w.after(time.Hour)), 0)
			_, err := b.client.ResumeQueue(b.ctx, &cloudtaskspb.ResumeQueueRequest{Name: queue})
			b.ok(err)
			w.one()
		}},
		{"3.3", "PurgeQueue removes the tasks and sets a purge time truncated to the microsecond", func(b *bench) {
			queue := b.pausedQueue()
			b.task(queue, httpTask("https://example.com/"))
			q, err := b.client.PurgeQueue(b.ctx, &cloudtaskspb.PurgeQueueRequest{Name: queue})
			b.ok(err)
			if !q.GetPurgeTime().IsValid() || q.GetPurgeTime().GetNanos()%1000 != 0 {
				b.Fatalf("purge time %v", q.GetPurgeTime())
			}
			b.local("a purge takes up to a minute")
			b.equal(len(b.tasks(queue)), 0)
			b.task(queue, httpTask("https://example.com/"))
			b.equal(len(b.tasks(queue)), 1)
		}},
		{"6.5", "names of purged tasks stay reserved", fails(codes.AlreadyExists, usedTask, func(b *bench) error {
			b.local("a purge takes up to a minute")
			queue := b.pausedQueue()
			task := httpTask("https://example.com/", func(t *cloudtaskspb.Task) { t.Name = queue + "/tasks/t" })
			b.task(queue, task)
			_, err := b.client.PurgeQueue(b.ctx, &cloudtaskspb.PurgeQueueRequest{Name: queue})
			b.ok(err)
			return b.createTask(queue, task)
		})},
		{"3.3", "DeleteQueue deletes the queue with its tasks", func(b *bench) {
			queue := b.pausedQueue()
			task := b.task(queue, httpTask("https://example.com/"))
			b.deleteQueue(queue)
			b.gone(task.GetName())
			it := b.client.ListTasks(b.ctx, &cloudtaskspb.ListTasksRequest{Parent: queue})
			if _, err := it.Next(); errors.Is(err, iterator.Done) {
				b.Fatal("the tasks of a deleted queue are listed")
			} else {
				b.fails(err, codes.NotFound, noQueue)
			}
		}},
		{"6.6", "a queue's name can be used again after its window", func(b *bench) {
			b.local("it takes a week")
			name := b.queue()
			b.deleteQueue(name)
			time.Sleep(7*24*time.Hour + time.Second)
			b.ok(b.createQueue(&cloudtaskspb.Queue{Name: name}))
		}},
	})
}
