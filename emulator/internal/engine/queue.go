package engine

import (
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// Queue is one queue: its tasks, its limits, its scheduler.
type Queue struct {
	engine *Engine
	epoch  *epoch
	name   string // projects/P/locations/L/queues/Q
	id     string // Q

	mu         sync.Mutex
	definition Definition
	settings   settings
	state      cloudtaskspb.Queue_State
	purged     int64 // Unix nanoseconds, 0 if never
	born       int64
	closed     bool

	tasks    store
	agenda   agenda
	graves   graves
	finished history

	bucket   bucket
	throttle throttle
	recent   recent
	inFlight int // dispatches that count against the concurrency limit
	running  int // all dispatches, those of RunTask included
	activity uint64

	timer  *time.Timer // calls tick; nil until it is first set
	wakeAt int64       // what the timer is set to, 0 while it is stopped
	oldest int64       // no task was created before; see expire
}

func newQueue(e *Engine, d Definition) *Queue {
	name := d.Queue.GetName()
	q := &Queue{
		engine:     e,
		epoch:      e.epoch,
		name:       name,
		id:         name[strings.LastIndexByte(name, '/')+1:],
		definition: d,
		settings:   e.settingsOf(d),
		state:      cloudtaskspb.Queue_RUNNING,
		born:       time.Now().UnixNano(),
		tasks:      newStore(),
		finished:   history{max: e.cfg.History, messages: &e.messages},
	}
	q.bucket = newBucket(q.settings.rate, q.settings.burst)
	return q
}

// Name is the full name of the queue.
func (q *Queue) Name() string { return q.name }

// Status is the state of a queue at one moment.
type Status struct {
	Definition // read only; the TTLs are those in force

	State  cloudtaskspb.Queue_State
	Purged time.Time // zero if never
}

// Status returns the state of the queue now.
func (q *Queue) Status() Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.status()
}

func (q *Queue) status() Status {
	s := Status{Definition: q.definition, State: q.state}
	s.TaskTTL, s.TombstoneTTL = q.settings.taskTTL, q.settings.tombstoneTTL
	if q.purged != 0 {
		s.Purged = time.Unix(0, q.purged)
	}
	return s
}

// Update replaces the definition by what change makes of it. Tasks that
// already wait, and names that are reserved, follow the new one from here on.
// change must return a new message, not a changed one.
func (q *Queue) Update(change func(Definition) (Definition, error)) (Status, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return Status{}, ErrQueueMissing
	}
	definition, err := change(q.definition)
	if err != nil {
		return Status{}, err
	}
	now := time.Now().UnixNano()
	before := q.settings
	q.definition, q.settings = definition, q.engine.settingsOf(definition)
	if q.settings.rate != before.rate || q.settings.burst != before.burst {
		q.resetBucket(now)
	}
	q.start(now)
	return q.status(), nil
}

func (q *Queue) resetBucket(now int64) {
	q.bucket.reset(q.throttle.rate(q.settings.rate), q.settings.burst, now)
}

// Pause stops the dispatch; dispatches in flight go on. Pausing a paused
// queue is success (the service's response is unknown, docs/cloud-tasks.md#3.3).
func (q *Queue) Pause() (Status, error) { return q.setState(cloudtaskspb.Queue_PAUSED) }

// Resume starts the dispatch again, from PAUSED or DISABLED.
func (q *Queue) Resume() (Status, error) { return q.setState(cloudtaskspb.Queue_RUNNING) }

func (q *Queue) setState(state cloudtaskspb.Queue_State) (Status, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return Status{}, ErrQueueMissing
	}
	q.state = state
	q.activity++
	q.start(time.Now().UnixNano())
	q.engine.settled.announce()
	return q.status(), nil
}

// Purge removes every task at once; their names stay reserved
// (docs/cloud-tasks.md#6.5). Dispatches in flight run on and change nothing any more.
func (q *Queue) Purge() (Status, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return Status{}, ErrQueueMissing
	}
	now := time.Now().UnixNano()
	for t := q.tasks.from(0); t != nil; t = q.tasks.from(t.seq + 1) {
		q.end(t, q.tasks.hash(t.id), now, Purged)
		t.pos = -1
	}
	q.agenda = agenda{}
	q.tasks.clear()
	q.purged = now
	q.start(now)
	q.engine.settled.announce()
	return q.status(), nil
}

// unsettled counts what runs, and what will by itself.
func (q *Queue) unsettled() int {
	if q.state != cloudtaskspb.Queue_RUNNING {
		return q.running
	}
	return q.running + q.agenda.n
}

func (q *Queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.setTimer(0)
}

// discard closes a queue that nobody will ask about any more.
func (q *Queue) discard() {
	q.close()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.finished.forget()
}

// Add puts a task into the queue, due at its schedule time, or at once if
// that is not set or past. It reports ErrTaskExists, or ErrTaskRecent for the
// name of a task that ended less than the window ago.
func (q *Queue) Add(e Encoded, due time.Time) (Task, error) {
	hash := q.tasks.hash(e.id)

	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return Task{}, ErrQueueMissing
	}
	now := time.Now().UnixNano()
	if q.tasks.find(e.id, hash) != nil {
		return Task{}, ErrTaskExists
	}
	if e.named && q.graves.holds(hash, now, int64(q.settings.tombstoneTTL)) {
		return Task{}, ErrTaskRecent
	}
	t := &task{id: e.id, message: e.message, created: now, due: now, pos: -1}
	if due.After(time.Unix(0, now)) { // long past, it would not fit in nanoseconds
		t.due = due.UnixNano()
	}
	if q.tasks.n == 0 {
		q.oldest = now
	}
	q.tasks.add(t, hash)
	q.agenda.push(t)
	q.activity++
	added := t.copy()
	q.start(now)
	return added, nil
}

// Get returns a copy of a task, ErrTaskGone if it ended recently, or
// ErrTaskMissing.
func (q *Queue) Get(id string) (Task, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	hash := q.tasks.hash(id)
	if t := q.tasks.find(id, hash); t != nil {
		return t.copy(), nil
	}
	if q.graves.holds(hash, time.Now().UnixNano(), int64(q.settings.tombstoneTTL)) {
		return Task{}, ErrTaskGone
	}
	return Task{}, ErrTaskMissing
}

// List returns up to n tasks with a sequence number of from or more, in
// order of creation, and where the next page begins, or 0. A page ends early when
// it has more than this many bytes.
func (q *Queue) List(from uint64, n, bytes int) (page []Task, next uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for t := q.tasks.from(from); t != nil; t = q.tasks.from(t.seq + 1) {
		if len(page) == n || bytes < 0 {
			return page, t.seq
		}
		page = append(page, t.copy())
		bytes -= len(t.id) + len(t.message)
	}
	return page, 0
}

// Remove deletes a task. A dispatch in flight runs on and changes nothing
// any more.
func (q *Queue) Remove(id string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.tasks.find(id, q.tasks.hash(id))
	if t == nil {
		return ErrTaskMissing
	}
	now := time.Now().UnixNano()
	q.drop(t, now, Deleted)
	q.start(now)
	q.engine.settled.announce()
	return nil
}

// drop takes a task out of the queue and leaves its name reserved.
func (q *Queue) drop(t *task, now int64, how End) {
	hash := q.tasks.hash(t.id)
	q.agenda.remove(t)
	q.tasks.remove(t, hash)
	q.end(t, hash, now, how)
}

func (q *Queue) end(t *task, hash uint64, now int64, how End) {
	q.graves.bury(hash, now, int64(q.settings.tombstoneTTL))
	q.finished.add(t, now, how)
	t.gone = true
}
