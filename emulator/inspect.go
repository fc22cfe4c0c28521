package emulator

import (
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
)

// Queues returns all queues in the order of their names.
func (s *Server) Queues() []*cloudtaskspb.Queue { return s.service.Queues() }

// Tasks returns the tasks of a queue that have not ended, bodies included,
// in order of creation. queue is a full name, or a queue ID if only one queue
// has it. There are none in a queue that does not exist.
func (s *Server) Tasks(queue string) []*cloudtaskspb.Task {
	if q := s.find(queue); q != nil {
		return s.service.Tasks(q)
	}
	return nil
}

// Dispatch is one request that was sent for a task.
type Dispatch struct {
	Schedule time.Time // when it was due
	Dispatch time.Time // when it began
	Response time.Time // when the response arrived; zero without one
	Status   int       // HTTP status of the response; 0 without one
	Timeout  bool      // no response came by the dispatch deadline
	Err      string    // why there is no response; "" while the dispatch is in flight
}

// Dispatches returns the dispatches of a task, given by its full name, oldest
// first: the last hundred of a task that has not ended, and those of the
// tasks that ended last (see Config.History).
func (s *Server) Dispatches(task string) []Dispatch {
	life, _ := s.Life(task)
	return life.Dispatches
}

func (s *Server) find(queue string) *engine.Queue {
	if q := s.engine.Queue(queue); q != nil {
		return q
	}
	var found *engine.Queue
	for _, q := range s.engine.Queues() {
		if strings.HasSuffix(q.Name(), "/queues/"+queue) {
			if found != nil {
				return nil
			}
			found = q
		}
	}
	return found
}
