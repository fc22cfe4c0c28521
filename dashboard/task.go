package dashboard

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
)

// taskView is the data of a task's page.
type taskView struct {
	Name    string
	Task    *admin.Task // nil if it has ended
	Header  []headerLine
	Payload *payload // nil if it is hidden
	Life    *Life    // nil without an Observer
	Hidden  int      // number of dispatches that Cloud Tasks does not keep
	Steps   *stepsView
	Trouble string // why the steps could not be read
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
		case data.Task == nil && (lifeErr != nil || life.End == ""): // unless it was created since
			return view{}, err
		case lifeErr == nil:
			data.Life = &life
		}
	}
	if request := data.Request(); request != nil {
		data.Header = headerLines(request.Header)
		if shown {
			data.Payload = payloadOf(request.Body, request.Header.Get("Content-Type"))
		}
	}
	if data.Steps, err = d.stepsOf(r.Context(), data.Request(), shown); err != nil {
		// The rest of the page is useful without the steps.
		data.Trouble = d.failure(r, err).data.(problem).say()
	}
	if data.Task != nil && data.Life == nil {
		data.Hidden = max(0, task.Execution.Dispatches-2)
	}
	return view{name: "task", title: "Task " + r.PathValue("task"), nav: "queues", live: true, data: data}, nil
}

// Queue returns the full name of the task's queue.
func (v taskView) Queue() string {
	queue, _, _ := strings.Cut(v.Name, "/tasks/")
	return queue
}

// Request returns the task, also after its end; nil if the source has dropped it.
func (v taskView) Request() *admin.Task {
	if v.Task == nil {
		return v.Life.Request
	}
	return v.Task
}

// Limit returns the attempt limit in the task's stamp, or "" if it has none. The
// router counts those attempts; the queue's limit counts every dispatch.
func (v taskView) Limit() string {
	switch n := v.Request().MaxAttempts; n {
	case 0:
		return ""
	case handoff.Unlimited:
		return "no limit of attempts"
	default:
		return plural(n, "attempt")
	}
}

// Ended reports whether the task has ended.
func (v taskView) Ended() bool { return v.Task == nil }

// Made returns the number of dispatches.
func (l Life) Made() int { return l.Earlier + len(l.Attempts) }

// Last returns the last dispatch, or nil if there was none.
func (l Life) Last() *Attempt {
	if len(l.Attempts) == 0 {
		return nil
	}
	return &l.Attempts[len(l.Attempts)-1]
}

// Lived returns the time from the task's creation to its end.
func (l Life) Lived() time.Duration { return l.EndedAt.Sub(l.CreatedAt) }

// Wait returns how late the dispatch was.
func (a Attempt) Wait() time.Duration { return max(0, a.DispatchedAt.Sub(a.DueAt)) }

// Took returns how long the response took; zero if there is none.
func (a Attempt) Took() time.Duration {
	if a.RespondedAt.IsZero() {
		return 0
	}
	return a.RespondedAt.Sub(a.DispatchedAt)
}
