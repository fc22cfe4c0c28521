package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
)

type tasksEnqueue struct {
	queueArg

	URL string `arg:"" help:"Where it is delivered to: http(s)://…, or a path, such as /tasks/welcome-email, of the App Engine app of the project." name:"url"`

	Body     string   `help:"The body." placeholder:"TEXT" xor:"body"`
	BodyFile string   `help:"File of the body; - reads stdin." placeholder:"FILE" xor:"body"`
	Method   string   `help:"Defaults to POST." placeholder:"METHOD"`
	Header   []string `help:"A header. Repeatable." placeholder:"'NAME: VALUE'" sep:"none" short:"H"`

	ServiceAccount string `help:"Email of the account that the delivery is signed as. Defaults to no signature." placeholder:"EMAIL"`
	Audience       string `help:"What an OIDC signature is for. Defaults to the origin of the URL." placeholder:"AUD"`
	Scope          string `help:"Scope of an OAuth token instead, for *.googleapis.com alone." placeholder:"SCOPE"`

	AppEngineService string `help:"The App Engine service. Defaults to the app's own." placeholder:"ID"`
	AppEngineVersion string `help:"The App Engine version. Defaults to the service's own." placeholder:"ID"`

	In       time.Duration `help:"Deliver it after that long, such as 90s." placeholder:"DURATION" xor:"due"`
	At       time.Time     `help:"Deliver it then, in RFC 3339." placeholder:"TIME" xor:"due"`
	Deadline time.Duration `help:"How long a delivery may take." placeholder:"DURATION"`
	TTL      time.Duration `help:"How long after it is due a router may still run it." name:"ttl" placeholder:"DURATION"`
	Key      string        `help:"Of all tasks with this key a router runs one." xor:"name"`
	Name     string        `help:"The task's ID, for the service's own deduplication." placeholder:"ID" xor:"name"`
}

// Help is shown by --help.
func (*tasksEnqueue) Help() string {
	return "To run a handler of a handoff router, send its payload to where the router is mounted, followed by the kind: https://worker.example.com/tasks/welcome-email"
}

// receiptJSON is the JSON of a created task, or of a duplicate.
type receiptJSON struct {
	ID          string     `json:"id,omitempty"`
	Name        string     `json:"name,omitempty"`
	Queue       string     `json:"queue"`
	ScheduledAt *time.Time `json:"scheduled_at,omitempty"`
	Duplicate   bool       `json:"duplicate"`
}

// Run creates the task.
func (c *tasksEnqueue) Run(ctx context.Context, con *console, tasks *tasksCmd) error {
	request, err := c.request(con)
	if err != nil {
		return err
	}
	// NewClient needs a target, which a Request does not use.
	unused := handoff.AppEngineTarget{}
	return tasks.client(ctx, unused, func(client *handoff.Client) error {
		receipt, err := client.EnqueueRequest(ctx, request, c.options()...)
		if err != nil {
			return err
		}
		value := receiptJSON{ID: receipt.ID, Name: receipt.Name, Queue: receipt.Queue, ScheduledAt: stamp(receipt.ScheduledAt), Duplicate: receipt.Duplicate}
		if receipt.Duplicate {
			return con.describe(tasks.outputFlags, value, fact("duplicate", "a task of this name or key exists, or did lately; none was created"))
		}
		return con.describe(tasks.outputFlags, value,
			fact("enqueued", receipt.Name),
			fact("handoff ID", receipt.ID),
			fact("due", moment(receipt.ScheduledAt, time.Now())),
		)
	})
}

func (c *tasksEnqueue) request(con *console) (handoff.Request, error) {
	r := handoff.Request{
		URL: c.URL, Method: c.Method, Header: make(http.Header), Body: []byte(c.Body),
		ServiceAccount: c.ServiceAccount, Audience: c.Audience, Scope: c.Scope,
	}
	for _, h := range c.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return r, usagef("--header %q has no colon; it must be 'NAME: VALUE'", name)
		}
		r.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if strings.HasPrefix(c.URL, "/") {
		r.AppEngine = &handoff.AppEngineTarget{Service: c.AppEngineService, Version: c.AppEngineVersion}
	} else if c.AppEngineService+c.AppEngineVersion != "" {
		return r, usagef("%s is not a path, which the --app-engine flags are for", c.URL)
	}
	var err error
	switch c.BodyFile {
	case "":
	case "-":
		r.Body, err = io.ReadAll(con.in)
	default:
		r.Body, err = os.ReadFile(c.BodyFile)
	}
	if err != nil {
		err = usageError{err}
	}
	return r, err
}

func (c *tasksEnqueue) options() []handoff.Option {
	options := []handoff.Option{handoff.OnQueue(c.Queue)}
	add := func(given bool, o handoff.Option) {
		if given {
			options = append(options, o)
		}
	}
	add(c.In != 0, handoff.In(c.In))
	add(!c.At.IsZero(), handoff.At(c.At))
	add(c.Deadline != 0, handoff.Deadline(c.Deadline))
	add(c.TTL != 0, handoff.TTL(c.TTL))
	add(c.Key != "", handoff.Key(c.Key))
	add(c.Name != "", handoff.Name(c.Name))
	return options
}
