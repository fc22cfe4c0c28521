package conformance_test

import (
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	noQueue  = "Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize."
	noEntity = "Requested entity was not found."
)

// refusedQueue is a row's test for a queue that cannot be created.
func refusedQueue(message string, edit func(*cloudtaskspb.Queue)) func(*bench) {
	return fails(codes.InvalidArgument, message, func(b *bench) error {
		q := &cloudtaskspb.Queue{Name: b.freshName()}
		edit(q)
		return b.createQueue(q)
	})
}

func rate(perSecond float64) func(*cloudtaskspb.Queue) {
	return func(q *cloudtaskspb.Queue) {
		q.RateLimits = &cloudtaskspb.RateLimits{MaxDispatchesPerSecond: perSecond}
	}
}

func concurrency(n int32) func(*cloudtaskspb.Queue) {
	return func(q *cloudtaskspb.Queue) {
		q.RateLimits = &cloudtaskspb.RateLimits{MaxConcurrentDispatches: n}
	}
}

func retry(c *cloudtaskspb.RetryConfig) func(*cloudtaskspb.Queue) {
	return func(q *cloudtaskspb.Queue) { q.RetryConfig = c }
}

func named(id string) func(*cloudtaskspb.Queue) {
	return func(q *cloudtaskspb.Queue) { q.Name = q.GetName()[:strings.LastIndexByte(q.GetName(), '/')+1] + id }
}

const badQueueName = `Queue name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>".`

