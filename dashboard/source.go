package dashboard

import (
	"context"
	"strings"
	"time"

	"github.com/brillconsulting/handoff/admin"
)

// Source is where a [Dashboard] finds queues and tasks, and how it changes
// them. Both are given by their full resource names. Every method must be safe
// for concurrent use and honour its context; one that finds nothing by a name
// returns an error that is [admin.ErrNotFound], and one that will not ask its
// service any more for now, [ErrBudget].
//
// A Source that has seen the dispatches itself implements [Observer] too.
type Source interface {
	// About says what this is a source of.
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

// About is what a page says of its [Source].
type About struct {
	Name    string        // such as "Cloud Tasks, my-project in europe-west1"
	Limits  string        // what this source cannot show, in a sentence; empty: nothing
	Refresh time.Duration // how often a page that is being watched is read again; zero: every 10 s
}

// TaskQuery says which tasks of a queue to list. All that is set must hold.
type TaskQuery struct {
	Queue string // full name

	Text   string // part of the name, the kind, the URL, the handoff ID or the last answer, in any case
	Kind   string // exactly
	Status Status

	Cursor string // TaskPage.Next of the page before; empty: the first page
	Limit  int    // at most this many; 1 to 1000
}

// Filtered says whether the query leaves tasks out.
func (q TaskQuery) Filtered() bool { return q.Text != "" || q.Kind != "" || q.Status != "" }

// Matches says whether a task is one of those asked for.
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
	Next  string // cursor of what follows; empty: nothing does

	// Looked is how many tasks were looked at for a query that leaves some
	// out. If Next is set, the search may not be over.
	Looked int
}

// Status is where a task that has not ended stands.
type Status string

// The statuses of a task.
const (
	Waiting  Status = "waiting"  // for its first attempt
	Running  Status = "running"  // an attempt is being made
	Retrying Status = "retrying" // the last attempt failed; waiting for the next
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
