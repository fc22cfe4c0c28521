package engine

// agenda orders the waiting tasks of a queue by the time of their next
// dispatch: a 4-ary heap, kept in chunks of fixed size. Chunks bound what
// growing costs: no copy of a large array while the queue is locked, and
// no spare half of one in memory.
type agenda struct {
	chunks []*[agendaChunk]entry
	n      int
}

// entry repeats the due time beside the pointer, so that sifting compares
// neighbours in memory and follows a pointer only on equal times.
type entry struct {
	due int64
	t   *task
}

const (
	agendaBits  = 7
	agendaChunk = 1 << agendaBits
	arity       = 4
)

// before breaks ties by age: the service promises no order
// (docs/cloud-tasks.md#8.2), but a fixed one makes tests in virtual time repeatable.
func (e entry) before(o entry) bool {
	return e.due < o.due || e.due == o.due && e.t.seq < o.t.seq
}

func (a *agenda) at(i int) *entry { return &a.chunks[i>>agendaBits][i&(agendaChunk-1)] }

func (a *agenda) put(i int, e entry) {
	*a.at(i) = e
	e.t.pos = int32(i)
}

// first is the task that is due next, nil when none waits.
func (a *agenda) first() *task {
	if a.n == 0 {
		return nil
	}
	return a.chunks[0][0].t
}

func (a *agenda) push(t *task) {
	if a.n == len(a.chunks)<<agendaBits {
		a.chunks = append(a.chunks, new([agendaChunk]entry))
	}
	a.n++
	a.up(a.n-1, entry{t.due, t})
}

// remove takes t out, wherever it stands; a task that does not wait is left alone.
func (a *agenda) remove(t *task) {
	if t.pos < 0 {
		return
	}
	i := int(t.pos)
	t.pos = -1
	a.n--
	moved := *a.at(a.n)
	*a.at(a.n) = entry{}
	a.shrink()
	if i == a.n {
		return
	}
	if i > 0 && moved.before(*a.at((i - 1) / arity)) {
		a.up(i, moved)
		return
	}
	a.down(i, moved)
}

// shrink gives chunks back, keeping one empty one against a queue that
// breathes around a boundary.
func (a *agenda) shrink() {
	needed := (a.n + agendaChunk - 1) >> agendaBits
	if spare := len(a.chunks) - needed - 1; spare > 0 {
		clear(a.chunks[len(a.chunks)-spare:])
		a.chunks = a.chunks[:len(a.chunks)-spare]
	}
}

func (a *agenda) up(i int, e entry) {
	for i > 0 {
		parent := (i - 1) / arity
		p := *a.at(parent)
		if !e.before(p) {
			break
		}
		a.put(i, p)
		i = parent
	}
	a.put(i, e)
}

func (a *agenda) down(i int, e entry) {
	for {
		child := i*arity + 1
		if child >= a.n {
			break
		}
		least := *a.at(child)
		at := child
		for c := child + 1; c < min(child+arity, a.n); c++ {
			if o := *a.at(c); o.before(least) {
				least, at = o, c
			}
		}
		if !least.before(e) {
			break
		}
		a.put(i, least)
		i = at
	}
	a.put(i, e)
}
