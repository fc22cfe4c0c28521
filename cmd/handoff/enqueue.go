package main

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
)

type tasksEnqueue struct {
	queueArg

	URL string `arg:"" help:"Where it is delivered to: http(s)://…, or a path, such as /tasks/welcome-email, of the App Engine app of the project. With --kind it defaults to $$HANDOFF_TARGET." name:"url" optional:""`

	Kind        string `help:"Create a task for the handler of this kind; the URL is then where the router is mounted, and the body is the payload, in JSON." placeholder:"KIND"`
	MaxAttempts *int   `help:"How many attempts it may have, with --kind; -1 sets no limit. Defaults to 5." placeholder:"N"`

	Body     string   `help:"The body." placeholder:"TEXT" xor:"body"`
	BodyFile string   `help:"File of the body; - reads stdin." placeholder:"FILE" xor:"body"`
	Method   string   `help:"Defaults to POST." placeholder:"METHOD"`
	Header   []string `help:"A header. Repeatable." placeholder:"'NAME: VALUE'" sep:"none" short:"H"`

	ServiceAccount string `help:"Email of the account that the delivery is signed as. Defaults to no signature; with --kind to $$HANDOFF_SERVICE_ACCOUNT." placeholder:"EMAIL"`
	Unsigned       bool   `help:"Send it without a signature, with --kind."`
	Audience       string `help:"What an OIDC signature is for. Defaults to the origin of the URL." placeholder:"AUD"`
	Scope          string `help:"Scope of an OAuth token instead, for *.googleapis.com alone." placeholder:"SCOPE"`

	AppEngineService string `help:"The App Engine service. Defaults to the app's own." placeholder:"ID"`
	AppEngineVersion string `help:"The App Engine version. Defaults to the service's own." placeholder:"ID"`

	In       time.Duration `help:"Deliver it after that long, such as 90s." placeholder:"DURATION" xor:"due"`
	At       time.Time     `help:"Deliver it then, in RFC 3339." placeholder:"TIME" xor:"due"`
	Deadline time.Duration `help:"How long a delivery may take." placeholder:"DURATION"`
	TTL      time.Duration `help:"How long after it is due a router may still run it." name:"ttl" placeholder:"DURATION"`
	Key      string        `help:"Of all tasks with this key, and of this kind, a router runs one. Leave it out if the type has an IdempotencyKey: another key is other work." xor:"name"`
	Name     string        `help:"The task's ID, for the service's own deduplication." placeholder:"ID" xor:"name"`
}

// Help is shown by --help.
func (*tasksEnqueue) Help() string {
	return "With --kind it creates a task as Client.Enqueue does, which has the key, the limit of attempts and the TTL that are given here, not those that the payload's type declares: " +
		"handoff tasks enqueue emails https://worker.example.com/tasks --kind welcome-email --body '{\"user_id\":\"42\"}' --service-account EMAIL"
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
	if err := c.within(&tasks.placeFlags); err != nil {
		return err
	}
	if err := c.destine(); err != nil {
		return err
	}
	request, err := c.request(con)
	if err != nil {
		return err
	}
	target, enqueue, err := c.enqueue(request)
	if err != nil {
		return err
	}
	return tasks.client(ctx, target, func(client *handoff.Client) error {
		receipt, err := enqueue(ctx, client)
		if err != nil {
			return invalid(ctx, err)
		}
		value := receiptJSON{ID: receipt.ID, Name: receipt.Name, Queue: receipt.Queue, ScheduledAt: stamp(receipt.ScheduledAt), Duplicate: receipt.Duplicate}
		if receipt.Duplicate {
			return con.describe(tasks.outputFlags, value, fact("duplicate", "a task with this name or key exists or existed recently; none was created"))
		}
		return con.describe(tasks.outputFlags, value,
			fact("enqueued", receipt.Name),
			fact("handoff ID", receipt.ID),
			fact("due", moment(receipt.ScheduledAt, time.Now())),
		)
	})
}

