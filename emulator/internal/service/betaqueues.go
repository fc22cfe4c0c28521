package service

import (
	"context"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	betapb "cloud.google.com/go/cloudtasks/apiv2beta3/cloudtaskspb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
)

func (b *Beta) CreateQueue(_ context.Context, req *betapb.CreateQueueRequest) (*betapb.Queue, error) {
	if err := checkNewQueue(req.GetParent(), req.GetQueue().GetName()); err != nil {
		return nil, err
	}
	d, err := definitionOf(req.GetQueue())
	if err != nil {
		return nil, err
	}
	return shownBeta(b.v2.createQueue(d))
}

func (b *Beta) GetQueue(_ context.Context, req *betapb.GetQueueRequest) (*betapb.Queue, error) {
	q, err := b.v2.queue(req.GetName())
	if err != nil {
		return nil, err
	}
	return masked(betaView(q, req.GetReadMask()), req.GetReadMask())
}

func (b *Beta) ListQueues(_ context.Context, req *betapb.ListQueuesRequest) (*betapb.ListQueuesResponse, error) {
	mask := req.GetReadMask()
	page, next, err := queuesPage(b.v2, req, func(q *engine.Queue) *betapb.Queue { return betaView(q, mask) })
	if err != nil {
		return nil, err
	}
	if _, err := masked(new(betapb.Queue), mask); err != nil {
		return nil, err // also when there is no queue to show
	}
	for i := range page {
		if page[i], err = masked(page[i], mask); err != nil {
			return nil, err
		}
	}
	return &betapb.ListQueuesResponse{Queues: page, NextPageToken: next}, nil
}

// betaOutputOnly are the fields of a queue that no update changes.
var betaOutputOnly = map[string]bool{
	"name":       true,
	"state":      true,
	"purge_time": true,
	"stats":      true,
	"type":       true, // immutable
	"app_engine_http_queue.app_engine_routing_override.host": true,
}

func (b *Beta) UpdateQueue(_ context.Context, req *betapb.UpdateQueueRequest) (*betapb.Queue, error) {
	return shownBeta(b.v2.updateQueue(req.GetQueue().GetName(), func(old engine.Definition) (engine.Definition, error) {
		rate, burst := old.Queue.GetRateLimits().GetMaxDispatchesPerSecond(), old.Queue.GetRateLimits().GetMaxBurstSize()
		queue := betaQueue(withoutBurst(old.Queue), old)
		if err := merge(queue, proto.CloneOf(req.GetQueue()), req.GetUpdateMask(), betaOutputOnly); err != nil {
			return old, err
		}
		// A burst that is not sent follows a rate that changes, and no other
		// (docs/cloud-tasks.md#5.1).
		if l := queue.GetRateLimits(); l.GetMaxBurstSize() == 0 && l.GetMaxDispatchesPerSecond() == rate && burst != 0 {
			l.MaxBurstSize = burst
		}
		return definitionOf(queue)
	}))
}

func (b *Beta) DeleteQueue(ctx context.Context, req *betapb.DeleteQueueRequest) (*emptypb.Empty, error) {
	return relay[emptypb.Empty](ctx, req, b.v2.DeleteQueue)
}

func (b *Beta) PurgeQueue(_ context.Context, req *betapb.PurgeQueueRequest) (*betapb.Queue, error) {
	return shownBeta(b.v2.changeQueue(req.GetName(), (*engine.Queue).Purge))
}

func (b *Beta) PauseQueue(_ context.Context, req *betapb.PauseQueueRequest) (*betapb.Queue, error) {
	return shownBeta(b.v2.changeQueue(req.GetName(), (*engine.Queue).Pause))
}

func (b *Beta) ResumeQueue(_ context.Context, req *betapb.ResumeQueueRequest) (*betapb.Queue, error) {
	return shownBeta(b.v2.changeQueue(req.GetName(), (*engine.Queue).Resume))
}

// Ranges of the TTLs (docs/cloud-tasks.md#5.1). Ten years are gcloud's 315360000s.
const (
	minTaskTTL      = 10 * 24 * time.Hour
	maxTaskTTL      = 10 * 365 * 24 * time.Hour
	minTombstoneTTL = time.Hour
	maxTombstoneTTL = 9 * 24 * time.Hour
)

