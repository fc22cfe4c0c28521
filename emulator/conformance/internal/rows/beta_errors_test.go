package rows

import (
	"testing"
	"time"

	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"cloud.google.com/go/iam/apiv1/iampb"
	"google.golang.org/grpc/codes"
)

const pullMessage = "Task.pullMessage: pull queues are not supported by this emulator."

func pullTask() *betapb.Task {
	return &betapb.Task{PayloadType: &betapb.Task_PullMessage{PullMessage: &betapb.PullMessage{Payload: []byte("p"), Tag: "t"}}}
}

func TestBetaErrors(t *testing.T) {
	const (
		badTaskTTL      = "Queue.taskTtl must be between 864000s and 315360000s."
		badTombstoneTTL = "Queue.tombstoneTtl must be between 3600s and 777600s."
	)
	conform(t, []rule{
		{"5.1", "v2beta3: task_ttl under 10 days", refusedBeta(badTaskTTL, taskTTL(10*day-time.Second))},
		{"5.1", "v2beta3: task_ttl over 10 years", refusedBeta(badTaskTTL, taskTTL(3650*day+time.Second))},
		{"5.1", "v2beta3: task_ttl of zero", refusedBeta(badTaskTTL, taskTTL(0))},
		{"5.1", "v2beta3: tombstone_ttl under an hour", refusedBeta(badTombstoneTTL, tombstoneTTL(time.Hour-time.Second))},
		{"5.1", "v2beta3: tombstone_ttl over 9 days", refusedBeta(badTombstoneTTL, tombstoneTTL(9*day+time.Second))},
		{"5.1", "v2beta3: the ends of both ranges", func(b *fixture) {
			b.betaQueue(taskTTL(10*day), tombstoneTTL(time.Hour))
			b.betaQueue(taskTTL(3650*day), tombstoneTTL(9*day))
		}},
		{"5.1", "v2beta3: max_burst_size below 0", refusedBeta("RateLimits.maxBurstSize cannot be negative.", betaLimits(1, -1))},
		{"5.1", "v2beta3: max_burst_size over 500", refusedBeta("RateLimits.maxBurstSize must be less than or equal to 500.", betaLimits(1, 501))},
		{"12.1", "v2beta3: what v2 refuses, with its texts", refusedBeta("RateLimits.maxDispatchesPerSecond must be less than or equal to 500.", betaLimits(501, 0))},
		{"12.1", "v2beta3: CreateQueue: an invalid name", refusedBeta(badQueueName, func(q *betapb.Queue) { q.Name += "_" })},
		{"12.1", "v2beta3: CreateQueue: exists in v2", fails(codes.AlreadyExists, "Queue already exists", func(b *fixture) error {
			_, err := b.betaCreate(&betapb.Queue{Name: b.queue()})
			return err
		})},
		{"5.1", "v2beta3: a pull queue", fails(codes.InvalidArgument, "Queue.type PULL: pull queues are not supported by this emulator.", func(b *fixture) error {
			b.local("the service has pull queues")
			_, err := b.betaCreate(&betapb.Queue{Name: b.freshName(), Type: betapb.Queue_PULL})
			return err
		})},
		{"5.1", "v2beta3: an update is validated like a creation, and refused whole", func(b *fixture) {
			want := b.betaQueue()
			q := &betapb.Queue{Name: want.GetName(), RetryConfig: &betapb.RetryConfig{MaxAttempts: 3}}
			tombstoneTTL(time.Minute)(q)
			_, err := b.beta.UpdateQueue(b.ctx, &betapb.UpdateQueueRequest{Queue: q})
			b.fails(err, codes.InvalidArgument, badTombstoneTTL)
			b.protoEqual(b.betaGet(want.GetName()), want)
		}},
		{"3.3", "v2beta3: UpdateQueue with an unknown path", fails(codes.InvalidArgument, "", func(b *fixture) error {
			_, err := b.beta.UpdateQueue(b.ctx, &betapb.UpdateQueueRequest{
				Queue: &betapb.Queue{Name: b.queue()}, UpdateMask: readMask([]string{"app_engine_routing_override"}), // v2's
			})
			return err
		})},
		{"5.1", "v2beta3: GetQueue with an invalid read mask", fails(codes.InvalidArgument, "", func(b *fixture) error {
			_, err := b.beta.GetQueue(b.ctx, &betapb.GetQueueRequest{Name: b.queue(), ReadMask: readMask([]string{"colour"})})
			return err
		})},
		{"5.1", "v2beta3: ListQueues with an invalid read mask", fails(codes.InvalidArgument, "", func(b *fixture) error {
			_, err := b.beta.ListQueues(b.ctx, &betapb.ListQueuesRequest{Parent: b.parent, ReadMask: readMask([]string{"colour"})}).Next()
			return err
		})},
		{"12.1", "v2beta3: an invalid filter", fails(codes.InvalidArgument, "", func(b *fixture) error {
			_, err := b.beta.ListQueues(b.ctx, &betapb.ListQueuesRequest{Parent: b.parent, Filter: "colour=red"}).Next()
			return err
		})},
		{"12.1", "v2beta3: queues that do not exist", func(b *fixture) {
			name, c := b.freshName(), b.beta
			_, get := c.GetQueue(b.ctx, &betapb.GetQueueRequest{Name: name})
			_, pause := c.PauseQueue(b.ctx, &betapb.PauseQueueRequest{Name: name})
			_, resume := c.ResumeQueue(b.ctx, &betapb.ResumeQueueRequest{Name: name})
			_, purge := c.PurgeQueue(b.ctx, &betapb.PurgeQueueRequest{Name: name})
			_, tasks := c.ListTasks(b.ctx, &betapb.ListTasksRequest{Parent: name}).Next()
			_, task := c.CreateTask(b.ctx, &betapb.CreateTaskRequest{Parent: name, Task: betaTask("https://example.com/")})
			_, batch := c.BatchCreateTasks(b.ctx, &betapb.BatchCreateTasksRequest{Parent: name})
			_, batchDelete := c.BatchDeleteTasks(b.ctx, &betapb.BatchDeleteTasksRequest{Parent: name})
			_, policy := c.GetIamPolicy(b.ctx, &iampb.GetIamPolicyRequest{Resource: name})
			_, setPolicy := c.SetIamPolicy(b.ctx, &iampb.SetIamPolicyRequest{Resource: name, Policy: new(iampb.Policy)})
			for _, err := range []error{get, pause, resume, purge, tasks, task, batch, batchDelete, policy, setPolicy} {
				b.fails(err, codes.NotFound, noQueue)
			}
			b.fails(c.DeleteQueue(b.ctx, &betapb.DeleteQueueRequest{Name: name}), codes.NotFound, noEntity)
		}},
		{"12.2", "v2beta3: tasks that do not exist", func(b *fixture) {
			name, c := b.queue()+"/tasks/t", b.beta
			_, get := c.GetTask(b.ctx, &betapb.GetTaskRequest{Name: name})
			_, run := c.RunTask(b.ctx, &betapb.RunTaskRequest{Name: name})
			for _, err := range []error{get, run, c.DeleteTask(b.ctx, &betapb.DeleteTaskRequest{Name: name})} {
				b.fails(err, codes.NotFound, noEntity)
			}
		}},
		{"5.1", "v2beta3: CreateTask with a pull message", fails(codes.InvalidArgument, pullMessage, func(b *fixture) error {
			b.local("the service has pull queues")
			_, err := b.beta.CreateTask(b.ctx, &betapb.CreateTaskRequest{Parent: b.queue(), Task: pullTask()})
			return err
		})},
		{"5.1", "v2beta3: BatchCreateTasks with a pull message creates nothing", func(b *fixture) {
			b.local("the service has pull queues")
			queue := b.pausedQueue()
			_, err := b.beta.BatchCreateTasks(b.ctx, &betapb.BatchCreateTasksRequest{Parent: queue, Requests: []*betapb.CreateTaskRequest{
				{Parent: queue, Task: betaTask("https://example.com/")}, {Parent: queue, Task: pullTask()},
			}})
			b.fails(err, codes.InvalidArgument, pullMessage)
			b.equal(len(b.tasks(queue)), 0)
		}},
		{"12.2", "v2beta3: CreateTask without a target", fails(codes.InvalidArgument, "Task.payload_type is not set", func(b *fixture) error {
			_, err := b.beta.CreateTask(b.ctx, &betapb.CreateTaskRequest{Parent: b.queue(), Task: new(betapb.Task)})
			return err
		})},
		{"12.2", "v2beta3: CreateTask under a name that v2 has used", fails(codes.AlreadyExists, "Requested entity already exists", func(b *fixture) error {
			task := b.task(b.pausedQueue(), httpTask("https://example.com/"))
			second := betaTask("https://example.com/")
			second.Name = task.GetName()
			_, err := b.beta.CreateTask(b.ctx, &betapb.CreateTaskRequest{Parent: task.GetName()[:len(task.GetName())-len("/tasks/")-20], Task: second})
			return err
		})},
		{"4", "v2beta3: an invalid CMEK key", fails(codes.InvalidArgument, "", func(b *fixture) error {
			_, err := b.beta.UpdateCmekConfig(b.ctx, &betapb.UpdateCmekConfigRequest{CmekConfig: &betapb.CmekConfig{Name: b.parent + "/cmekConfig", KmsKey: "k"}})
			return err
		})},
	})
}
