package engine

import "slices"

// history keeps the attempts of the tasks that ended last, for inspection.
type history struct {
	most int
	ring []finished
	next int
}

type finished struct {
	id   string
	life *life
}

func (h *history) add(t *task) {
	if t.life == nil || h.most <= 0 {
		return
	}
	f := finished{string(t.id()), t.life}
	if len(h.ring) < h.most {
		h.ring = append(h.ring, f)
		return
	}
	h.ring[h.next] = f
	h.next = (h.next + 1) % h.most
}

// find returns the life of the task of this ID that ended last, nil when
// it is not known (any more).
func (h *history) find(id string) *life {
	for i := range slices.Backward(h.ring) {
		if f := h.ring[(h.next+i)%len(h.ring)]; f.id == id {
			return f.life
		}
	}
	return nil
}

// Attempts returns the attempts of a task, oldest first: of one that is in
// the queue the last hundred, of one that has ended as long as the queue
// remembers it.
func (q *Queue) Attempts(id string) []Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := []byte(id)
	var l *life
	if t := q.tasks.find(key, q.tasks.hash(key)); t != nil {
		l = t.life
	} else {
		l = q.finished.find(id)
	}
	if l == nil {
		return nil
	}
	return append([]Record(nil), l.attempts...)
}
