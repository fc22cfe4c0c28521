package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/brillconsulting/handoff/admin"
)

type tasksCmd struct {
	placeFlags
	outputFlags

	List     tasksList     `cmd:"" help:"List the tasks of a queue, in no particular order."`
	Describe tasksDescribe `cmd:"" help:"Show everything about a task."`
	Run      tasksRun      `cmd:"" help:"Dispatch tasks at once, also from a paused queue."`
	Delete   tasksDelete   `cmd:"" help:"Delete tasks."`
	Enqueue  tasksEnqueue  `cmd:"" help:"Create a task: a request to any URL."`
}

type payloadFlag struct {
	Payload bool `help:"Show headers and payload, which may hold secrets."`
}

func (p payloadFlag) view() admin.View {
	if p.Payload {
		return admin.Full
	}
	return admin.Basic
}

// taskJSON is a task. Header and Payload are set only with --payload.
type taskJSON struct {
	Name           string       `json:"name"`
	ID             string       `json:"id"`
	Queue          string       `json:"queue"`
	HandoffID      string       `json:"handoff_id,omitempty"`
	Kind           string       `json:"kind,omitempty"`
	CreatedAt      *time.Time   `json:"created_at,omitempty"`
	ScheduledAt    *time.Time   `json:"scheduled_at,omitempty"`
	Deadline       string       `json:"deadline,omitempty"`
	Method         string       `json:"method"`
	URL            string       `json:"url"`
	AppEngine      string       `json:"app_engine,omitempty"`
	ServiceAccount string       `json:"service_account,omitempty"`
	Audience       string       `json:"audience,omitempty"`
	Scope          string       `json:"scope,omitempty"`
	Retry          *retryJSON   `json:"retry,omitempty"`
	MaxAttempts    int          `json:"max_attempts,omitempty"` // that the router counts
	Dispatches     int          `json:"dispatches"`
	Responses      int          `json:"responses"`
	FirstAttemptAt *time.Time   `json:"first_attempt_at,omitempty"`
	Running        bool         `json:"running"`
	LastAttempt    *attemptJSON `json:"last_attempt,omitempty"`
	Header         http.Header  `json:"header,omitempty"`
	Payload        []byte       `json:"payload,omitempty"`
}

// retryJSON is a task's own retry policy; without one it has the queue's.
type retryJSON struct {
	MaxAttempts  int    `json:"max_attempts"`
	MinBackoff   string `json:"min_backoff"`
	MaxBackoff   string `json:"max_backoff"`
	MaxDoublings int    `json:"max_doublings"`
}

// attemptJSON is the last dispatch of a task. Code and Message are its error, as a
// gRPC status.
type attemptJSON struct {
	ScheduledAt  *time.Time `json:"scheduled_at,omitempty"`
	DispatchedAt *time.Time `json:"dispatched_at,omitempty"`
	RespondedAt  *time.Time `json:"responded_at,omitempty"`
	Code         string     `json:"code,omitempty"`
	Message      string     `json:"message,omitempty"`
}

func jsonOfTask(t admin.Task, show payloadFlag) taskJSON {
	e := t.Execution
	out := taskJSON{
		Name: t.Name, ID: t.ID, Queue: t.Queue, HandoffID: t.HandoffID, Kind: t.Kind,
		CreatedAt: stamp(t.CreatedAt), ScheduledAt: stamp(t.ScheduledAt), Deadline: known(t.Deadline),
		Method: t.Method, URL: t.URL, ServiceAccount: t.ServiceAccount, Audience: t.Audience, Scope: t.Scope,
		Dispatches: e.Dispatches, Responses: e.Responses, FirstAttemptAt: stamp(e.FirstDispatchedAt), Running: e.Running(),
	}
	if t.AppEngine != nil {
		out.AppEngine = t.AppEngine.String()
	}
	out.MaxAttempts = t.MaxAttempts
	if r := t.Retry; r != nil {
		out.Retry = &retryJSON{r.MaxAttempts, r.MinBackoff.String(), r.MaxBackoff.String(), doublings(r.MaxDoublings)}
	}
	if a := e.Last; a != nil {
		out.LastAttempt = &attemptJSON{ScheduledAt: stamp(a.ScheduledAt), DispatchedAt: stamp(a.DispatchedAt), RespondedAt: stamp(a.RespondedAt)}
		if !e.Running() {
			out.LastAttempt.Code, out.LastAttempt.Message = a.Code.String(), a.Message
		}
	}
	if show.Payload {
		out.Header, out.Payload = t.Header, t.Body
	}
	return out
}

