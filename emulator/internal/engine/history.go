package engine

import (
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// history keeps the tasks that ended last, for inspection.
type history struct {
	max      int
	messages *messages // of all queues of the engine
	ring     []finished
	next     int
}

// finished is a task that has ended.
type finished struct {
	id      string
	created int64
	ended   int64
	how     End
	life    *life
	message *message
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
	f := finished{id: t.id, created: t.created, ended: now, how: how, life: t.life, message: h.messages.keep(t.message)}
	if len(h.ring) < h.max {
		h.ring = append(h.ring, f)
		return
	}
	h.messages.drop(h.ring[h.next].message)
	h.ring[h.next] = f
	h.next = (h.next + 1) % h.max
}

// forget drops all that is kept.
func (h *history) forget() {
	for i := range h.ring {
		h.messages.drop(h.ring[i].message)
	}
	h.ring, h.next = nil, 0
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
	Task          Task     // its Message is nil if it is not kept any more
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

func (h *history) copy(f *finished) Life {
	l := lifeOf(f.id, f.created, f.life)
	l.Ended, l.How = time.Unix(0, f.ended), f.how
	last := f.life.dispatches[len(f.life.dispatches)-1]
	t := task{id: f.id, message: h.messages.read(f.message), life: f.life, created: f.created, due: last.schedule}
	l.Task = t.copy()
	return l
}

// Life returns the history of a task in the queue, or of one that has ended, as
// long as the queue remembers it.
func (q *Queue) Life(id string) (Life, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.tasks.find(id, q.tasks.hash(id)); t != nil {
		l := lifeOf(id, t.created, t.life)
		l.Task = t.copy()
		return l, true
	}
	if f := q.finished.find(id); f != nil {
		return q.finished.copy(f), true
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
		ended = append(ended, q.finished.copy(q.finished.back(i)))
	}
	return ended
}

func targetOf(m *cloudtaskspb.Task) string {
	if r := m.GetAppEngineHttpRequest(); r != nil {
		return r.GetRelativeUri()
	}
	return m.GetHttpRequest().GetUrl()
}
