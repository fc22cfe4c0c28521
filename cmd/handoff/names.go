package main

import (
	"errors"
	"regexp"

	"github.com/brillconsulting/handoff/internal/create"
)

// Full names are what the commands print; they are accepted wherever an ID is.
var fullName = regexp.MustCompile(`^projects/([^/]+)/locations/([^/]+)/queues/([^/]+)(?:/tasks/([^/]+))?$`)

// queueArg is the queue that a command is about.
type queueArg struct {
	Queue string `arg:"" help:"ID or full name of the queue."`
}

// Validate makes an invalid name a usage error.
func (q *queueArg) Validate() error {
	if q.Queue == "" {
		return nil // it is missing, which kong tells
	}
	if m := fullName.FindStringSubmatch(q.Queue); m != nil && m[4] == "" {
		return create.QueueID(m[3])
	}
	return create.QueueID(q.Queue)
}

// within makes a full name an ID, and its project and location those of p.
func (q *queueArg) within(p *placeFlags) error {
	m := fullName.FindStringSubmatch(q.Queue)
	if m == nil {
		return nil
	}
	name := q.Queue
	q.Queue = m[3]
	return p.take(name, m[1], m[2])
}

// take makes the project and location of a full name those of the command.
func (p *placeFlags) take(name, project, location string) error {
	if p.Project != "" && p.Project != project || p.Location != "" && p.Location != location {
		return usagef("%s is not in location %q of project %q, which --location and --project or their variables name", name, p.Location, p.Project)
	}
	p.Project, p.Location = project, location
	return nil
}

// tasksArg are the tasks that a command is about: a queue and IDs, or full names.
type tasksArg struct {
	Queue string   `arg:"" help:"ID of the queue, or the full name of a task."`
	Tasks []string `arg:"" help:"IDs or full names of tasks." name:"task" optional:""`
}

// Validate makes invalid names a usage error.
func (t *tasksArg) Validate() error {
	if t.Queue == "" {
		return nil // it is missing, which kong tells
	}
	named := *t // the command does this again, for its flags
	return named.within(new(placeFlags))
}

// within makes full names IDs, and their project and location those of p.
func (t *tasksArg) within(p *placeFlags) error {
	tasks := t.Tasks
	if m := fullName.FindStringSubmatch(t.Queue); m != nil {
		if m[4] != "" {
			tasks = append([]string{t.Queue}, tasks...)
		}
		if err := p.take(t.Queue, m[1], m[2]); err != nil {
			return err
		}
		t.Queue = m[3]
	}
	if len(tasks) == 0 {
		return usagef("no task: add its ID, or give its full name in place of the queue")
	}
	t.Tasks = nil
	errs := []error{create.QueueID(t.Queue)}
	for _, name := range tasks {
		id := name
		if m := fullName.FindStringSubmatch(name); m != nil && m[4] != "" {
			if m[3] != t.Queue {
				return usagef("%s is not of queue %s; a command is about the tasks of one queue", name, t.Queue)
			}
			errs = append(errs, p.take(name, m[1], m[2]))
			id = m[4]
		}
		errs = append(errs, create.TaskID(id))
		t.Tasks = append(t.Tasks, id)
	}
	return errors.Join(errs...)
}
