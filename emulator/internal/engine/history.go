package engine

import (
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// history keeps the tasks that ended last, for inspection.
type history struct {
	max  int
	ring []finished
	next int
}

// finished is a task that has ended.
type finished struct {
	id      string
	created int64
	ended   int64
	how     End
	life    *life
}

// End is how a task ended.
type End string

// The ends of a task.
const (
	Succeeded End = "succeeded"
	GivenUp   End = "given up" // its dispatches were used up
	Deleted   End = "deleted"  // by a call
	Purged    End = "purged"   // with its queue's other tasks
	TooOld    End = "too old"  // past the age limit
)

func (h *history) add(t *task, now int64, how End) {
	if t.life == nil || h.max <= 0 {
		return
	}
	f := finished{id: t.id, created: t.created, ended: now, how: how, life: t.life}
	if len(h.ring) < h.max {
		h.ring = append(h.ring, f)
		return
	}
	h.ring[h.next] = f
	h.next = (h.next + 1) % h.max
}

// back returns the task that ended as many before the last one.
func (h *history) back(i int) *finished {
	return &h.ring[(h.next+len(h.ring)-1-i)%len(h.ring)]
}

// find returns the task of this ID that ended last, nil when it is not known
// (any more).
func (h *history) find(id string) *finished {
	for i := range h.ring {
		if f := h.back(i); f.id == id {
			return f
		}
	}
	return nil
}

// Life is the history of one task.
type Life struct {
	ID            string
	Target        string // URL of its dispatches; empty until one has ended
	Created       time.Time
	Ended         time.Time // zero: it has not
	How           End
	DispatchCount int
	Dispatches    []Record // oldest first, the last hundred
}

func lifeOf(id string, created int64, l *life) Life {
	told := Life{ID: id, Created: time.Unix(0, created)}
	if l != nil {
		told.Target, told.DispatchCount = l.target, int(l.count)
		for _, a := range l.dispatches {
			told.Dispatches = append(told.Dispatches, a.copy())
		}
	}
	return told
}

func (f *finished) copy() Life {
	l := lifeOf(f.id, f.created, f.life)
	l.Ended, l.How = time.Unix(0, f.ended), f.how
	return l
}

// Life returns the history of a task in the queue, or of one that has ended, as
// long as the queue remembers it.
func (q *Queue) Life(id string) (Life, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.tasks.find(id, q.tasks.hash(id)); t != nil {
		return lifeOf(id, t.created, t.life), true
	}
	if f := q.finished.find(id); f != nil {
		return f.copy(), true
	}
	return Life{}, false
}

// Ended returns the tasks that ended last, the latest first, at most limit.
// Tasks that were never dispatched are not among them.
func (q *Queue) Ended(limit int) []Life {
	q.mu.Lock()
	defer q.mu.Unlock()
	var ended []Life
	for i := range min(limit, len(q.finished.ring)) {
		ended = append(ended, q.finished.back(i).copy())
	}
	return ended
}

func targetOf(m *cloudtaskspb.Task) string {
	if r := m.GetAppEngineHttpRequest(); r != nil {
		return r.GetRelativeUri()
	}
	return m.GetHttpRequest().GetUrl()
}
