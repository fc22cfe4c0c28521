package dashboard

import (
	"context"
	"strings"
	"time"

	"github.com/brillconsulting/handoff/admin"
)

// Source lists and changes queues and tasks for a [Dashboard]. Queues and tasks are
// named by their full resource names. The methods must be safe for concurrent use
// and honour their context. If nothing has the name, the error must wrap
// [admin.ErrNotFound]. If the source may make no more calls for now, it must wrap
// [ErrBudget].
//
// A Source that has seen every dispatch can also implement [Observer].
type Source interface {
	// About describes the source.
	About() About

	// Queues returns all queues in the order of their names.
	Queues(ctx context.Context) ([]admin.Queue, error)

	// Queue returns one queue.
	Queue(ctx context.Context, queue string) (admin.Queue, error)

	// Tasks returns tasks of a queue that have not ended.
	Tasks(ctx context.Context, query TaskQuery) (TaskPage, error)

	// Task returns one task, with its body if view is admin.Full.
	Task(ctx context.Context, task string, view admin.View) (admin.Task, error)

	Pause(ctx context.Context, queue string) error
	Resume(ctx context.Context, queue string) error
	Purge(ctx context.Context, queue string) error
	RunNow(ctx context.Context, task string) error
	Delete(ctx context.Context, task string) error
}

// About describes a [Source].
type About struct {
	Name    string        // such as "Cloud Tasks, my-project in europe-west1"
	Limits  string        // a sentence on what the source cannot show; empty if nothing
	Refresh time.Duration // how often an open page is updated; zero for 10 s
}

// TaskQuery selects tasks of a queue. A task must match every field that is set.
type TaskQuery struct {
	Queue string // full name

	Text   string // part of the name, the kind, the URL, the handoff ID or the last response, in any case
	Kind   string // the exact kind
	Status Status

	Cursor string // TaskPage.Next of the page before; empty for the first page
	Limit  int    // maximum number of tasks, 1 to 1000
}

// Filtered reports whether the query has a Text, a Kind or a Status.
func (q TaskQuery) Filtered() bool { return q.Text != "" || q.Kind != "" || q.Status != "" }

// Matches reports whether t matches the query.
func (q TaskQuery) Matches(t admin.Task) bool {
	if q.Kind != "" && q.Kind != t.Kind {
		return false
	}
	if q.Status != "" && q.Status != StatusOf(t) {
		return false
	}
	if q.Text == "" {
		return true
	}
	text := []string{t.Name, t.Kind, t.URL, t.HandoffID}
	if last := t.Execution.Last; last != nil {
		text = append(text, last.Message)
	}
	want := strings.ToLower(q.Text)
	for _, s := range text {
		if strings.Contains(strings.ToLower(s), want) {
			return true
		}
	}
	return false
}

// TaskPage is one page of tasks.
type TaskPage struct {
	Tasks []admin.Task
	Next  string // cursor of the next page; empty if this is the last

	// Looked is how many tasks a filtered query has searched. If Next is set,
	// there are more to search.
	Looked int
}

// Status is the state of a task that has not ended.
type Status string

// The statuses of a task.
const (
	Waiting  Status = "waiting"  // for its first dispatch
	Running  Status = "running"  // it was dispatched, and the response has not arrived
	Retrying Status = "retrying" // the last dispatch failed; waiting for the next
)

// StatusOf returns the status of a task.
func StatusOf(t admin.Task) Status {
	switch {
	case t.Execution.Last == nil:
		return Waiting
	case t.Execution.Running():
		return Running
	}
	return Retrying
}
