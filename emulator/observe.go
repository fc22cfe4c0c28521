package emulator

import (
	"cmp"
	"slices"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/emulator/internal/names"
)

// Life is the history of one task.
type Life struct {
	Name          string // full name
	Target        string // URL that it is dispatched to; empty until a dispatch has ended
	Created       time.Time
	Ended         time.Time  // zero if it has not
	End           End        // empty if it has not
	DispatchCount int        // dispatches begun
	Dispatches    []Dispatch // oldest first: the last hundred

	// Task is the task with its body, as the API returns it. It is nil for a task
	// that has ended if newer ones took its place: 16 MiB of ended tasks are kept,
	// of all queues together. [Server.Ended] leaves it out.
	Task *cloudtaskspb.Task
}

// End is how a task ended.
type End string

// The ends of a task.
const (
	Succeeded = End(engine.Succeeded)
	GivenUp   = End(engine.GivenUp) // its dispatches were used up
	Deleted   = End(engine.Deleted) // by a call
	Purged    = End(engine.Purged)  // with its queue's other tasks
	TooOld    = End(engine.TooOld)  // past the age limit of its queue
)

// Life returns the history of a task, given by its full name, and reports whether
// it is known: for tasks that have not ended, and for those that were dispatched
// and ended last (see Config.History).
func (s *Server) Life(task string) (Life, bool) {
	queue, id, _ := names.SplitTask(task)
	q := s.find(queue)
	if q == nil {
		return Life{}, false
	}
	l, ok := q.Life(id)
	if !ok {
		return Life{}, false
	}
	return s.wholeLife(q.Name(), l), true
}

// wholeLife is a life with its task.
func (s *Server) wholeLife(queue string, l engine.Life) Life {
	life := lifeOf(queue, l)
	if l.Task.Message != nil {
		life.Task = s.service.Task(queue, l.Task)
	}
	return life
}

// Failing are the tasks of a queue that wait for a retry, of one target.
type Failing struct {
	Target string // URL that they are dispatched to
	Tasks  int
	Last   Life // of the one that was dispatched last, with its task
}

// Failing returns the tasks of a queue that wait for a retry, grouped by their
// targets, the most first. queue is as for [Server.Tasks].
func (s *Server) Failing(queue string) []Failing {
	q := s.find(queue)
	if q == nil {
		return nil
	}
	var all []Failing
	for _, f := range q.Failing() {
		all = append(all, Failing{Target: f.Target, Tasks: f.Tasks, Last: s.wholeLife(q.Name(), f.Last)})
	}
	slices.SortFunc(all, func(a, b Failing) int { return cmp.Or(b.Tasks-a.Tasks, cmp.Compare(a.Target, b.Target)) })
	return all
}

// Ended returns the history of the tasks of a queue that ended last, the latest
// first, at most limit. Tasks that were never dispatched are not
// among them. queue is as for [Server.Tasks].
func (s *Server) Ended(queue string, limit int) []Life {
	q := s.find(queue)
	if q == nil {
		return nil
	}
	var ended []Life
	for _, l := range q.Ended(limit) {
		ended = append(ended, lifeOf(q.Name(), l))
	}
	return ended
}

func lifeOf(queue string, l engine.Life) Life {
	life := Life{
		Name:          queue + "/tasks/" + l.ID,
		Target:        l.Target,
		Created:       l.Created,
		Ended:         l.Ended,
		End:           End(l.How),
		DispatchCount: l.DispatchCount,
	}
	for _, r := range l.Dispatches {
		life.Dispatches = append(life.Dispatches, Dispatch{
			Schedule: r.Schedule,
			Dispatch: r.Dispatch,
			Response: r.Response,
			Status:   r.Status,
			Timeout:  r.Timeout,
			Err:      r.Failure,
		})
	}
	return life
}

// Activity is what a queue did in the last five minutes.
type Activity struct {
	Since   time.Time // nothing is known of the time before
	Seconds []Second  // in the order of time, without those in which nothing happened
}

// Second is what a queue did in one second.
type Second struct {
	At time.Time // its beginning

	Dispatched int
	LagSum     time.Duration // sum of the delays of dispatches after their schedule times
	LagMax     time.Duration // the longest

	Succeeded  int // responses of 2xx
	Refused    int // other responses under 500
	Failed     int // responses of 500 and above
	Unanswered int // dispatches that ended without a response
}

// Activity returns what a queue did lately, and reports whether there is such a
// queue.
// queue is as for [Server.Tasks].
func (s *Server) Activity(queue string) (Activity, bool) {
	q := s.find(queue)
	if q == nil {
		return Activity{}, false
	}
	seconds, since := q.Activity()
	a := Activity{Since: since}
	for _, c := range seconds {
		a.Seconds = append(a.Seconds, Second{
			At:         c.At,
			Dispatched: int(c.Dispatched),
			LagSum:     c.LagSum,
			LagMax:     c.LagMax,
			Succeeded:  int(c.Succeeded),
			Refused:    int(c.Refused),
			Failed:     int(c.Failed),
			Unanswered: int(c.Unanswered),
		})
	}
	return a, true
}
