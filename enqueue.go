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

// ClientConfig says where a [Client] enqueues. Project, Location and Target
// are required.
type ClientConfig struct {
	_ [0]func()

	// Project and Location name where the queues are, such as "my-project"
	// and "europe-west1".
	Project, Location string

	// Target is where tasks are delivered: an [HTTPTarget] or an
	// [AppEngineTarget].
	Target Target

	// Targets are where the tasks of some kinds are delivered in place of
	// Target, by kind.
	Targets map[string]Target

	// Policy fills in the fields that neither a call's options nor the
	// payload's own Policy set. Defaults to the defaults of [Policy].
	Policy Policy

	// CompressOver is the size of a payload's JSON, in bytes, over which it
	// travels compressed by gzip, if that makes it smaller. Handlers see no
	// difference; a receiver other than a [Router] might. The router's MaxBody
	// bounds the JSON, the service the compressed task. Defaults to 16 KiB;
	// negative: never.
	CompressOver int

	// MaxBody limits the JSON of a payload, in bytes: a larger one is an error
	// of Enqueue. Defaults to 1 MiB, which is [RouterConfig].MaxBody's default
	// too. Raise both together.
	MaxBody int

	// Options go to the underlying Cloud Tasks client: credentials, endpoint,
	// interceptors, an emulator's ClientOptions. Without any, the environment
	// variable CLOUD_TASKS_EMULATOR_HOST (host:port of gRPC) is honoured: then
	// there is no TLS and no authentication. That client's own telemetry is on
	// by default; option.WithTelemetryDisabled saves its cost.
	Options []option.ClientOption

	// Instrument is called around the enqueueing of each task, for traces and
	// metrics. It may add headers, such as W3C trace context, to e.Header. The
	// context that it returns is used for the call (not in a batch, whose
	// calls carry many tasks). The function that it returns, nil or not, is
	// called once with the result.
	Instrument func(ctx context.Context, e Enqueuing) (context.Context, func(Receipt, error))

	// DraftOnly is for a client that makes drafts and sends none, as where
	// another process sends them. It needs no credentials and has no
	// connection; its Enqueue and Send fail.
	DraftOnly bool

	// Logger is told what no error says: that the server has no batch call, so
	// that a batch is created one by one, and that the function which Instrument
	// returned panicked. Defaults to slog.Default.
	Logger *slog.Logger
}

// Enqueuing is what [ClientConfig].Instrument sees of a task before it is
// created.
type Enqueuing struct {
	ID          string
	Kind        string // empty for an [EnqueueRequest] task
	Queue       string
	Batch       bool // one of an [EnqueueBatch]
	ScheduledAt time.Time
	Size        int               // bytes of the body as it travels
	Header      map[string]string // headers to add
}

// Client enqueues tasks. It is safe for concurrent use; one is enough for a
// process. Close it when done.
type Client struct {
	config   ClientConfig
	policy   Policy
	tasks    *cloudtasks.Client
	creator  create.Creator
	queues   string   // resource name that a queue ID is appended to
	profiles sync.Map // reflect.Type of a payload → *profile
}

const defaultCompressOver = 16 << 10

// NewClient checks the whole configuration, returns every problem at once, and
// connects in the background.
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

// sends returns an error if the client is for drafts only.
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

// Close closes the connection. Calls in progress fail.
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
	// ID is the handoff ID that the task carries, and [Info].ID in its
	// handler. It is empty for a duplicate: the task that exists has its own.
	ID string

	Name        string // full resource name of the task; of a duplicate, that of the task that exists
	Queue       string // queue ID
	ScheduledAt time.Time

	// Duplicate reports that a task of this name exists already or did lately,
	// so none was created. Only tasks with a name (Key, IdempotencyKey, Name,
	// Redrive) have duplicates.
	Duplicate bool
}

var (
	// ErrUnknown is wrapped by the error of an enqueue whose response was
	// lost: the task may or may not exist. Enqueueing again is safe for work
	// with a [Key], and may run other work twice.
	ErrUnknown = create.ErrUnknown

	// ErrNotSent is wrapped by the error of an enqueue that never reached a
	// server: its context had ended, or no connection could be made. The task
	// does not exist.
	ErrNotSent = create.ErrNotSent
)

// Enqueue creates a task that carries p. When it returns without an error, the
// service has stored the task durably.
//
// Creates that fail on the way are retried until ctx ends, or for a minute if
// ctx has no deadline; the receiving router recognises the copies that this
// may leave. An error that wraps neither [ErrUnknown] nor [ErrNotSent] is
// certain: there is no task. It is a mistake in the call or the payload, or
// the service's refusal, whose gRPC status can be had from the error.
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

// begin lets Instrument add its headers, and then checks what only the whole
// task shows. Each call of it is followed by one of end.
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
	_, body := create.Parts(d.req.Task)
	e := Enqueuing{ID: d.receipt.ID, Kind: d.stamp.Kind, Queue: d.receipt.Queue, Batch: d.batch, ScheduledAt: d.receipt.ScheduledAt, Size: len(body), Header: make(map[string]string)}
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
	if d.observe != nil {
		// A panic here says nothing of the task, so it must not look as if it did.
		if perr := guard("the function that ClientConfig.Instrument returned", func() error { d.observe(d.receipt, err); return nil }); perr != nil {
			c.config.Logger.Error("handoff: enqueue", "error", perr, "task", d.receipt.Name)
		}
	}
	return d.receipt, err
}
