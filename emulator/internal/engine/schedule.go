package engine

import (
	"context"
	"math"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// Dispatch is a request that is due, as given to [Config.Dispatch].
type Dispatch struct {
	Queue    *cloudtaskspb.Queue // the queue's configuration now; read only
	QueueID  string
	TaskID   string
	Task     *cloudtaskspb.Task // as given to Add
	Schedule time.Time

	Retries    int // dispatches before this one
	Responses  int // responses before this one
	Executions int // responses before this one other than 5xx
	Previous   Outcome
}

// run is a dispatch in flight.
type run struct {
	queue    *Queue
	t        *task
	dispatch Dispatch
	number   int32 // of the dispatch, from 1
	start    int64
	forced   bool // by RunTask: outside the limits
}

// start is the scheduler. It is called, with the queue locked, whenever
// something has happened that may let a task start: a task came, a dispatch
// ended, the timer fired, the configuration or the state changed. It starts
// what may start now and sets the timer for what may start later.
func (q *Queue) start(now int64) {
	if q.closed {
		return
	}
	q.expire(now)
	wake := int64(0)
	for q.state == cloudtaskspb.Queue_RUNNING && !q.engine.held.Load() && q.inFlight < q.settings.concurrent {
		t := q.agenda.first()
		if t == nil {
			break
		}
		if at := max(t.due, q.bucket.ready(), q.throttle.heldTo); at > now {
			wake = at
			break
		}
		q.bucket.take(now)
		q.agenda.remove(t)
		q.inFlight++
		q.begin(t, now, false)
	}
	q.setTimer(wake)
}

// setTimer makes the queue wake at this time, or, if that comes first or
// wake is 0, when its oldest task reaches the age limit. A timer that is set
// too early is left: waking once for nothing is cheaper than setting it anew
// each time.
func (q *Queue) setTimer(wake int64) {
	if q.tasks.n > 0 && !q.closed {
		if end := addTime(q.oldest, q.settings.taskTTL); wake == 0 || end < wake {
			wake = end
		}
	}
	if wake == 0 {
		if q.wakeAt != 0 {
			q.timer.Stop()
			q.wakeAt = 0
		}
		return
	}
	if q.wakeAt != 0 && q.wakeAt <= wake {
		return
	}
	q.wakeAt = wake
	after := time.Until(time.Unix(0, wake))
	if q.timer == nil {
		q.timer = time.AfterFunc(after, q.tick)
		return
	}
	q.timer.Reset(after)
}

// addTime returns t+d, or the end of time if that is later.
func addTime(t int64, d time.Duration) int64 {
	if sum := t + int64(d); d < 0 || sum >= t {
		return sum
	}
	return math.MaxInt64
}

// tick is called by the timer.
func (q *Queue) tick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wakeAt = 0
	q.start(time.Now().UnixNano())
	q.engine.settled.announce()
}

// expire removes the tasks that have reached the age limit, dispatched or
// not (docs/cloud-tasks.md#8.9). oldest is a lower bound: tasks that end make it too
// low, never too high, and looking once too early corrects it.
func (q *Queue) expire(now int64) {
	if q.tasks.n == 0 || now < addTime(q.oldest, q.settings.taskTTL) {
		return
	}
	for t := q.tasks.from(0); t != nil; t = q.tasks.from(t.seq + 1) {
		if now < addTime(t.created, q.settings.taskTTL) {
			q.oldest = t.created
			return
		}
		q.drop(t, now, TooOld)
	}
}

// begin starts a dispatch of t.
func (q *Queue) begin(t *task, now int64, forced bool) {
	if t.life == nil {
		t.life = &life{first: now}
	}
	l := t.life
	r := &run{queue: q, t: t, start: now, forced: forced, number: l.count + 1}
	r.dispatch = Dispatch{
		Queue:      q.definition.Queue,
		QueueID:    q.id,
		Schedule:   time.Unix(0, t.due),
		Retries:    int(l.count),
		Responses:  int(l.responses),
		Executions: int(l.executions),
	}
	if n := len(l.dispatches); n > 0 {
		r.dispatch.Previous = l.dispatches[n-1].Outcome
	}
	if len(l.dispatches) == keptDispatches {
		l.dispatches = append(l.dispatches[:0], l.dispatches[1:]...)
	}
	l.dispatches = append(l.dispatches, record{schedule: t.due, dispatch: now})
	l.count++
	l.running++
	q.recent.dispatched(t.due, now)
	q.running++
	q.epoch.dispatches.Go(func() { q.carryOut(r) })
}