// lastCell returns the result of the task's last dispatch.
func lastCell(e admin.Execution) cell {
	switch {
	case e.Last == nil:
		return text("")
	case e.Running():
		return cell{"running", green}
	case e.Last.Message != "":
		return cell{e.Last.Message, red}
	}
	return cell{e.Last.Code.String(), red}
}

type tasksList struct {
	queueArg
	payloadFlag

	Limit int `help:"List at most this many; 0 lists all, a thousand a call." placeholder:"N"`
}

// Run lists the tasks.
func (c *tasksList) Run(ctx context.Context, con *console, tasks *tasksCmd) error {
	if err := c.within(&tasks.placeFlags); err != nil {
		return err
	}
	return tasks.admin(ctx, func(a *admin.Admin) error {
		out := con.list(tasks.outputFlags, "TASK", "KIND", "CREATED", "DUE", "DISPATCHES", "LAST ATTEMPT")
		now, listed := time.Now(), 0
		for t, err := range a.Tasks().List(ctx, c.Queue, c.view()) {
			if err != nil {
				if ctx.Err() != nil {
					err = partial{count(listed, "task") + " listed, there are more"}
				}
				return out.endWith(err)
			}
			err := out.add(jsonOfTask(t, c.payloadFlag), text(t.ID), text(t.Kind), text(age(t.CreatedAt, now)),
				text(age(t.ScheduledAt, now)), number(t.Execution.Dispatches), lastCell(t.Execution))
			if err != nil {
				return err
			}
			if listed++; listed == c.Limit {
				break
			}
		}
		return out.end()
	})
}

type tasksDescribe struct {
	tasksArg
	payloadFlag
}

// Run shows the task.
func (c *tasksDescribe) Run(ctx context.Context, con *console, tasks *tasksCmd) error {
	if err := c.within(&tasks.placeFlags); err != nil {
		return err
	}
	if len(c.Tasks) > 1 {
		return usagef("%d tasks are named; it describes one", len(c.Tasks))
	}
	return tasks.admin(ctx, func(a *admin.Admin) error {
		t, err := a.Tasks().Get(ctx, a.Tasks().Name(c.Queue, c.Tasks[0]), c.view())
		if err != nil {
			return err
		}
		return con.describe(tasks.outputFlags, jsonOfTask(t, c.payloadFlag), taskFacts(t, c.payloadFlag, time.Now())...)
	})
}

func taskFacts(t admin.Task, show payloadFlag, now time.Time) [][]cell {
	j := jsonOfTask(t, show)
	facts := [][]cell{
		fact("task", t.Name),
		fact("kind", t.Kind),
		fact("handoff ID", t.HandoffID),
		fact("created", moment(t.CreatedAt, now)),
		fact("due", moment(t.ScheduledAt, now)),
		fact("deadline", j.Deadline),
		fact("request", t.Method+" "+t.URL),
		fact("App Engine", j.AppEngine),
		fact("service account", t.ServiceAccount),
		fact("audience", t.Audience),
		fact("scope", t.Scope),
	}
	if r := j.Retry; r != nil {
		facts = append(facts, fact("retries", fmt.Sprintf("after %s to %s, %d doublings, %s dispatches", r.MinBackoff, r.MaxBackoff, r.MaxDoublings, limit(r.MaxAttempts))))
	}
	if t.MaxAttempts != 0 {
		facts = append(facts, fact("attempts", limit(t.MaxAttempts)+", which the router counts"))
	}
	facts = append(facts,
		fact("dispatches", fmt.Sprintf("%d, %d with a response", j.Dispatches, j.Responses)),
		fact("first attempt", moment(t.Execution.FirstDispatchedAt, now)),
	)
	if a := t.Execution.Last; a != nil {
		facts = append(facts, fact("last attempt", moment(a.DispatchedAt, now)), []cell{text("which ended"), lastCell(t.Execution)})
	}
	if show.Payload {
		facts = append(facts, contentFacts(t.Header, t.Body)...)
	}
	return facts
}

