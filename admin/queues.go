package admin

import (
	"context"
	"iter"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/brillconsulting/handoff/internal/rpc"
)

// Queues manages the queues of an [Admin]'s location. Its methods take queue
// IDs. It is safe for concurrent use.
type Queues struct{ a *Admin }

// State is the state of a queue.
type State string

// The states of a queue. Tasks can be created in all of them.
const (
	Running  State = "RUNNING"
	Paused   State = "PAUSED"
	Disabled State = "DISABLED" // by a queue.yaml without the queue; ended by Resume
)

// Queue is a queue of the service.
type Queue struct {
	Name     string // resource name
	State    State
	PurgedAt time.Time // tasks created before it were purged; zero: never
	MaxBurst int       // the greatest burst of dispatches, chosen by the service

	// Config is the configuration of the queue, with every field set. It can be
	// passed to Ensure. A minimum backoff of zero, which other tools can set,
	// stands for the default there. The TTLs are known only together with Stats.
	Config QueueConfig

	// Stats are the queue's statistics, from [Queues.Inspect] or
	// [ListQueues].Stats; nil otherwise.
	Stats *Stats
}

// Stats are estimates of a queue's tasks and traffic
// (https://cloud.google.com/tasks/docs/reference/rest/v2beta3/projects.locations.queues#QueueStats).
type Stats struct {
	Tasks                int64     // not yet done: waiting, being dispatched, being retried
	OldestArrival        time.Time // when the next task is due; zero: unknown or none
	ExecutedLastMinute   int64     // responses in the last minute, good and bad
	ConcurrentDispatches int64     // dispatched without a response yet
	EffectiveRate        float64   // possible dispatches a second: the queue's limit, or less while the service throttles
}

func (a *Admin) queueName(id string) string { return a.parent + "/queues/" + id }

func queueOf(q *cloudtaskspb.Queue) Queue {
	return Queue{
		Name:     q.GetName(),
		State:    State(q.GetState().String()),
		PurgedAt: timeOf(q.GetPurgeTime()),
		MaxBurst: int(q.GetRateLimits().GetMaxBurstSize()),
		Config:   configOf(q.GetName()[strings.LastIndexByte(q.GetName(), '/')+1:], q),
	}
}

func queueOfBeta(b *betapb.Queue) (Queue, error) {
	v2, err := fromBeta(b)
	if err != nil {
		return Queue{}, err
	}
	q := queueOf(v2)
	q.Config.TaskTTL = b.GetTaskTtl().AsDuration()
	q.Config.TombstoneTTL = b.GetTombstoneTtl().AsDuration()
	if s := b.GetStats(); s != nil {
		q.Stats = &Stats{
			Tasks:                s.GetTasksCount(),
			OldestArrival:        timeOf(s.GetOldestEstimatedArrivalTime()),
			ExecutedLastMinute:   s.GetExecutedLastMinuteCount(),
			ConcurrentDispatches: s.GetConcurrentDispatchesCount(),
			EffectiveRate:        s.GetEffectiveExecutionRate(),
		}
	}
	return q, nil
}

// readMask selects the v2beta3 fields of a Queue.
func readMask(stats bool) *fieldmaskpb.FieldMask {
	paths := []string{
		"name", "app_engine_http_queue", "http_target", "rate_limits", "retry_config", "state",
		"purge_time", "task_ttl", "tombstone_ttl", "stackdriver_logging_config",
	}
	if stats {
		paths = append(paths, "stats")
	}
	return &fieldmaskpb.FieldMask{Paths: paths}
}

// Create creates a queue that must not exist; [Queues.Ensure] is for one that
// may. It does not wait until the service finds the queue, which may take a
// minute or more.
//
// Errors: [ErrInvalid] before the call, [ErrAlreadyExists], [ErrTombstoned],
// [ErrPermission].
func (q *Queues) Create(ctx context.Context, config QueueConfig) (Queue, error) {
	config = resolve(config)
	if err := config.check(); err != nil {
		return Queue{}, err
	}
	return q.create(ctx, &config)
}

func (q *Queues) create(ctx context.Context, c *QueueConfig) (Queue, error) {
	message := c.message(q.a.queueName(c.ID))
	if !c.beta() {
		created, err := call(ctx, q.a.v2.CreateQueue, &cloudtaskspb.CreateQueueRequest{Parent: q.a.parent, Queue: message})
		if err != nil {
			return Queue{}, createQueue.on(ctx, c.ID, err)
		}
		return queueOf(created), nil
	}
	beta, err := toBeta(message, c)
	if err != nil {
		return Queue{}, createQueue.on(ctx, c.ID, err)
	}
	created, err := call(ctx, q.a.beta.CreateQueue, &betapb.CreateQueueRequest{Parent: q.a.parent, Queue: beta})
	if err != nil {
		return Queue{}, createQueue.on(ctx, c.ID, err)
	}
	return queueOfBeta(created)
}

// update changes only the settings that differ.
func (q *Queues) update(ctx context.Context, c *QueueConfig, differ []setting) (Queue, error) {
	message := c.message(q.a.queueName(c.ID))
	mask := &fieldmaskpb.FieldMask{Paths: masked(differ, c.beta())}
	if !c.beta() {
		updated, err := call(ctx, q.a.v2.UpdateQueue, &cloudtaskspb.UpdateQueueRequest{Queue: message, UpdateMask: mask}, retried)
		if err != nil {
			return Queue{}, updateQueue.on(ctx, c.ID, err)
		}
		return queueOf(updated), nil
	}
	beta, err := toBeta(message, c)
	if err != nil {
		return Queue{}, updateQueue.on(ctx, c.ID, err)
	}
	updated, err := call(ctx, q.a.beta.UpdateQueue, &betapb.UpdateQueueRequest{Queue: beta, UpdateMask: mask}, retried)
	if err != nil {
		return Queue{}, updateQueue.on(ctx, c.ID, err)
	}
	return queueOfBeta(updated)
}

