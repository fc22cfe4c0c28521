package admin

import (
	"context"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	gax "github.com/googleapis/gax-go/v2"
)

// Purge deletes all tasks of a queue, irreversibly. It returns when the service
// has accepted the purge, which takes up to a minute: until then tasks may be
// dispatched, and tasks created in the seconds after the call may be deleted too
// (https://cloud.google.com/tasks/docs/manage-queues-and-tasks).
// [Queues.WaitPurged] waits for its end.
//
// It is never retried: a second purge would delete tasks created since the
// first.
func (q *Queues) Purge(ctx context.Context, id string) (Queue, error) {
	if err := checkQueueID(id); err != nil {
		return Queue{}, err
	}
	purged, err := call(ctx, q.a.v2.PurgeQueue, &cloudtaskspb.PurgeQueueRequest{Name: q.a.queueName(id)})
	if err != nil {
		return Queue{}, purgeQueue.on(ctx, id, err)
	}
	return queueOf(purged), nil
}

// WaitPurged waits until the queue lists no task from before its last purge. It
// returns at once if there was none, and lists the queue every few seconds
// otherwise. It returns ctx's error when ctx ends.
func (q *Queues) WaitPurged(ctx context.Context, id string) error {
	queue, err := q.Get(ctx, id)
	if err != nil || queue.PurgedAt.IsZero() {
		return err
	}
	// Creation times are cut to the second (docs/cloud-tasks.md#4), so a task
	// created in the second of the purge may be newer than it.
	before := queue.PurgedAt.Truncate(time.Second)
	pause := gax.Backoff{Initial: 500 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2}
	for {
		left, err := q.createdBefore(ctx, id, before)
		if err != nil || !left {
			return err
		}
		if err := gax.Sleep(ctx, pause.Pause()); err != nil {
			return purgeQueue.on(ctx, id, err)
		}
	}
}

func (q *Queues) createdBefore(ctx context.Context, id string, before time.Time) (bool, error) {
	for task, err := range q.a.Tasks().List(ctx, id, Basic) {
		if err != nil {
			return false, err
		}
		if task.CreatedAt.Before(before) {
			return true, nil
		}
	}
	return false, nil
}
