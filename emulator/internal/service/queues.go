package service

import (
	"context"
	"errors"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/emulator/internal/appengine"
	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/emulator/internal/filter"
	"github.com/brillconsulting/handoff/emulator/internal/names"
)

func (s *Service) CreateQueue(_ context.Context, req *cloudtaskspb.CreateQueueRequest) (*cloudtaskspb.Queue, error) {
	if err := checkNewQueue(req.GetParent(), req.GetQueue().GetName()); err != nil {
		return nil, err
	}
	return shown(s.createQueue(engine.Definition{Queue: withoutBurst(proto.CloneOf(req.GetQueue()))}))
}

func checkNewQueue(parent, name string) error {
	if _, _, ok := names.SplitLocation(parent); !ok {
		return errResource(parent)
	}
	if _, ok := names.ParseQueue(name); !ok {
		return errQueueName()
	}
	if !strings.HasPrefix(name, parent+"/queues/") {
		return invalid("%s must begin with %s.", name, parent)
	}
	return nil
}

// createQueue completes d, whose message becomes the engine's.
func (s *Service) createQueue(d engine.Definition) (engine.Status, error) {
	if err := s.completeQueue(d.Queue); err != nil {
		return engine.Status{}, err
	}
	q, err := s.engine.Create(d)
	if err != nil {
		return engine.Status{}, engineError(err)
	}
	return q.Status(), nil
}

func (s *Service) GetQueue(_ context.Context, req *cloudtaskspb.GetQueueRequest) (*cloudtaskspb.Queue, error) {
	q, err := s.queue(req.GetName())
	if err != nil {
		return nil, err
	}
	return queueView(q.Status()), nil
}

func (s *Service) ListQueues(_ context.Context, req *cloudtaskspb.ListQueuesRequest) (*cloudtaskspb.ListQueuesResponse, error) {
	page, next, err := queuesPage(s, req, func(q *engine.Queue) *cloudtaskspb.Queue { return queueView(q.Status()) })
	if err != nil {
		return nil, err
	}
	return &cloudtaskspb.ListQueuesResponse{Queues: page, NextPageToken: next}, nil
}

// listQueues is a ListQueuesRequest of any version.
type listQueues interface {
	GetParent() string
	GetFilter() string
	GetPageSize() int32
	GetPageToken() string
}

// queuesPage returns the queues of a page, as view shows them and the filter
// lets them pass, and the token of the next page.
func queuesPage[Q interface {
	proto.Message
	GetName() string
}](s *Service, req listQueues, view func(*engine.Queue) Q) (page []Q, next string, err error) {
	if _, _, ok := names.SplitLocation(req.GetParent()); !ok {
		return nil, "", errResource(req.GetParent())
	}
	limit, err := pageSize(req.GetPageSize(), maxQueuesPage)
	if err != nil {
		return nil, "", err
	}
	keep, err := filter.Parse(req.GetFilter(), (*new(Q)).ProtoReflect().Descriptor())
	if err != nil {
		return nil, "", invalid("Invalid filter: %v.", err)
	}
	now := time.Now()
	after := ""
	if req.GetPageToken() != "" {
		if after, err = s.pages.open(req.GetPageToken(), now, "queues", req.GetParent(), req.GetFilter()); err != nil {
			return nil, "", err
		}
	}
	for _, q := range s.engine.Queues() {
		if q.Name() <= after || !strings.HasPrefix(q.Name(), req.GetParent()+"/queues/") {
			continue
		}
		shown := view(q)
		if !keep(shown) {
			continue
		}
		if len(page) == limit {
			last := page[limit-1].GetName()
			return page, s.pages.seal(last, now, "queues", req.GetParent(), req.GetFilter()), nil
		}
		page = append(page, shown)
	}
	return page, "", nil
}

// outputOnly are the fields of a queue that only the service sets.
var outputOnly = map[string]bool{
	"name":                             true,
	"state":                            true,
	"purge_time":                       true,
	"rate_limits.max_burst_size":       true,
	"app_engine_routing_override.host": true,
}

// UpdateQueue creates the queue if there is none. Inside the window after
// a deletion that fails as CreateQueue does (unknown, docs/cloud-tasks.md#3.3).
func (s *Service) UpdateQueue(_ context.Context, req *cloudtaskspb.UpdateQueueRequest) (*cloudtaskspb.Queue, error) {
	return shown(s.updateQueue(req.GetQueue().GetName(), func(d engine.Definition) (engine.Definition, error) {
		err := merge(d.Queue, proto.CloneOf(req.GetQueue()), req.GetUpdateMask(), outputOnly)
		d.Queue = withoutBurst(d.Queue)
		return d, err
	}))
}

