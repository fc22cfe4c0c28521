package admin

import (
	"context"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
)

// Execution is what the service tracks of the running of a task. It keeps
// counts and two attempts, and all of it only until the task is gone.
type Execution struct {
	Dispatches int // attempts made, also those without a response yet
	Responses  int // attempts that got a response; a timed-out one got none

	FirstDispatchedAt time.Time // zero: never dispatched
	Last              *Attempt  // nil: never dispatched
}

// Running says whether a response is being waited for. An attempt that got none
// in time has a code all the same.
func (e Execution) Running() bool {
	return e.Last != nil && e.Last.RespondedAt.IsZero() && e.Last.Code == codes.OK
}

// Attempt is one dispatch of a task.
type Attempt struct {
	ScheduledAt  time.Time // when it was due
	DispatchedAt time.Time
	RespondedAt  time.Time // zero: no response, or none yet

	// Code and Message are how it failed, in gRPC's terms: codes.Internal and
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

// Executions are the executions of a queue's tasks together. Tasks that are
// done are not in it: the service keeps none.
type Executions struct {
	Tasks      int
	Untried    int // tasks never dispatched
	Running    int // tasks that a response is being waited for
	Dispatches int
	Responses  int

	// Failures counts the tasks whose last attempt ended, by how.
	Failures map[codes.Code]int

	OldestCreatedAt   time.Time // zero: there are no tasks
	NextScheduledAt   time.Time
	FirstDispatchedAt time.Time // zero: no task was dispatched
	LastDispatchedAt  time.Time
}

// Executions sums up the tasks of a queue. It lists them all, at the cost that
// [Tasks.List] tells of; [Queues.Inspect] has estimates at once. With an error,
// which is that of List, the sum is of the tasks that came before it.
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

// earlier is the earlier of two times, of which the first may be unknown.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
