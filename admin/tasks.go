package admin

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	gax "github.com/googleapis/gax-go/v2"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/create"
	"github.com/brillconsulting/handoff/internal/rpc"
	"github.com/brillconsulting/handoff/internal/wire"
)

// Tasks manages the tasks of queues. Its methods take full resource names, as in
// [handoff.Receipt].Name and [Task].Name; [Tasks.Name] makes one. It is safe for
// concurrent use.
type Tasks struct{ a *Admin }

// View selects how much of a task is returned.
type View int

// The views of a task. Full adds the body, and needs the permission
// cloudtasks.tasks.fullView
// (https://cloud.google.com/tasks/docs/reference-access-control).
const (
	Basic View = iota
	Full
)

func (v View) message() cloudtaskspb.Task_View {
	if v == Full {
		return cloudtaskspb.Task_FULL
	}
	return cloudtaskspb.Task_BASIC
}

// of returns m with the permission that v needs.
func (v View) of(m method) method {
	if v == Full {
		m.permission += " and cloudtasks.tasks.fullView"
	}
	return m
}

// Task is a task of the service. Its headers and body may hold secrets.
type Task struct {
	Name  string // resource name
	ID    string // its last part
	Queue string // queue ID

	// HandoffID and Kind are those of [handoff.Client.Enqueue]; both are empty for
	// other tasks.
	HandoffID string
	Kind      string

	// MaxAttempts is the limit of attempts that the router counts;
	// handoff.Unlimited if there is none, zero if the task carries none. The
	// MaxAttempts of Retry, or of the queue, counts every dispatch.
	MaxAttempts int

	CreatedAt   time.Time      // to the second
	ScheduledAt time.Time      // when it is due next
	Deadline    time.Duration  // the longest that a dispatch may take; zero: the target's default
	Retry       *handoff.Retry // the task's own; nil: the queue's

	Method         string
	URL            string            // the relative URI for an App Engine task
	AppEngine      *AppEngineRouting // nil for an HTTP task
	Header         http.Header
	Body           []byte // only in the view Full
	ServiceAccount string // of the token; empty: none
	Audience       string // of an OIDC token
	Scope          string // of an OAuth token

	Execution Execution
}

// TaskOf converts a message of the API to a Task, as [Tasks.Get] does.
func TaskOf(m *cloudtaskspb.Task) Task {
	queue, id, _ := strings.Cut(m.GetName(), "/tasks/")
	t := Task{
		Name:        m.GetName(),
		ID:          id,
		Queue:       queue[strings.LastIndexByte(queue, '/')+1:],
		CreatedAt:   timeOf(m.GetCreateTime()),
		ScheduledAt: timeOf(m.GetScheduleTime()),
		Deadline:    m.GetDispatchDeadline().AsDuration(),
		Header:      make(http.Header),
		Execution:   executionOf(m),
	}
	if r := m.GetRetryConfig(); r != nil {
		t.Retry = &handoff.Retry{
			MaxAttempts:  int(r.GetMaxAttempts()),
			MinBackoff:   r.GetMinBackoff().AsDuration(),
			MaxBackoff:   r.GetMaxBackoff().AsDuration(),
			MaxDoublings: cmp.Or(int(r.GetMaxDoublings()), handoff.NoDoublings),
		}
	}
	headers, body := create.Parts(m)
	for name, value := range headers {
		t.Header[textproto.CanonicalMIMEHeaderKey(name)] = []string{value}
	}
	t.Body = body
	if r := m.GetHttpRequest(); r != nil {
		t.Method, t.URL = methodOf(r.GetHttpMethod()), r.GetUrl()
		t.ServiceAccount, t.Audience, t.Scope = tokenOf(r.GetOidcToken(), r.GetOauthToken())
	}
	if r := m.GetAppEngineHttpRequest(); r != nil {
		t.Method, t.URL = methodOf(r.GetHttpMethod()), r.GetRelativeUri()
		t.AppEngine = &AppEngineRouting{
			Service:  r.GetAppEngineRouting().GetService(),
			Version:  r.GetAppEngineRouting().GetVersion(),
			Instance: r.GetAppEngineRouting().GetInstance(),
		}
	}
	t.MaxAttempts = wire.StampedLimit(headers)
	if t.HandoffID = wire.StampedID(headers); t.HandoffID != "" {
		path, _, _ := strings.Cut(t.URL, "?")
		t.Kind = path[strings.LastIndexByte(path, '/')+1:]
	}
	return t
}

// Name returns the resource name of the task with this ID, on a queue of the
// [Admin]'s location.
func (t *Tasks) Name(queue, id string) string {
	return t.a.queueName(queue) + "/tasks/" + id
}

// tasksPage is the largest page: the quota of list calls is small
// (docs/cloud-tasks.md#3.2, #13.1).
const tasksPage = 1000