// definitionOf reads the queue of a request. It shares nothing with it.
func definitionOf(asked *betapb.Queue) (engine.Definition, error) {
	if asked.GetType() == betapb.Queue_PULL {
		return engine.Definition{}, errPull("Queue.type PULL")
	}
	taskTTL, err := ttl("taskTtl", asked.GetTaskTtl(), minTaskTTL, maxTaskTTL)
	if err != nil {
		return engine.Definition{}, err
	}
	tombstoneTTL, err := ttl("tombstoneTtl", asked.GetTombstoneTtl(), minTombstoneTTL, maxTombstoneTTL)
	if err != nil {
		return engine.Definition{}, err
	}
	queue := translate(new(cloudtaskspb.Queue), proto.CloneOf(asked))
	if r := asked.GetAppEngineHttpQueue().GetAppEngineRoutingOverride(); r != nil {
		queue.AppEngineRoutingOverride = translate(new(cloudtaskspb.AppEngineRouting), r)
	}
	return engine.Definition{Queue: queue, TaskTTL: taskTTL, TombstoneTTL: tombstoneTTL}, nil
}

// ttl reads a TTL that may be left out. The service's texts are unknown.
func ttl(field string, d *durationpb.Duration, shortest, longest time.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if v := d.AsDuration(); d.CheckValid() != nil || v < shortest || v > longest {
		return 0, invalid("Queue.%s must be between %ds and %ds.", field, int(shortest.Seconds()), int(longest.Seconds()))
	}
	return d.AsDuration(), nil
}

// betaQueue converts a queue to v2beta3, with the TTLs that are set.
func betaQueue(q *cloudtaskspb.Queue, d engine.Definition) *betapb.Queue {
	said := translate(new(betapb.Queue), q)
	said.Type = betapb.Queue_PUSH
	if r := q.GetAppEngineRoutingOverride(); r != nil {
		said.QueueType = &betapb.Queue_AppEngineHttpQueue{AppEngineHttpQueue: &betapb.AppEngineHttpQueue{
			AppEngineRoutingOverride: translate(new(betapb.AppEngineRouting), r),
		}}
	}
	if d.TaskTTL != 0 {
		said.TaskTtl = durationpb.New(d.TaskTTL)
	}
	if d.TombstoneTTL != 0 {
		said.TombstoneTtl = durationpb.New(d.TombstoneTTL)
	}
	return said
}

func shownBeta(s engine.Status, err error) (*betapb.Queue, error) {
	if err != nil {
		return nil, err
	}
	return betaQueue(queueView(s), s.Definition), nil
}

// betaView is a queue before its read mask: whole, and with its statistics
// only if the mask names them.
func betaView(q *engine.Queue, mask *fieldmaskpb.FieldMask) *betapb.Queue {
	status := q.Status()
	view := betaQueue(queueView(status), status.Definition)
	if slices.ContainsFunc(mask.GetPaths(), func(p string) bool { return p == "stats" || strings.HasPrefix(p, "stats.") }) {
		view.Stats = statsView(q.Stats())
	}
	return view
}

func statsView(s engine.Stats) *betapb.QueueStats {
	v := &betapb.QueueStats{
		TasksCount:                int64(s.Tasks),
		ExecutedLastMinuteCount:   int64(s.LastMinute),
		ConcurrentDispatchesCount: int64(s.Concurrent),
		EffectiveExecutionRate:    s.EffectiveRate,
	}
	if !s.Next.IsZero() {
		v.OldestEstimatedArrivalTime = microseconds(s.Next)
	}
	return v
}

// masked is what a read mask lets through; without one everything.
func masked(view *betapb.Queue, mask *fieldmaskpb.FieldMask) (*betapb.Queue, error) {
	if len(mask.GetPaths()) == 0 {
		return view, nil
	}
	kept := new(betapb.Queue)
	if err := merge(kept, view, mask, nil); err != nil {
		return nil, err
	}
	return kept, nil
}
