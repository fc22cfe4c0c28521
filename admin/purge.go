package admin

import (
	"context"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	gax "github.com/googleapis/gax-go/v2"
)

// Purge deletes the tasks of a queue for good, and returns as soon as the
// service has agreed to. That takes up to a minute, in which tasks may still be
// dispatched; tasks created in the seconds after the call may be deleted too
// (https://cloud.google.com/tasks/docs/manage-queues-and-tasks).
// [Queues.WaitPurged] waits for the end of it.
//
// It is made once: a second purge would take what was created since.
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

// WaitPurged waits until no task is listed that the last purge of the queue was
// for, which is at once if there was none. It looks through the queue every few
// seconds until it finds such a task. It ends with ctx's error when ctx does.
func (q *Queues) WaitPurged(ctx context.Context, id string) error {
	queue, err := q.Get(ctx, id)
	if err != nil || queue.PurgedAt.IsZero() {
		return err
	}
	// Creation times are cut to the second (docs/cloud-tasks.md#4), so a task of the
	// second of the purge itself may be of after it.
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
