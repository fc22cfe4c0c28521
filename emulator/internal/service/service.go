// Package service implements google.cloud.tasks.v2.CloudTasks, its two mixin
// services and, by translation, google.cloud.tasks.v2beta3.CloudTasks on an
// engine: validation with the service's own codes and texts, defaults, views,
// paging and masks.
package service

import (
	"math"
	"sync/atomic"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/genproto/googleapis/cloud/location"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
)

// Service is the v2 API and, beside it, google.longrunning.Operations and
// google.cloud.location.Locations. Its methods may be called concurrently and
// are the RPCs, documented in [cloudtaskspb.CloudTasksServer].
type Service struct {
	cloudtaskspb.UnimplementedCloudTasksServer
	longrunningpb.UnimplementedOperationsServer
	location.UnimplementedLocationsServer

	engine     *engine.Engine
	options    Options
	pages      pager
	operations operations
	policies   policies
	cmek       cmek
	kept       atomic.Pointer[[]engine.Definition] // queues that a Reset brings back
}

// Options are the ways in which a Service may differ from the real one.
type Options struct {
	CreateMissingQueues bool // for tasks, with default limits
	NoLimits            bool // rates, bursts and concurrency over the service's
	Strict              bool // no token over http, not even for development

	// DefaultURL is given to HTTP tasks without one, with {project},
	// {location} and {queue} replaced. "" for none: they are refused.
	DefaultURL string
}

// New returns the API of an engine.
func New(e *engine.Engine, options Options) *Service {
	return &Service{engine: e, options: options, pages: newPager()}
}

// Keep makes Reset bring back the queues that there are now, as they are now.
func (s *Service) Keep() {
	var kept []engine.Definition
	for _, q := range s.engine.Queues() {
		kept = append(kept, q.Status().Definition)
	}
	s.kept.Store(&kept)
}

// Reset removes every queue that was not kept, and every policy, operation and key.
func (s *Service) Reset() {
	s.engine.Reset()
	s.operations.reset()
	s.policies.reset()
	s.cmek.reset()
	if kept := s.kept.Load(); kept != nil {
		for _, d := range *kept {
			// It fails if another caller was faster, or the server is closed.
			_, _ = s.engine.Create(d)
		}
	}
}

// Queues returns all queues, as the API shows them.
func (s *Service) Queues() []*cloudtaskspb.Queue {
	var all []*cloudtaskspb.Queue
	for _, q := range s.engine.Queues() {
		all = append(all, queueView(q.Status()))
	}
	return all
}

// Tasks returns all tasks of a queue, as the full view of the API shows them.
func (s *Service) Tasks(q *engine.Queue) []*cloudtaskspb.Task {
	tasks, _ := q.List(0, math.MaxInt, math.MaxInt)
	all := make([]*cloudtaskspb.Task, 0, len(tasks))
	for _, t := range tasks {
		all = append(all, s.Task(q.Name(), t))
	}
	return all
}

// Task returns a task of a queue, as the full view of the API shows it.
func (*Service) Task(queue string, t engine.Task) *cloudtaskspb.Task {
	return taskView(queue, t, engine.Decode(t.Message), true)
}
