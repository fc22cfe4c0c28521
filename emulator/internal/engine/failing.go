package engine

// Failing has the tasks of a queue that wait for a retry, for one target.
type Failing struct {
	Target string
	Tasks  int
	Last   Life // of the task that was dispatched last
}

// Failing returns the targets whose tasks wait for a retry, in no order.
func (q *Queue) Failing() []Failing {
	q.mu.Lock()
	defer q.mu.Unlock()
	type group struct {
		n    int
		last *task
	}
	groups := make(map[string]*group)
	for t := q.tasks.from(0); t != nil; t = q.tasks.from(t.seq + 1) {
		if t.life == nil || t.life.running > 0 {
			continue
		}
		g := groups[t.life.target]
		if g == nil {
			g = &group{last: t}
			groups[t.life.target] = g
		}
		g.n++
		if t.life.lastDispatch() > g.last.life.lastDispatch() {
			g.last = t
		}
	}
	var all []Failing
	for target, g := range groups {
		last := lifeOf(g.last.id, g.last.created, g.last.life)
		last.Task = g.last.copy()
		all = append(all, Failing{Target: target, Tasks: g.n, Last: last})
	}
	return all
}

func (l *life) lastDispatch() int64 { return l.dispatches[len(l.dispatches)-1].dispatch }
