package engine

import (
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// history keeps what the tasks that ended last have lived through, for
// inspection.
type history struct {
	most int
	ring []finished
	next int
	page []byte // where the next one goes
}

// Finished tasks are kept some thirty to a page, and go as they came, so a page
// is garbage as a whole. In an allocation of its own, each would hold on to the
// memory around it, where there was what only lived as long as a dispatch.
const (
	pageBytes     = 4 << 10
	finishedBytes = 256 // of nearly all of them: appending a larger one makes the page larger
)

// End is how a task ended.
type End string

// The ends of a task.
const (
	Succeeded End = "succeeded"
	GivenUp   End = "given up" // its attempts were used up
	Deleted   End = "deleted"  // by a call
	Purged    End = "purged"   // with its queue's other tasks
	TooOld    End = "too old"  // past the age limit
)

func (h *history) add(t *task, now int64, how End) {
	if t.life == nil || h.most <= 0 {
		return
	}
	f := h.finish(t, now, how)
	if len(h.ring) < h.most {
		h.ring = append(h.ring, f)
		return
	}
	h.ring[h.next] = f
	h.next = (h.next + 1) % h.most
}

// back returns the task that ended as many before the last one.
func (h *history) back(i int) *finished {
	return &h.ring[(h.next+len(h.ring)-1-i)%len(h.ring)]
}

// find returns the task of this ID that ended last, nil when it is not known
// (any more).
func (h *history) find(id string) *finished {
	for i := range h.ring {
		if f := h.back(i); f.is(id) {
			return f
		}
	}
	return nil
}

// Life is what a task has lived through.
type Life struct {
	ID         string
	Target     string // URL of its attempts; empty until one has ended
	Created    time.Time
	Ended      time.Time // zero: it has not
	How        End
	Dispatches int
	Attempts   []Record // oldest first, the last hundred
}

func lifeOf(id string, created int64, l *life) Life {
	told := Life{ID: id, Created: time.Unix(0, created)}
	if l != nil {
		told.Target, told.Dispatches = l.target, int(l.dispatches)
		told.Attempts = append([]Record(nil), l.attempts...)
	}
	return told
}

// Life returns what a task has lived through: one that is in the queue, or
// one that has ended, as long as the queue remembers it.
func (q *Queue) Life(id string) (Life, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := []byte(id)
	if t := q.tasks.find(key, q.tasks.hash(key)); t != nil {
		return lifeOf(id, t.created, t.life), true
	}
	if f := q.finished.find(id); f != nil {
		return f.told(), true
	}
	return Life{}, false
}

// Ended returns the tasks that ended last, the latest first, at most so many.
// Tasks that were never dispatched are not among them.
func (q *Queue) Ended(most int) []Life {
	q.mu.Lock()
	defer q.mu.Unlock()
	var ended []Life
	for i := range min(most, len(q.finished.ring)) {
		ended = append(ended, q.finished.back(i).told())
	}
	return ended
}

func targetOf(m *cloudtaskspb.Task) string {
	if r := m.GetAppEngineHttpRequest(); r != nil {
		return r.GetRelativeUri()
	}
	return m.GetHttpRequest().GetUrl()
}