func TestQueueErrors(t *testing.T) {
	conform(t, []rule{
		{"12.1", "CreateQueue: exists", fails(codes.AlreadyExists, "Queue already exists", func(b *bench) error {
			return b.createQueue(&cloudtaskspb.Queue{Name: b.queue()})
		})},
		{"12.1", "CreateQueue: deleted recently", fails(codes.FailedPrecondition,
			"The queue cannot be created because a queue with this name existed too recently.", func(b *bench) error {
				name := b.queue()
				b.deleteQueue(name)
				return b.createQueue(&cloudtaskspb.Queue{Name: name})
			})},
		{"12.1", "CreateQueue: an underscore in the name", refusedQueue(badQueueName, named("under_score"))},
		{"12.1", "CreateQueue: no name", refusedQueue("", func(q *cloudtaskspb.Queue) { q.Name = "" })},
		{"2", "CreateQueue: an ID of 100 characters", func(b *bench) {
			b.ok(b.createQueue(&cloudtaskspb.Queue{Name: (b.freshName() + strings.Repeat("x", 100))[:len(b.parent)+len("/queues/")+100]}))
		}},
		{"2", "CreateQueue: an ID of 101 characters", refusedQueue(badQueueName, named(strings.Repeat("x", 101)))},
		{"12.1", "CreateQueue: a bad name comes with a Help link", func(b *bench) {
			err := b.createQueue(&cloudtaskspb.Queue{Name: b.parent + "/queues/under_score"})
			help := b.fails(err, codes.InvalidArgument, badQueueName).detail("Help")
			b.equal(help["links"], any([]any{map[string]any{
				"description": "Definition of queue name",
				"url":         "https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues#Queue.FIELDS.name",
			}}))
		}},
		{"12.1", "CreateQueue: malformed parent", func(b *bench) {
			b.grpcOnly("such a path has no route")
			_, err := b.client.CreateQueue(b.ctx, &cloudtaskspb.CreateQueueRequest{
				Parent: "not-a-valid-parent", Queue: &cloudtaskspb.Queue{Name: "not-a-valid-parent/queues/q"},
			})
			got := b.fails(err, codes.PermissionDenied, "Permission denied on resource project not-a-valid-parent.")
			b.equal(got.detail("ErrorInfo")["reason"], any("CONSUMER_INVALID"))
			b.equal(got.detail("ErrorInfo")["domain"], any("googleapis.com"))
		}},
		{"22", "CreateQueue: name outside parent", func(b *bench) {
			other := b.parent + "-b/queues/q"
			err := b.createQueue(&cloudtaskspb.Queue{Name: other})
			b.fails(err, codes.InvalidArgument, other+" must begin with "+b.parent+".")
		}},
		{"12.1", "rate below 0", refusedQueue("RateLimits.maxDispatchesPerSecond cannot be negative.", rate(-1))},
		{"12.1", "rate above 500", refusedQueue("RateLimits.maxDispatchesPerSecond must be less than or equal to 500.", rate(500.1))},
		{"12.1", "concurrency below 0", refusedQueue("RateLimits.maxConcurrentDispatches cannot be negative.", concurrency(-1))},
		{"12.1", "concurrency above 5000", refusedQueue("RateLimits.maxConcurrentDispatches must be less than or equal to 5000.", concurrency(5001))},
		{"12.1", "maxAttempts below -1", refusedQueue("RetryConfig.maxAttempts must be greater or equal to -1.",
			retry(&cloudtaskspb.RetryConfig{MaxAttempts: -2}))},
		{"12.1", "maxDoublings below 0", refusedQueue("RetryConfig.maxDoublings cannot be negative.",
			retry(&cloudtaskspb.RetryConfig{MaxDoublings: -1}))},
		{"12.1", "minBackoff below 0", refusedQueue("RetryConfig.minBackoff cannot be negative.",
			retry(&cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(-time.Second)}))},
		{"12.1", "minBackoff above maxBackoff", refusedQueue("RetryConfig.minBackoff must be less than or equal to RetryConfig.maxBackoff.",
			retry(&cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(20 * time.Second), MaxBackoff: durationpb.New(10 * time.Second)}))},
		{"12.1", "an empty uri_override.host", refusedQueue("", func(q *cloudtaskspb.Queue) {
			q.HttpTarget = &cloudtaskspb.HttpTarget{UriOverride: &cloudtaskspb.UriOverride{Host: new(string)}}
		})},
		{"9.8", "a uri_override.port of less than 0", refusedQueue("", func(q *cloudtaskspb.Queue) {
			port := int64(-1)
			q.HttpTarget = &cloudtaskspb.HttpTarget{UriOverride: &cloudtaskspb.UriOverride{Port: &port}}
		})},
		{"9.8", "a queue-level token without an email", refusedQueue("service_account_email must be set.", func(q *cloudtaskspb.Queue) {
			q.HttpTarget = &cloudtaskspb.HttpTarget{AuthorizationHeader: &cloudtaskspb.HttpTarget_OidcToken{
				OidcToken: &cloudtaskspb.OidcToken{Audience: "a"},
			}}
		})},
		{"12.1", "maxBurstSize below 0 is ignored", func(b *bench) {
			name := b.queue(func(q *cloudtaskspb.Queue) { q.RateLimits = &cloudtaskspb.RateLimits{MaxBurstSize: -1} })
			b.equal(b.getQueue(name).GetRateLimits().GetMaxBurstSize(), int32(100))
		}},
		{"12.1", "GetQueue: missing", fails(codes.NotFound, noQueue, func(b *bench) error {
			_, err := b.client.GetQueue(b.ctx, &cloudtaskspb.GetQueueRequest{Name: b.freshName()})
			return err
		})},
		{"12.1", "GetQueue: deleted recently", fails(codes.NotFound, noQueue, func(b *bench) error {
			name := b.queue()
			b.deleteQueue(name)
			_, err := b.client.GetQueue(b.ctx, &cloudtaskspb.GetQueueRequest{Name: name})
			return err
		})},
		{"12.1", "PauseQueue: missing", fails(codes.NotFound, noQueue, func(b *bench) error {
			_, err := b.client.PauseQueue(b.ctx, &cloudtaskspb.PauseQueueRequest{Name: b.freshName()})
			return err
		})},
		{"12.1", "ResumeQueue: missing", fails(codes.NotFound, noQueue, func(b *bench) error {
			_, err := b.client.ResumeQueue(b.ctx, &cloudtaskspb.ResumeQueueRequest{Name: b.freshName()})
			return err
		})},
		{"12.1", "PurgeQueue: missing", fails(codes.NotFound, noQueue, func(b *bench) error {
			_, err := b.client.PurgeQueue(b.ctx, &cloudtaskspb.PurgeQueueRequest{Name: b.freshName()})
			return err
		})},
		{"12.1", "DeleteQueue: missing", fails(codes.NotFound, noEntity, func(b *bench) error {
			return b.client.DeleteQueue(b.ctx, &cloudtaskspb.DeleteQueueRequest{Name: b.freshName()})
		})},
	})
}
