package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"google.golang.org/api/option"

	"github.com/brillconsulting/handoff/internal/create"
	"github.com/brillconsulting/handoff/internal/rpc"
)

// ClientConfig is the configuration of a [Client]. Project, Location and Target
// are required.
type ClientConfig struct {
	_ [0]func()

	// Project and Location are the IDs of the queues' project and location,
	// such as "my-project" and "europe-west1".
	Project, Location string

	// Target is where tasks are delivered: an [HTTPTarget] or an
	// [AppEngineTarget].
	Target Target

	// Targets maps kinds to the targets of their tasks. A kind that is not in
	// it uses Target.
	Targets map[string]Target

	// Policy is used for the fields that neither an option nor the payload's
	// own Policy sets. Defaults to the defaults of [Policy].
	Policy Policy

	// CompressOver is a size in bytes. A payload whose JSON is larger is
	// compressed by gzip, if that makes it smaller. A [Router] decompresses it;
	// another receiver must do so itself. The service limits the compressed
	// task, and [RouterConfig].MaxBody the JSON. Defaults to 16 KiB; a negative
	// size disables compression.
	CompressOver int

	// MaxBody is the maximum size of a payload's JSON, in bytes. Enqueue
	// returns an error for a larger one. Defaults to 1 MiB, as
	// [RouterConfig].MaxBody does. Raise both together.
	MaxBody int

	// Options are passed to the underlying Cloud Tasks client: credentials,
	// endpoint, interceptors, or an emulator's ClientOptions. If there are
	// none and the environment variable CLOUD_TASKS_EMULATOR_HOST is set to a
	// host:port, the client connects there without TLS and authentication. The
	// underlying client's telemetry is on by default; turn it off by
	// option.WithTelemetryDisabled.
	Options []option.ClientOption

	// Instrument is called before each task is created, for traces and metrics,
	// and also when [Client.Draft] makes a task that is created later.
	// It may add headers to e.Header, such as W3C trace context. The context it
	// returns, which must not be nil, is used for the call, except in a batch,
	// whose calls create many tasks. The function it returns, if not nil, is
	// called once with the result. Both must be safe for concurrent use.
	Instrument func(ctx context.Context, e Enqueuing) (context.Context, func(Receipt, error))

	// DraftOnly makes a client that only makes drafts, which another process
	// sends. It needs no credentials and opens no connection. Its methods that
	// create tasks return an error.
	DraftOnly bool

	// Logger logs what no error reports: that the server has no batch call, so
	// that tasks are created one by one, and panics of the function that
	// Instrument returned. Defaults to slog.Default.
	Logger *slog.Logger
}

// Enqueuing is what [ClientConfig].Instrument sees of a task before it is
// created.
type Enqueuing struct {
	ID          string
	Kind        string // empty for an [EnqueueRequest] task
	Queue       string
	Batch       bool // created by [EnqueueBatch] or [Client.Send]
	Draft       bool // made by [Client.Draft]; Instrument is called again when it is sent
	ScheduledAt time.Time
	Size        int               // bytes of the body, compressed if it is
	Header      map[string]string // headers to add; of a draft that is sent, those that it has
}

// Client enqueues tasks. It is safe for concurrent use. One Client is enough for
// a process. Call [Client.Close] when done.
type Client struct {
	config   ClientConfig
	policy   Policy
	tasks    *cloudtasks.Client
	creator  create.Creator
	queues   string   // resource name that a queue ID is appended to
	profiles sync.Map // reflect.Type of a payload → *profile
}

const defaultCompressOver = 16 << 10