func (q *Queue) carryOut(r *run) {
	r.dispatch.TaskID, r.dispatch.Task = r.t.id, Decode(r.t.message)
	q.finish(r, q.dispatch(&r.dispatch))
}

func (q *Queue) dispatch(a *Dispatch) Outcome {
	ctx, cancel := context.WithTimeout(q.epoch.ctx, deadline(a.Task))
	defer cancel()
	return q.engine.cfg.Dispatch(ctx, a)
}

// deadline is how long a dispatch may take (docs/cloud-tasks.md#8.5). App Engine's
// default depends on how the service scales; this is the one of automatic
// scaling.
func deadline(t *cloudtaskspb.Task) time.Duration {
	if d := t.GetDispatchDeadline(); d != nil {
		return d.AsDuration()
	}
	return DefaultDeadline
}

// DefaultDeadline is the dispatch deadline of a task that states none.
const DefaultDeadline = 10 * time.Minute

// finish records the outcome of r and decides what becomes of its task.
func (q *Queue) finish(r *run, o Outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now().UnixNano()
	if !r.forced {
		q.inFlight--
	}
	q.running--
	r.t.life.end(r, o, now)
	q.recent.ended(o, now)
	if q.engine.cfg.Throttle && q.throttle.note(r.throttles(o), o.RetryAfter, now) {
		q.resetBucket(now)
	}
	if !r.t.gone {
		q.decide(r, o, now)
	}
	q.start(now)
	q.engine.settled.announce()
}

func (l *life) end(r *run, o Outcome, now int64) {
	l.running--
	l.target = targetOf(r.dispatch.Task)
	if o.Status != 0 {
		l.responses++
		if o.Status < 500 {
			l.executions++
		}
	}
	if i := int(r.number-l.count) + len(l.dispatches) - 1; i >= 0 {
		l.dispatches[i].Outcome = o
		if o.Status != 0 {
			l.dispatches[i].response = now
		}
	}
}

// decide deletes the task, or puts it back for its next dispatch. While
// RunTask has a second dispatch of it in flight, the last one to end decides.
// A success decides at once.
func (q *Queue) decide(r *run, o Outcome, now int64) {
	t := r.t
	if o.OK() {
		q.drop(t, now, Succeeded)
		return
	}
	if t.life.running > 0 {
		return
	}
	retry := q.settings.retry
	if own := r.dispatch.Task.GetRetryConfig(); own != nil {
		retry = retryOf(own)
	}
	if retry.exhausted(t.life.count, time.Duration(now-t.life.first)) {
		q.drop(t, now, GivenUp)
		return
	}
	// From the end of the dispatch, but from the call for RunTask (docs/cloud-tasks.md#7.2).
	from := now
	if r.forced {
		from = r.start
	}
	t.due = addTime(from, retry.wait(t.life.count))
	q.agenda.push(t)
}

// Run dispatches a task now, whatever the limits, the state of the queue
// or another dispatch of it that is running (docs/cloud-tasks.md#3.3). It returns the
// task as it is after the dispatch and before the response.
func (q *Queue) Run(id string) (Task, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.tasks.find(id, q.tasks.hash(id))
	if t == nil || q.closed {
		return Task{}, ErrTaskMissing
	}
	if q.engine.held.Load() {
		return Task{}, ErrClosed
	}
	now := time.Now().UnixNano()
	// A waiting task leaves the agenda, so that falling due does not
	// dispatch it a second time beside this one.
	q.agenda.remove(t)
	t.due = now
	q.begin(t, now, true)
	q.activity++
	return t.copy(), nil
}