// contentFacts show headers and a payload, which keeps its lines.
func contentFacts(header map[string][]string, payload []byte) [][]cell {
	var facts [][]cell
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, value := range header[name] {
			facts = append(facts, fact("header", name+": "+value))
		}
	}
	name := "payload"
	if !utf8.Valid(payload) {
		name = fmt.Sprintf("payload of %d bytes", len(payload))
	}
	if len(payload) == 0 {
		return facts
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(payload), "\n"), "\n") {
		facts = append(facts, fact(name, cmp.Or(line, " "))) // nothing would not be shown
		name = ""
	}
	return facts
}

// resultJSON is the result for one item: a task that was run or deleted, or a letter
// that was redriven or deleted. Error is set if it failed.
type resultJSON struct {
	ID    string `json:"id"`
	Done  bool   `json:"done"`
	Task  string `json:"task,omitempty"`
	Error string `json:"error,omitempty"`
}

func resultOf(id, task string, err error) resultJSON {
	if err != nil {
		return resultJSON{ID: id, Task: task, Error: oneLine(err)}
	}
	return resultJSON{ID: id, Done: true, Task: task}
}

// tellResults returns a function that writes a result as JSON. It writes nothing if
// the output is a table: the reader gets the totals.
func tellResults[T, R any](con *console, as outputFlags, of func(T, R, error) resultJSON) func(T, R, error) {
	if as.Output != "json" {
		return func(T, R, error) {}
	}
	out := con.list(as)
	return func(item T, result R, err error) { _ = out.add(of(item, result, err)) }
}

type tasksRun struct{ tasksArg }

// Help is shown by --help.
func (*tasksRun) Help() string {
	return "The task is dispatched before its time and beyond the limits of its queue. If it is already in flight, it is dispatched a second time, and a handoff router responds with 409. The service allows about 60 such runs a minute."
}

// Run runs the tasks.
func (c *tasksRun) Run(ctx context.Context, con *console, tasks *tasksCmd) error {
	if err := c.within(&tasks.placeFlags); err != nil {
		return err
	}
	return tasks.admin(ctx, func(a *admin.Admin) error {
		run := func(ctx context.Context, id string) (admin.Task, error) {
			return a.Tasks().RunNow(ctx, a.Tasks().Name(c.Queue, id))
		}
		return each(ctx, con, "dispatched", c.Tasks, run, tellResults(con, tasks.outputFlags, func(id string, _ admin.Task, err error) resultJSON {
			return resultOf(id, a.Tasks().Name(c.Queue, id), err)
		}))
	})
}

type tasksDelete struct {
	tasksArg
	yesFlag
}

// Run deletes the tasks.
func (c *tasksDelete) Run(ctx context.Context, con *console, tasks *tasksCmd) error {
	if err := c.within(&tasks.placeFlags); err != nil {
		return err
	}
	if err := con.confirm(ctx, c.yesFlag, "Delete %s of queue %s for good?", count(len(c.Tasks), "task"), c.Queue); err != nil {
		return err
	}
	return tasks.admin(ctx, func(a *admin.Admin) error {
		p := newProgress(con, "deleted", len(c.Tasks))
		tell := tellResults(con, tasks.outputFlags, resultOf)
		names := func(yield func(string) bool) {
			for _, id := range c.Tasks {
				if !yield(a.Tasks().Name(c.Queue, id)) {
					return
				}
			}
		}
		for name, err := range a.Tasks().DeleteMany(ctx, names) {
			p.step(err, func() { tell(name[strings.LastIndexByte(name, '/')+1:], name, err) })
		}
		return p.end(ctx)
	})
}