// destine sets the target of the task and the account of its token. Only a task
// with a kind has defaults. Another may go to a foreign service, which must not get
// a token for the workers.
func (c *tasksEnqueue) destine() error {
	if c.Kind != "" {
		c.URL = cmp.Or(c.URL, os.Getenv("HANDOFF_TARGET"))
		if !c.Unsigned {
			c.ServiceAccount = cmp.Or(c.ServiceAccount, os.Getenv("HANDOFF_SERVICE_ACCOUNT"))
		}
	}
	switch appEngine := strings.HasPrefix(c.URL, "/"); {
	case c.URL == "":
		return usagef("no URL: add it, or set HANDOFF_TARGET for a task of a --kind")
	case c.Unsigned && c.ServiceAccount != "":
		return usagef("--unsigned and --service-account are both given")
	case c.Kind != "" && !appEngine && c.ServiceAccount == "" && !c.Unsigned:
		return usagef("no signature: add --service-account EMAIL, or set HANDOFF_SERVICE_ACCOUNT, or add --unsigned if the receiver checks none")
	}
	return nil
}

// enqueue returns a function that creates the task, and the target of the client
// that it needs.
func (c *tasksEnqueue) enqueue(request handoff.Request) (handoff.Target, func(context.Context, *handoff.Client) (handoff.Receipt, error), error) {
	if c.Kind == "" {
		if c.MaxAttempts != nil {
			return nil, nil, usagef("--max-attempts needs --kind: a router counts the attempts of its kinds; for other tasks the queue has the limit")
		}
		// A Request has its own target, but a client has one too.
		return handoff.AppEngineTarget{}, func(ctx context.Context, client *handoff.Client) (handoff.Receipt, error) {
			return client.EnqueueRequest(ctx, request, c.options()...)
		}, nil
	}
	if c.Method != "" || c.Scope != "" {
		return nil, nil, usagef("--method and --scope are given, and --kind, whose tasks are POSTs with an OIDC token")
	}
	if c.MaxAttempts != nil && *c.MaxAttempts == 0 {
		return nil, nil, usagef("--max-attempts is 0; it must be positive, or -1 for no limit")
	}
	if !json.Valid(request.Body) {
		return nil, nil, usagef("the body is not JSON; with --kind it must be")
	}
	var target handoff.Target = handoff.HTTPTarget{
		URL: c.URL, ServiceAccount: c.ServiceAccount, Audience: c.Audience, DangerouslySendUnsigned: c.Unsigned,
	}
	if request.AppEngine != nil {
		target = handoff.AppEngineTarget{Service: c.AppEngineService, Version: c.AppEngineVersion, Path: c.URL}
	}
	typed = typedTask{kind: c.Kind}
	if c.MaxAttempts != nil {
		typed.policy.Retry.MaxAttempts = *c.MaxAttempts
	}
	options := c.options()
	for name, values := range request.Header {
		options = append(options, handoff.Header(name, strings.Join(values, ", ")))
	}
	return target, func(ctx context.Context, client *handoff.Client) (handoff.Receipt, error) {
		return client.Enqueue(ctx, typedBody(request.Body), options...)
	}, nil
}

// typed holds the kind and the policy of the only task that this program creates.
// It is global because a client takes both from the payload's type, not from the
// payload.
var typed typedTask

type typedTask struct {
	kind   string
	policy handoff.Policy
}

// typedBody is a payload that is already JSON.
type typedBody []byte

// Kind implements handoff.Payload.
func (typedBody) Kind() string { return typed.kind }

// Policy is read by handoff.Client.
func (typedBody) Policy() handoff.Policy { return typed.policy }

// MarshalJSON implements json.Marshaler.
func (b typedBody) MarshalJSON() ([]byte, error) { return b, nil }

func (c *tasksEnqueue) request(con *console) (handoff.Request, error) {
	r := handoff.Request{
		URL: c.URL, Method: c.Method, Header: make(http.Header), Body: []byte(c.Body),
		ServiceAccount: c.ServiceAccount, Audience: c.Audience, Scope: c.Scope,
	}
	for _, h := range c.Header {
		name, value, err := cutHeader(h)
		if err != nil {
			return r, err
		}
		r.Header.Add(name, value)
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

// cutHeader parses the value of a --header flag.
func cutHeader(line string) (name, value string, err error) {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return "", "", usagef("--header %q has no colon; it must be 'NAME: VALUE'", name)
	}
	return strings.TrimSpace(name), strings.TrimSpace(value), nil
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
