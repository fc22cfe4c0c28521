package dashboard

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
)

// taskView is what the page of a task shows.
type taskView struct {
	Name    string
	Task    *admin.Task // nil: it has ended
	Header  []headerLine
	Payload *payload // nil: not asked for
	Life    *Life    // nil: nobody saw it
	Hidden  int      // attempts that Cloud Tasks does not keep
}

func (d *Dashboard) showTask(r *http.Request) (view, error) {
	data := taskView{Name: taskOf(r)}
	shown := r.URL.Query().Get("payload") == "shown"
	level := admin.Basic
	if shown {
		level = admin.Full
	}
	task, err := d.source.Task(r.Context(), data.Name, level)
	switch {
	case err == nil:
		data.Task = &task
	case d.watcher == nil || !errors.Is(err, admin.ErrNotFound):
		return view{}, err
	}
	if d.watcher != nil {
		life, lifeErr := d.watcher.Life(r.Context(), data.Name)
		switch {
		case lifeErr == nil:
			data.Life = &life
		case data.Task == nil:
			return view{}, err
		}
	}
	if request := data.Request(); request != nil {
		data.Header = headerLines(request.Header)
		if shown {
			data.Payload = payloadOf(request.Body, request.Header.Get("Content-Type"))
		}
	}
	if data.Task != nil && data.Life == nil {
		data.Hidden = max(0, task.Execution.Dispatches-2)
	}
	return view{name: "task", title: "Task " + r.PathValue("task"), nav: "queues", live: true, data: data}, nil
}

// Queue is the full name of its queue.
func (v taskView) Queue() string {
	queue, _, _ := strings.Cut(v.Name, "/tasks/")
	return queue
}

// Request is the task, also after its end; nil: it is not kept any more.
func (v taskView) Request() *admin.Task {
	if v.Task == nil {
		return v.Life.Request
	}
	return v.Task
}

// Limit is the limit of attempts that the task carries for the router of its
// kind, "" if it carries none. The queue's own counts every dispatch.
func (v taskView) Limit() string {
	limit := v.Request().Header.Get("Handoff-Max-Attempts")
	n, err := strconv.Atoi(limit)
	switch {
	case err != nil:
		return ""
	case n == handoff.Unlimited:
		return "no limit of attempts"
	}
	return plural(n, "attempt")
}

// Ended says whether the task has come to its end.
func (v taskView) Ended() bool { return v.Task == nil }

// Made is how many attempts there were.
func (l Life) Made() int { return l.Earlier + len(l.Attempts) }

// Last is the last attempt, nil if there was none.
func (l Life) Last() *Attempt {
	if len(l.Attempts) == 0 {
		return nil
	}
	return &l.Attempts[len(l.Attempts)-1]
}

// Lived is how long the task was there.
func (l Life) Lived() time.Duration { return l.EndedAt.Sub(l.CreatedAt) }

// Wait is how long the dispatch of an attempt came after its schedule.
func (a Attempt) Wait() time.Duration { return max(0, a.DispatchedAt.Sub(a.DueAt)) }

// Took is how long the answer took; zero: there is none.
func (a Attempt) Took() time.Duration {
	if a.RespondedAt.IsZero() {
		return 0
	}
	return a.RespondedAt.Sub(a.DispatchedAt)
}