// Get returns a queue, without statistics and TTLs.
//
// Errors: [ErrNotFound], which a new queue returns for a while too;
// [ErrPermission].
func (q *Queues) Get(ctx context.Context, id string) (Queue, error) {
	return q.read(ctx, id, func(name string) (Queue, error) {
		got, err := call(ctx, q.a.v2.GetQueue, &cloudtaskspb.GetQueueRequest{Name: name})
		if err != nil {
			return Queue{}, err
		}
		return queueOf(got), nil
	})
}

// Inspect returns a queue with its statistics and TTLs, from v2beta3. Errors
// are those of [Queues.Get].
func (q *Queues) Inspect(ctx context.Context, id string) (Queue, error) {
	return q.getBeta(ctx, id, true)
}

func (q *Queues) getBeta(ctx context.Context, id string, stats bool) (Queue, error) {
	return q.read(ctx, id, func(name string) (Queue, error) {
		got, err := call(ctx, q.a.beta.GetQueue, &betapb.GetQueueRequest{Name: name, ReadMask: readMask(stats)})
		if err != nil {
			return Queue{}, err
		}
		return queueOfBeta(got)
	})
}

func (q *Queues) read(ctx context.Context, id string, get func(name string) (Queue, error)) (Queue, error) {
	if err := checkQueueID(id); err != nil {
		return Queue{}, err
	}
	got, err := get(q.a.queueName(id))
	return got, getQueue.on(ctx, id, err)
}

// ListQueues selects the queues to list. The zero value lists all.
type ListQueues struct {
	_ [0]func()

	// Filter is an expression over the fields of a queue, in the syntax of
	// Cloud Logging, such as "state: PAUSED" or
	// "rate_limits.max_dispatches_per_second > 100"
	// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues/list).
	Filter string

	// Stats adds statistics and TTLs, from v2beta3.
	Stats bool
}

// queuesPage is the largest page: the quota of list calls is small
// (docs/cloud-tasks.md#3.2, #13.1).
const queuesPage = 9800

// List yields the queues of the location in the order of their names, page by
// page. An error ends it: [ErrPermission], or [ErrInvalid] for a malformed
// filter.
func (q *Queues) List(ctx context.Context, list ListQueues) iter.Seq2[Queue, error] {
	if list.Stats {
		return q.listBeta(ctx, list.Filter, true)
	}
	return func(yield func(Queue, error) bool) {
		req := &cloudtaskspb.ListQueuesRequest{Parent: q.a.parent, Filter: list.Filter}
		err := pages(ctx, queuesPage, func(ctx context.Context) lister[*cloudtaskspb.Queue] { return q.a.v2.ListQueues(ctx, req) },
			func(queue *cloudtaskspb.Queue) bool { return yield(queueOf(queue), nil) })
		if err != nil {
			yield(Queue{}, listQueues.on(ctx, q.a.parent, err))
		}
	}
}

func (q *Queues) listBeta(ctx context.Context, filter string, stats bool) iter.Seq2[Queue, error] {
	return func(yield func(Queue, error) bool) {
		req := &betapb.ListQueuesRequest{Parent: q.a.parent, Filter: filter, ReadMask: readMask(stats)}
		err := pages(ctx, queuesPage, func(ctx context.Context) lister[*betapb.Queue] { return q.a.beta.ListQueues(ctx, req) },
			func(queue *betapb.Queue) bool { return yield(queueOfBeta(queue)) })
		if err != nil {
			yield(Queue{}, listQueues.on(ctx, q.a.parent, err))
		}
	}
}

// Pause stops the dispatches of a queue. Tasks can still be created, and run by
// [Tasks.RunNow]; dispatches in flight continue. If a queue is paused for longer
// than the [handoff.Policy].TTL of its tasks, they are expired when it resumes.
// Pausing a paused queue is no error.
func (q *Queues) Pause(ctx context.Context, id string) (Queue, error) {
	if err := checkQueueID(id); err != nil {
		return Queue{}, err
	}
	paused, err := call(ctx, q.a.v2.PauseQueue, &cloudtaskspb.PauseQueueRequest{Name: q.a.queueName(id)}, retried)
	if err != nil {
		return Queue{}, pauseQueue.on(ctx, id, err)
	}
	return queueOf(paused), nil
}

// Resume starts the dispatches of a paused or disabled queue. The service
// advises against resuming many busy queues at once
// (https://cloud.google.com/tasks/docs/manage-cloud-task-scaling).
func (q *Queues) Resume(ctx context.Context, id string) (Queue, error) {
	if err := checkQueueID(id); err != nil {
		return Queue{}, err
	}
	resumed, err := call(ctx, q.a.v2.ResumeQueue, &cloudtaskspb.ResumeQueueRequest{Name: q.a.queueName(id)}, retried)
	if err != nil {
		return Queue{}, resumeQueue.on(ctx, id, err)
	}
	return queueOf(resumed), nil
}

// Delete deletes a queue and all its tasks. Its name stays reserved for up to 7
// days: see [ErrTombstoned]. If the response to the first try was lost, the retry
// returns [ErrNotFound] although this call deleted the queue.
func (q *Queues) Delete(ctx context.Context, id string) error {
	if err := checkQueueID(id); err != nil {
		return err
	}
	ctx, cancel := rpc.WithTimeout(ctx)
	defer cancel()
	err := q.a.v2.DeleteQueue(ctx, &cloudtaskspb.DeleteQueueRequest{Name: q.a.queueName(id)})
	return deleteQueue.on(ctx, id, err)
}
