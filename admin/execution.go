package admin

import (
	"context"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
)

// Execution is what the service records about the dispatches of a task: counts,
// and the first and last one. It is deleted with the task.
type Execution struct {
	Dispatches int // including those without a response
	Responses  int // dispatches that got a response; a timed-out one has none

	FirstDispatchedAt time.Time // zero: never dispatched
	Last              *Attempt  // nil: never dispatched
}

// Running reports whether the last dispatch waits for its response. A dispatch
// that timed out has a code and is not running.
func (e Execution) Running() bool {
	return e.Last != nil && e.Last.RespondedAt.IsZero() && e.Last.Code == codes.OK
}

// Attempt is one dispatch of a task.
type Attempt struct {
	ScheduledAt  time.Time // when it was due
	DispatchedAt time.Time
	RespondedAt  time.Time // zero: no response, or none yet

	// Code and Message are the gRPC status of a failure, such as codes.Internal and
	// "INTERNAL(13): HTTP status code 502". They are zero while it runs.
	Code    codes.Code
	Message string
}

func executionOf(m *cloudtaskspb.Task) Execution {
	e := Execution{
		Dispatches:        int(m.GetDispatchCount()),
		Responses:         int(m.GetResponseCount()),
		FirstDispatchedAt: timeOf(m.GetFirstAttempt().GetDispatchTime()),
	}
	if a := m.GetLastAttempt(); a != nil {
		e.Last = &Attempt{
			ScheduledAt:  timeOf(a.GetScheduleTime()),
			DispatchedAt: timeOf(a.GetDispatchTime()),
			RespondedAt:  timeOf(a.GetResponseTime()),
			Code:         codes.Code(a.GetResponseStatus().GetCode()),
			Message:      a.GetResponseStatus().GetMessage(),
		}
	}
	return e
}

// Executions sums up the executions of a queue's tasks. It does not include
// tasks that are done, which the service deletes.
type Executions struct {
	Tasks      int
	Untried    int // tasks never dispatched
	Running    int // tasks that wait for a response
	Dispatches int
	Responses  int

	// Failures counts the tasks whose last dispatch failed, by its code.
	Failures map[codes.Code]int

	OldestCreatedAt   time.Time // zero: there are no tasks
	NextScheduledAt   time.Time
	FirstDispatchedAt time.Time // zero: no task was dispatched
	LastDispatchedAt  time.Time
}

// Executions sums up the tasks of a queue. It lists them all, at the cost of
// [Tasks.List]; [Queues.Inspect] returns estimates by one call. Its error is
// that of List; the sum then covers the tasks listed before it.
func (t *Tasks) Executions(ctx context.Context, queue string) (Executions, error) {
	sum := Executions{Failures: make(map[codes.Code]int)}
	for task, err := range t.List(ctx, queue, Basic) {
		if err != nil {
			return sum, err
		}
		sum.add(task)
	}
	return sum, nil
}

func (s *Executions) add(task Task) {
	e := task.Execution
	s.Tasks++
	s.Dispatches += e.Dispatches
	s.Responses += e.Responses
	s.OldestCreatedAt = earlier(s.OldestCreatedAt, task.CreatedAt)
	s.NextScheduledAt = earlier(s.NextScheduledAt, task.ScheduledAt)
	if e.Last == nil {
		s.Untried++
		return
	}
	if e.Running() {
		s.Running++
	} else {
		s.Failures[e.Last.Code]++
	}
	s.FirstDispatchedAt = earlier(s.FirstDispatchedAt, e.FirstDispatchedAt)
	if e.Last.DispatchedAt.After(s.LastDispatchedAt) {
		s.LastDispatchedAt = e.Last.DispatchedAt
	}
}

// earlier returns the earlier of two times. A zero first time is unknown.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