// NewClient returns a Client, which connects in the background. The error reports
// every problem of config.
func NewClient(ctx context.Context, config ClientConfig) (*Client, error) {
	opts, err := rpc.Options(config.Options)
	if err != nil {
		err = fmt.Errorf("handoff: %w", err)
	}
	if err := errors.Join(config.check(), err); err != nil {
		return nil, err
	}
	var tasks *cloudtasks.Client
	if !config.DraftOnly {
		tasks, err = cloudtasks.NewClient(ctx, append(slices.Clip(opts), create.TellUnsent())...)
		if err != nil {
			return nil, fmt.Errorf("handoff: new client: %w", err)
		}
	}
	config.Logger = cmp.Or(config.Logger, slog.Default())
	config.CompressOver = cmp.Or(config.CompressOver, defaultCompressOver)
	config.MaxBody = cmp.Or(config.MaxBody, defaultMaxBody)
	config.Target = config.Target.resolved()
	config.Targets = maps.Clone(config.Targets)
	for kind, target := range config.Targets {
		config.Targets[kind] = target.resolved()
	}
	c := &Client{
		config: config,
		policy: config.Policy.over(defaultPolicy),
		tasks:  tasks,
		queues: "projects/" + config.Project + "/locations/" + config.Location + "/queues/",
	}
	c.creator = create.Creator{Client: tasks, WithoutBatch: func() {
		config.Logger.Info("handoff: the server does not know BatchCreateTasks; creating tasks one by one")
	}}
	return c, nil
}

// sends returns an error if the client may only make drafts.
func (c *Client) sends() error {
	if c.config.DraftOnly {
		return errors.New("handoff: ClientConfig.DraftOnly is set, so this client sends nothing")
	}
	return nil
}

func (config *ClientConfig) check() error {
	var errs []error
	if config.Project == "" || strings.ContainsAny(config.Project, "/ ") {
		errs = append(errs, fmt.Errorf("handoff: ClientConfig.Project is %q; it must be a project ID", config.Project))
	}
	if config.Location == "" || strings.ContainsAny(config.Location, "/ ") {
		errs = append(errs, fmt.Errorf("handoff: ClientConfig.Location is %q; it must be a location ID, such as \"europe-west1\"", config.Location))
	}
	if config.Target == nil {
		errs = append(errs, errors.New("handoff: ClientConfig.Target is nil; use an HTTPTarget or an AppEngineTarget"))
	} else {
		errs = append(errs, config.Target.check("ClientConfig.Target"), config.Policy.check("handoff: ClientConfig.Policy", config.Target.appEngine()))
	}
	for kind, target := range config.Targets {
		field := fmt.Sprintf("ClientConfig.Targets[%q]", kind)
		if err := checkKind(kind); err != nil {
			errs = append(errs, fmt.Errorf("handoff: %s: %w", field, err))
		}
		if target == nil {
			errs = append(errs, fmt.Errorf("handoff: %s is nil; use an HTTPTarget or an AppEngineTarget", field))
		} else {
			errs = append(errs, target.check(field))
		}
	}
	if config.MaxBody < 0 {
		errs = append(errs, fmt.Errorf("handoff: ClientConfig.MaxBody is %d; it must be positive, or zero for %d", config.MaxBody, defaultMaxBody))
	}
	return errors.Join(errs...)
}

// Close closes the connection. Calls in progress return an error.
func (c *Client) Close() error {
	if c.config.DraftOnly {
		return nil
	}
	if err := c.tasks.Close(); err != nil {
		return fmt.Errorf("handoff: close: %w", err)
	}
	return nil
}

// Receipt is the result of an enqueue.
type Receipt struct {
	// ID is the handoff ID of the task, which is [Info].ID in its handler. It is
	// empty for a duplicate, because the existing task has another ID.
	ID string

	Name        string // full resource name of the task; for a duplicate, of the existing task
	Queue       string // queue ID
	ScheduledAt time.Time

	// Duplicate reports whether no task was created because one of this name
	// exists, or was deleted lately. Only tasks whose name is chosen by Key,
	// IdempotencyKey, Name, Redrive or a named draft can be duplicates.
	Duplicate bool
}