// List yields the tasks of a queue in no particular order, page by page, so it
// needs memory for one page only. Tasks that are created or deleted meanwhile
// may be missing. The service allows about 600 pages of 1000 tasks a minute, and
// two hours from the first page to the last.
//
// An error ends it: [ErrNotFound] for the queue, [ErrPermission].
func (t *Tasks) List(ctx context.Context, queue string, view View) iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		if err := checkQueueID(queue); err != nil {
			yield(Task{}, err)
			return
		}
		req := &cloudtaskspb.ListTasksRequest{Parent: t.a.queueName(queue), ResponseView: view.message()}
		err := pages(ctx, tasksPage, func(ctx context.Context) lister[*cloudtaskspb.Task] { return t.a.v2.ListTasks(ctx, req) },
			func(task *cloudtaskspb.Task) bool { return yield(TaskOf(task), nil) })
		if err != nil {
			yield(Task{}, view.of(listTasks).on(ctx, queue, err))
		}
	}
}

// TaskPage is one page of the tasks of a queue.
type TaskPage struct {
	Tasks []Task
	Next  string // token of the next page; empty on the last
}

// Page returns one page of a listing by one list call. Use it where the next
// page is read later or elsewhere, as on a web page. token is [TaskPage].Next of
// the page before, at most two hours old, or empty for the first. size is 1 to
// 1000; a page may be shorter and not be the last.
//
// Errors: [ErrNotFound] for the queue, [ErrInvalid] for an invalid size or
// token, [ErrPermission].
func (t *Tasks) Page(ctx context.Context, queue string, view View, size int, token string) (TaskPage, error) {
	if err := checkQueueID(queue); err != nil {
		return TaskPage{}, err
	}
	if size < 1 || size > tasksPage {
		return TaskPage{}, invalid("size", size, "1 to 1000")
	}
	req := &cloudtaskspb.ListTasksRequest{Parent: t.a.queueName(queue), ResponseView: view.message()}
	found, next, err := page(ctx, size, token, func(ctx context.Context) lister[*cloudtaskspb.Task] { return t.a.v2.ListTasks(ctx, req) })
	if err != nil {
		return TaskPage{}, view.of(listTasks).on(ctx, queue, err)
	}
	tasks := make([]Task, len(found))
	for i, task := range found {
		tasks[i] = TaskOf(task)
	}
	return TaskPage{Tasks: tasks, Next: next}, nil
}

// Get returns a task. It returns [ErrNotFound] for a task that succeeded, was
// given up, was deleted or never existed, and [ErrPermission].
func (t *Tasks) Get(ctx context.Context, name string, view View) (Task, error) {
	if _, err := queueOfTask(name); err != nil {
		return Task{}, err
	}
	got, err := call(ctx, t.a.v2.GetTask, &cloudtaskspb.GetTaskRequest{Name: name, ResponseView: view.message()})
	if err != nil {
		return Task{}, view.of(getTask).on(ctx, name, err)
	}
	return TaskOf(got), nil
}

// Delete deletes a task. The dispatch of a task in flight may continue. It returns
// [ErrNotFound] for a task that is already gone, and [ErrPermission]. If the
// response to the first try was lost, the retry returns [ErrNotFound] although this
// call deleted the task.
func (t *Tasks) Delete(ctx context.Context, name string) error {
	if _, err := queueOfTask(name); err != nil {
		return err
	}
	return deleteTask.on(ctx, name, t.delete(ctx, name))
}

func (t *Tasks) delete(ctx context.Context, name string) error {
	ctx, cancel := rpc.WithTimeout(ctx)
	defer cancel()
	return t.a.v2.DeleteTask(ctx, &cloudtaskspb.DeleteTaskRequest{Name: name})
}

// RunNow dispatches a task at once: before its schedule time, beyond the limits
// of its queue, from a paused queue, and even if it is in flight, in which case
// a [handoff.Router] responds 409. It returns the task as the service shows it,
// which may be from before the dispatch. If the dispatch fails, the next is due
// after the backoff, counted from this call.
//
// It is never retried: after a network error the task may have been dispatched.
// Errors: [ErrNotFound], [ErrPermission].
func (t *Tasks) RunNow(ctx context.Context, name string) (Task, error) {
	if _, err := queueOfTask(name); err != nil {
		return Task{}, err
	}
	ran, err := call(ctx, t.a.v2.RunTask, &cloudtaskspb.RunTaskRequest{Name: name})
	if err != nil {
		return Task{}, runTask.on(ctx, name, err)
	}
	return TaskOf(ran), nil
}

// WaitGone waits until a task is gone: until it succeeded, was given up or
// deleted, which the service does not tell apart. It returns at once for a task
// that never existed. It polls often at first, later every few seconds. It
// returns ctx's error when ctx ends, or [ErrPermission].
func (t *Tasks) WaitGone(ctx context.Context, name string) error {
	pause := gax.Backoff{Initial: 100 * time.Millisecond, Max: 5 * time.Second, Multiplier: 1.5}
	for {
		_, err := t.Get(ctx, name, Basic)
		switch {
		case errors.Is(err, ErrNotFound):
			return nil
		case err != nil && (ctx.Err() != nil || !resolves(err)):
			return err
		}
		if err := gax.Sleep(ctx, pause.Pause()); err != nil {
			return getTask.on(ctx, name, err)
		}
	}
}