// updateQueue changes a queue, or creates it as a change of nothing. What
// change is given is its own to alter.
func (s *Service) updateQueue(name string, change func(engine.Definition) (engine.Definition, error)) (engine.Status, error) {
	if _, ok := names.ParseQueue(name); !ok {
		return engine.Status{}, errQueueLookup(name)
	}
	q := s.engine.Queue(name)
	if q == nil {
		d, err := change(engine.Definition{Queue: &cloudtaskspb.Queue{Name: name}})
		if err != nil {
			return engine.Status{}, err
		}
		return s.createQueue(d)
	}
	status, err := q.Update(func(d engine.Definition) (engine.Definition, error) {
		d.Queue = proto.CloneOf(d.Queue)
		d, err := change(d)
		if err != nil {
			return d, err
		}
		return d, s.completeQueue(d.Queue)
	})
	return status, engineError(err)
}

// withoutBurst leaves the bucket size to the service, as in v2 it always is,
// whatever was sent or another version has set (docs/cloud-tasks.md#6.2).
func withoutBurst(q *cloudtaskspb.Queue) *cloudtaskspb.Queue {
	if q.GetRateLimits() != nil {
		q.RateLimits.MaxBurstSize = 0
	}
	return q
}

func (s *Service) DeleteQueue(_ context.Context, req *cloudtaskspb.DeleteQueueRequest) (*emptypb.Empty, error) {
	if _, ok := names.ParseQueue(req.GetName()); !ok {
		return nil, errQueueLookup(req.GetName())
	}
	if err := s.engine.Delete(req.GetName()); err != nil {
		return nil, errEntityMissing // not the text of the other calls (docs/cloud-tasks.md#12.1)
	}
	s.policies.drop(req.GetName())
	return new(emptypb.Empty), nil
}

func (s *Service) PurgeQueue(_ context.Context, req *cloudtaskspb.PurgeQueueRequest) (*cloudtaskspb.Queue, error) {
	return shown(s.changeQueue(req.GetName(), (*engine.Queue).Purge))
}

func (s *Service) PauseQueue(_ context.Context, req *cloudtaskspb.PauseQueueRequest) (*cloudtaskspb.Queue, error) {
	return shown(s.changeQueue(req.GetName(), (*engine.Queue).Pause))
}

func (s *Service) ResumeQueue(_ context.Context, req *cloudtaskspb.ResumeQueueRequest) (*cloudtaskspb.Queue, error) {
	return shown(s.changeQueue(req.GetName(), (*engine.Queue).Resume))
}

func (s *Service) changeQueue(name string, change func(*engine.Queue) (engine.Status, error)) (engine.Status, error) {
	q, err := s.queue(name)
	if err != nil {
		return engine.Status{}, err
	}
	status, err := change(q)
	return status, engineError(err)
}

// queue looks a queue up. The name is parsed only to explain why there is
// none: this is on the way of every task.
func (s *Service) queue(name string) (*engine.Queue, error) {
	if q := s.engine.Queue(name); q != nil {
		return q, nil
	}
	return nil, errQueueLookup(name)
}

// queueOfTasks looks up the queue that tasks are to be created in, and creates
// it where that was asked for.
func (s *Service) queueOfTasks(name string) (*engine.Queue, error) {
	q, err := s.queue(name)
	if err == nil || !s.options.CreateMissingQueues {
		return q, err
	}
	if _, ok := names.ParseQueue(name); !ok {
		return nil, err
	}
	if _, err := s.createQueue(engine.Definition{Queue: &cloudtaskspb.Queue{Name: name}}); err != nil && !errors.Is(err, errQueueExists) {
		return nil, err
	}
	return s.queue(name)
}

// shown returns the response of a call that changes a queue.
func shown(status engine.Status, err error) (*cloudtaskspb.Queue, error) {
	if err != nil {
		return nil, err
	}
	return queueView(status), nil
}

func queueView(s engine.Status) *cloudtaskspb.Queue {
	q := proto.CloneOf(s.Queue)
	q.State = s.State
	if r := q.GetAppEngineRoutingOverride(); r != nil {
		r.Host = appengine.Host(q.GetName(), r)
	}
	if !s.Purged.IsZero() {
		q.PurgeTime = timestamppb.New(s.Purged.Truncate(time.Microsecond))
	}
	return q
}