var (
	// ErrUnknown is wrapped by the error of an enqueue whose response was
	// lost. The task may or may not exist. Enqueueing again is safe for work
	// with a [Key]; other work may then run twice.
	ErrUnknown = create.ErrUnknown

	// ErrNotSent is wrapped by the error of an enqueue that did not reach the
	// service, because its context ended or no connection could be made. The
	// task does not exist.
	ErrNotSent = create.ErrNotSent
)

// Enqueue creates a task that carries p. If the error is nil, the service has
// stored the task durably.
//
// A create that fails with a temporary error is retried until ctx ends, or for a
// minute if ctx has no deadline. This may create a second task of the same work,
// which the receiving router recognises. If an error wraps neither [ErrUnknown]
// nor [ErrNotSent], there is no task: the call or the payload is wrong, or the
// service refused the create. [google.golang.org/grpc/status.FromError] returns
// the status of a refusal.
func (c *Client) Enqueue(ctx context.Context, p Payload, opts ...Option) (Receipt, error) {
	call, err := newCall(opts)
	if err != nil {
		return Receipt{}, err
	}
	d, err := c.draft(p, call, time.Now())
	if err != nil {
		return Receipt{}, err
	}
	return c.create(ctx, d)
}

// create creates the task of a draft.
func (c *Client) create(ctx context.Context, d *draft) (Receipt, error) {
	if err := c.sends(); err != nil {
		return Receipt{}, err
	}
	ctx, err := c.begin(ctx, d)
	if err != nil {
		return c.end(d, create.Created{}, err)
	}
	created, err := c.creator.Task(ctx, d.req, !d.once)
	return c.end(d, created, err)
}

// begin lets Instrument add its headers and then checks the size of the whole
// task. The caller must call end after it.
func (c *Client) begin(ctx context.Context, d *draft) (context.Context, error) {
	if c.config.Instrument != nil {
		var err error
		if ctx, err = c.instrument(ctx, d); err != nil {
			return ctx, err
		}
	}
	return ctx, create.Size(d.req)
}

func (c *Client) instrument(ctx context.Context, d *draft) (context.Context, error) {
	header, body := create.Parts(d.req.Task)
	e := Enqueuing{ID: d.receipt.ID, Kind: d.stamp.Kind, Queue: d.receipt.Queue, Batch: d.batch, Draft: d.step == drafted, ScheduledAt: d.receipt.ScheduledAt, Size: len(body), Header: make(map[string]string)}
	if d.step == sent {
		for _, name := range d.stamp.Headers {
			e.Header[name] = header[name]
		}
	}
	with := ctx
	err := guard("ClientConfig.Instrument", func() error {
		with, d.observe = c.config.Instrument(ctx, e) //nolint:fatcontext // assigned once
		return nil
	})
	switch {
	case err != nil:
		return ctx, err
	case with == nil:
		return ctx, errors.New("ClientConfig.Instrument returned a nil context")
	}
	if err := d.addHeader(e.Header); err != nil {
		return ctx, fmt.Errorf("ClientConfig.Instrument: %w", err)
	}
	return with, nil
}

// end turns the service's response to a draft into the caller's receipt.
func (c *Client) end(d *draft, created create.Created, err error) (Receipt, error) {
	switch {
	case err != nil:
		err = fmt.Errorf("handoff: enqueue %s on queue %q (project %q, location %q): %w",
			cmp.Or(d.stamp.Kind, "request"), d.receipt.Queue, c.config.Project, c.config.Location, err)
	case created.Duplicate:
		d.receipt.ID, d.receipt.Name, d.receipt.Duplicate = "", created.Name, true
	default:
		d.receipt.Name = created.Name
	}
	c.observed(d, err)
	return d.receipt, err
}

// observed tells Instrument's function of the result.
func (c *Client) observed(d *draft, err error) {
	if d.observe == nil {
		return
	}
	// The task exists or not whether this panics, so the panic is only logged.
	if perr := guard("the function that ClientConfig.Instrument returned", func() error { d.observe(d.receipt, err); return nil }); perr != nil {
		c.config.Logger.Error("handoff: enqueue", "error", perr, "task", d.receipt.Name)
	}
}
