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
	if _, _, ok := names.SplitLocation(req.GetParent()); !ok {
		return nil, errResource(req.GetParent())
	}
	name := req.GetQueue().GetName()
	if _, ok := names.ParseQueue(name); !ok {
		return nil, errQueueName()
	}
	if !strings.HasPrefix(name, req.GetParent()+"/queues/") {
		return nil, invalid("%s must begin with %s.", name, req.GetParent())
	}
	return s.createQueue(req.GetQueue())
}

func (s *Service) createQueue(asked *cloudtaskspb.Queue) (*cloudtaskspb.Queue, error) {
	config := proto.CloneOf(asked)
	if err := s.completeQueue(config); err != nil {
		return nil, err
	}
	q, err := s.engine.Create(config)
	if err != nil {
		return nil, engineError(err)
	}
	return queueView(q.Status()), nil
}

func (s *Service) GetQueue(_ context.Context, req *cloudtaskspb.GetQueueRequest) (*cloudtaskspb.Queue, error) {
	q, err := s.queue(req.GetName())
	if err != nil {
		return nil, err
	}
	return queueView(q.Status()), nil
}

func (s *Service) ListQueues(_ context.Context, req *cloudtaskspb.ListQueuesRequest) (*cloudtaskspb.ListQueuesResponse, error) {
	if _, _, ok := names.SplitLocation(req.GetParent()); !ok {
		return nil, errResource(req.GetParent())
	}
	most, err := pageSize(req.GetPageSize(), maxQueuesPage)
	if err != nil {
		return nil, err
	}
	keep, err := filter.Parse(req.GetFilter(), (*cloudtaskspb.Queue)(nil).ProtoReflect().Descriptor())
	if err != nil {
		return nil, invalid("Invalid filter: %v.", err)
	}
	now := time.Now()
	after := ""
	if req.GetPageToken() != "" {
		if after, err = s.pages.open(req.GetPageToken(), now, "queues", req.GetParent(), req.GetFilter()); err != nil {
			return nil, err
		}
	}
	resp := new(cloudtaskspb.ListQueuesResponse)
	for _, q := range s.engine.Queues() {
		if q.Name() <= after || !strings.HasPrefix(q.Name(), req.GetParent()+"/queues/") {
			continue
		}
		view := queueView(q.Status())
		if !keep(view) {
			continue
		}
		if len(resp.Queues) == most {
			last := resp.Queues[most-1].GetName()
			resp.NextPageToken = s.pages.seal(last, now, "queues", req.GetParent(), req.GetFilter())
			break
		}
		resp.Queues = append(resp.Queues, view)
	}
	return resp, nil
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
// a deletion that fails as CreateQueue does (unknown, reference §3.3).
func (s *Service) UpdateQueue(_ context.Context, req *cloudtaskspb.UpdateQueueRequest) (*cloudtaskspb.Queue, error) {
	name := req.GetQueue().GetName()
	if _, ok := names.ParseQueue(name); !ok {
		return nil, errQueueLookup(name)
	}
	q := s.engine.Queue(name)
	if q == nil {
		config := &cloudtaskspb.Queue{Name: name}
		if err := merge(config, proto.CloneOf(req.GetQueue()), req.GetUpdateMask(), outputOnly); err != nil {
			return nil, err
		}
		return s.createQueue(config)
	}
	status, err := q.Update(func(old *cloudtaskspb.Queue) (*cloudtaskspb.Queue, error) {
		config := proto.CloneOf(old)
		if err := merge(config, proto.CloneOf(req.GetQueue()), req.GetUpdateMask(), outputOnly); err != nil {
			return nil, err
		}
		return config, s.completeQueue(config)
	})
	if err != nil {
		return nil, engineError(err)
	}
	return queueView(status), nil
}

func (s *Service) DeleteQueue(_ context.Context, req *cloudtaskspb.DeleteQueueRequest) (*emptypb.Empty, error) {
	if _, ok := names.ParseQueue(req.GetName()); !ok {
		return nil, errQueueLookup(req.GetName())
	}
	if err := s.engine.Delete(req.GetName()); err != nil {
		return nil, errEntityMissing // not the text of the other calls (reference §12.1)
	}
	s.policies.drop(req.GetName())
	return new(emptypb.Empty), nil
}

func (s *Service) PurgeQueue(_ context.Context, req *cloudtaskspb.PurgeQueueRequest) (*cloudtaskspb.Queue, error) {
	return s.changeQueue(req.GetName(), (*engine.Queue).Purge)
}

func (s *Service) PauseQueue(_ context.Context, req *cloudtaskspb.PauseQueueRequest) (*cloudtaskspb.Queue, error) {
	return s.changeQueue(req.GetName(), (*engine.Queue).Pause)
}

func (s *Service) ResumeQueue(_ context.Context, req *cloudtaskspb.ResumeQueueRequest) (*cloudtaskspb.Queue, error) {
	return s.changeQueue(req.GetName(), (*engine.Queue).Resume)
}

func (s *Service) changeQueue(name string, change func(*engine.Queue) (engine.Status, error)) (*cloudtaskspb.Queue, error) {
	q, err := s.queue(name)
	if err != nil {
		return nil, err
	}
	status, err := change(q)
	if err != nil {
		return nil, engineError(err)
	}
	return queueView(status), nil
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
	if _, err := s.createQueue(&cloudtaskspb.Queue{Name: name}); err != nil && !errors.Is(err, errQueueExists) {
		return nil, err
	}
	return s.queue(name)
}

func queueView(s engine.Status) *cloudtaskspb.Queue {
	q := proto.CloneOf(s.Config)
	q.State = s.State
	if r := q.GetAppEngineRoutingOverride(); r != nil {
		r.Host = appengine.Host(q.GetName(), r)
	}
	if !s.Purged.IsZero() {
		q.PurgeTime = timestamppb.New(s.Purged.Truncate(time.Microsecond))
	}
	return q
}
