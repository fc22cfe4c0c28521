package engine

import (
	"context"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// Attempt is one dispatch of a task, as handed to [Config.Dispatch].
type Attempt struct {
	Queue    *cloudtaskspb.Queue // the queue's configuration now; read only
	QueueID  string
	TaskID   string
	Task     *cloudtaskspb.Task // as given to Add
	Schedule time.Time

	Retries    int // dispatches before this one
	Responses  int // answers before this one
	Executions int // answers before this one other than 5xx
	Previous   Outcome
}

// run is an attempt under way.
type run struct {
	queue   *Queue
	t       *task
	attempt Attempt
	number  int32 // of the dispatch, from 1
	start   int64
	forced  bool // by RunTask: outside the limits
}

// start sets everything going that may go now, and says whether anything was.
func (q *Queue) start(now int64) bool {
	r := q.advance(now)
	if r != nil {
		q.engine.workers.start(r)
	}
	return r != nil
}

// advance is the scheduler. It is called, with the queue locked, whenever
// something has happened that may let a task start: a task came, an attempt
// ended, the alarm rang, the configuration or the state changed. It starts
// what may start now and sets the alarm for what may start later. The last
// attempt begun is returned for the caller to carry out, so that a worker
// goes from one task to the next without a new goroutine.
func (q *Queue) advance(now int64) *run {
	if q.closed {
		return nil
	}
	q.expire(now)
	var last *run
	wake := int64(0)
	for q.state == cloudtaskspb.Queue_RUNNING && q.inFlight < q.settings.concurrent {
		t := q.agenda.first()
		if t == nil {
			break
		}
		if at := max(t.due, q.bucket.ready(), q.throttle.heldTo); at > now {
			wake = at
			if at == q.bucket.ready() {
				wake += q.bucket.gather(q.agenda.n)
			}
			break
		}
		q.bucket.take(now)
		q.agenda.remove(t)
		q.inFlight++
		if last != nil {
			q.engine.workers.start(last)
		}
		last = q.begin(t, now, false)
	}
	q.setAlarm(wake)
	return last
}

// setAlarm makes the queue wake at this time, or, if that comes first or
// wake is 0, when its oldest task reaches the age limit. An alarm that is set
// too early is left: waking once for nothing is cheaper than setting it anew
// each time.
func (q *Queue) setAlarm(wake int64) {
	if q.tasks.n > 0 {
		if end := q.oldest + int64(q.settings.taskTTL); wake == 0 || end < wake {
			wake = end
		}
	}
	if wake == 0 {
		if q.wakeAt != 0 {
			q.alarm.stop()
			q.wakeAt = 0
		}
		return
	}
	if q.wakeAt != 0 && q.wakeAt <= wake {
		return
	}
	q.wakeAt = wake
	q.alarm.set(wake)
}

// tick is called by the alarm.
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
	if q.tasks.n == 0 || now < q.oldest+int64(q.settings.taskTTL) {
		return
	}
	for t := q.tasks.from(0); t != nil; t = q.tasks.from(t.seq + 1) {
		if now < t.created+int64(q.settings.taskTTL) {
			q.oldest = t.created
			return
		}
		q.drop(t, now, TooOld)
	}
}

// begin records the start of an attempt of t.
func (q *Queue) begin(t *task, now int64, forced bool) *run {
	if t.life == nil {
		t.life = &life{first: now}
	}
	l := t.life
	r := &run{queue: q, t: t, start: now, forced: forced, number: l.dispatches + 1}
	r.attempt = Attempt{
		Queue:      q.definition.Queue,
		QueueID:    q.id,
		Schedule:   time.Unix(0, t.due),
		Retries:    int(l.dispatches),
		Responses:  int(l.responses),
		Executions: int(l.executions),
	}
	if n := len(l.attempts); n > 0 {
		r.attempt.Previous = l.attempts[n-1].Outcome
	}
	if len(l.attempts) == keptAttempts {
		l.attempts = append(l.attempts[:0], l.attempts[1:]...)
	}
	l.attempts = append(l.attempts, Record{Schedule: r.attempt.Schedule, Dispatch: time.Unix(0, now)})
	l.dispatches++
	l.running++
	q.recent.dispatched(t.due, now)
	q.running++
	q.epoch.attempts.Add(1)
	return r
}

// work carries out r and whatever it is handed next.
func (q *Queue) work(r *run) {
	for r != nil {
		a := &r.attempt
		a.TaskID = string(r.t.id())
		a.Task = Decode(r.t.message())
		outcome := q.dispatch(a)
		next := q.finish(r, outcome)
		q.epoch.attempts.Done()
		r = next
	}
}

func (q *Queue) dispatch(a *Attempt) Outcome {
	ctx, cancel := context.WithTimeout(q.epoch.ctx, deadline(a.Task))
	defer cancel()
	return q.engine.cfg.Dispatch(ctx, a)
}

// deadline is how long an attempt may take (docs/cloud-tasks.md#8.5). App Engine's
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

// finish records the outcome of r and decides what becomes of its task. It
// returns the attempt that the worker carries out next, if any.
func (q *Queue) finish(r *run, o Outcome) *run {
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
	next := q.advance(now)
	q.engine.settled.announce()
	return next
}

func (l *life) end(r *run, o Outcome, now int64) {
	l.running--
	l.target = targetOf(r.attempt.Task)
	if o.Status != 0 {
		l.responses++
		if o.Status < 500 {
			l.executions++
		}
	}
	if i := int(r.number-l.dispatches) + len(l.attempts) - 1; i >= 0 {
		l.attempts[i].Outcome = o
		if o.Status != 0 {
			l.attempts[i].Response = time.Unix(0, now)
		}
	}
}

// decide deletes the task, or puts it back for its next attempt. While
// RunTask has a second attempt of it running, the last one to end decides;
// success decides at once.
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
	if own := r.attempt.Task.GetRetryConfig(); own != nil {
		retry = retryOf(own)
	}
	if retry.exhausted(t.life.dispatches, time.Duration(now-t.life.first)) {
		q.drop(t, now, GivenUp)
		return
	}
	// From the end of the attempt, but from the call for RunTask (docs/cloud-tasks.md#7.2).
	from := now
	if r.forced {
		from = r.start
	}
	t.due = from + int64(retry.wait(t.life.dispatches))
	q.agenda.push(t)
}

// Run dispatches a task now, whatever the limits, the state of the queue
// or another attempt of it that is running (docs/cloud-tasks.md#3.3). It returns the
// task as it is after the dispatch and before the answer.
func (q *Queue) Run(id string) (Task, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := []byte(id)
	t := q.tasks.find(key, q.tasks.hash(key))
	if t == nil || q.closed {
		return Task{}, ErrTaskMissing
	}
	now := time.Now().UnixNano()
	// A waiting task leaves the agenda, so that falling due does not
	// dispatch it a second time beside this attempt.
	q.agenda.remove(t)
	t.due = now
	r := q.begin(t, now, true)
	q.activity++
	dispatched := t.copy()
	q.engine.workers.start(r)
	return dispatched, nil
}
