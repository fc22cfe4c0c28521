package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/emulator"
)

// drainTime is how long dispatches in flight may continue after a signal.
const drainTime = 10 * time.Second

type emulatorCmd struct {
	GRPC string   `default:"127.0.0.1:8123" help:"Where the gRPC API listens (${default})."               name:"grpc" placeholder:"ADDR"`
	HTTP string   `default:"127.0.0.1:8124" help:"Where REST and the token keys are served (${default})." name:"http" placeholder:"ADDR"`
	Host []string `help:"A host name that HTTP requests may name the emulator by, besides IP addresses and local names: localhost, *.localhost, *.local, *.internal, names without a dot. Repeatable." placeholder:"NAME"`

	Queue    []string `help:"A queue to create, by its full name, with the service's defaults. Repeatable."          placeholder:"NAME"`
	Queues   string   `help:"A file of queues to create, in YAML, in --location of --project."                       placeholder:"FILE"`
	Project  string   `help:"Project of the queues in the file, and of tasks that are redriven."                                                     placeholder:"ID"`
	Location string   `help:"Location of the same, such as europe-west1."                              placeholder:"ID"`
	Missing  bool     `help:"Create the queue of a task where there is none."                                        name:"create-missing-queues"`
	NoLimits bool     `help:"Accept rates and concurrency over the service's limits, for load tests."`
	Strict   bool     `help:"Refuse tokens over http even to this machine, and gRPC calls without a routing header, as the service does."`

	SigningKey  string        `help:"A file with the RSA key that signs tokens, in PEM: workers need not fetch a new one after a restart. Defaults to a new key." placeholder:"FILE"`
	TaskWindow  time.Duration `default:"24h"  help:"How long the name of a task stays reserved after its end (${default}); 0 for not at all."   placeholder:"DURATION"`
	QueueWindow time.Duration `default:"168h" help:"How long the name of a deleted queue stays reserved (${default}); 0 for not at all."        placeholder:"DURATION"`
	Retention   time.Duration `default:"744h" help:"The age at which a task is deleted, run or not (${default})."                              placeholder:"DURATION"`
	History     int           `default:"1000" help:"How many ended tasks of each queue are remembered, for the dashboard (${default})."        placeholder:"N"`
	Throttle    bool          `help:"Slow a queue down when its workers respond with 429 or 503."`

	AppEngine  map[string]string `help:"Where an App Engine service is: SERVICE[/VERSION[/INSTANCE]]=URL. default is for the others. Repeatable." mapsep:"none" placeholder:"SERVICE=URL"`
	DefaultURL string            `help:"Where tasks with an empty URL go, as firebase-admin creates them. {project}, {location} and {queue} stand for those of the task." placeholder:"URL"`
	Insecure   bool              `help:"Accept any certificate of a worker, such as a self-signed one." name:"insecure-targets"`

	Dashboard   string `help:"Where a dashboard of it is served: an address of this machine alone, such as 127.0.0.1:8080. Defaults to none." placeholder:"ADDR"`
	redisFlags         // for the dead letters that the dashboard shows
	targetFlags        // for the tasks that the dashboard creates by redriving them

	Log bool `help:"Log every API call and every dispatch to stderr, a line each, never bodies, headers or tokens."`
}

// Help is shown by handoff emulator --help.
func (*emulatorCmd) Help() string {
	return `It is ready when it prints its addresses; port 0 picks a free one. It keeps everything in memory and forgets it at the end. ` +
		`SIGINT or SIGTERM ends it once the dispatches in flight have ended, or after 10 seconds; a second one ends it at once.`
}

// Run serves until ctx ends, then drains.
func (c *emulatorCmd) Run(ctx context.Context) error {
	queues, invalid := c.check()
	cfg := c.config()
	if c.SigningKey != "" {
		key, err := readKey(c.SigningKey)
		invalid, cfg.SigningKey = errors.Join(invalid, err), key
	}
	srv, err := emulator.New(cfg)
	if srv != nil {
		defer srv.Close()
	}
	if invalid != nil {
		return usageError{errors.Join(invalid, err)}
	}
	if err != nil {
		return configError(err)
	}
	if err := c.createQueues(ctx, srv, queues); err != nil {
		return err
	}
	srv.KeepQueues() // after a reset, the next test finds the queues of the flags
	if err := c.withBoard(ctx, srv, func() {
		fmt.Printf("handoff emulator: ready, gRPC on %s, HTTP on %s\n", srv.GRPCAddr(), srv.HTTPAddr())
		returnMemory(ctx)
	}); err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	_ = srv.Shutdown(ctx) // its only error is that ctx has ended
	return nil
}

// configError returns invalid settings as usage errors. It is no usage error if the
// emulator cannot listen on a valid address.
func configError(err error) error {
	opErr, listens := errors.AsType[*net.OpError](err)
	_, malformed := errors.AsType[*net.AddrError](err)
	if listens && opErr.Op == "listen" && !malformed {
		return err
	}
	return usageError{err}
}

func (c *emulatorCmd) config() emulator.Config {
	cfg := emulator.Config{
		GRPCAddr:            c.GRPC,
		HTTPAddr:            c.HTTP,
		Hosts:               c.Host,
		AppEngine:           c.AppEngine,
		DefaultURL:          c.DefaultURL,
		InsecureTargets:     c.Insecure,
		CreateMissingQueues: c.Missing,
		NoLimits:            c.NoLimits,
		Strict:              c.Strict,
		TaskWindow:          orNone(c.TaskWindow),
		QueueWindow:         orNone(c.QueueWindow),
		Retention:           c.Retention,
		History:             orNone(c.History),
		Throttle:            c.Throttle,
	}
	if c.Log {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return cfg
}

// orNone converts the zero of a flag to the value that means none in
// emulator.Config, where zero means the default.
func orNone[T time.Duration | int](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

var queueName = regexp.MustCompile(`^projects/[A-Za-z0-9:.-]+/locations/[A-Za-z0-9-]+/queues/[A-Za-z0-9-]{1,100}$`)

// check reads the file of queues. It returns all problems of the file and of the
// settings that emulator.New does not check.
func (c *emulatorCmd) check() ([]admin.QueueConfig, error) {
	var errs []error
	if c.Retention == 0 { // which means the default in emulator.Config
		errs = append(errs, errors.New("--retention is 0: it must be positive"))
	}
	if c.Dashboard != "" {
		errs = append(errs, checkLoopback("--dashboard", c.Dashboard))
	}
	for _, name := range c.Queue {
		if !queueName.MatchString(name) {
			errs = append(errs, fmt.Errorf("--queue %s: it must be a full name, projects/PROJECT/locations/LOCATION/queues/QUEUE, with letters, digits and hyphens in QUEUE", name))
		}
	}
	errs = append(errs, c.checkRedrive())
	if c.Queues == "" {
		if !c.redrives() && (c.Project != "" || c.Location != "") {
			errs = append(errs, errors.New("--project and --location say where the queues of --queues and the tasks of --target are, and both are missing"))
		}
		return nil, errors.Join(errs...)
	}
	if c.Project == "" || c.Location == "" {
		errs = append(errs, errors.New("--queues needs --project and --location: the names in the file are queue IDs"))
	}
	file, err := os.Open(c.Queues)
	if err != nil {
		return nil, errors.Join(append(errs, fmt.Errorf("--queues: %w", err))...)
	}
	defer file.Close()
	queues, err := admin.Load(file)
	if err != nil {
		errs = append(errs, eachIn("--queues "+c.Queues, err))
	}
	return queues, errors.Join(errs...)
}

// redrives reports whether the dashboard can redrive dead letters.
func (c *emulatorCmd) redrives() bool {
	return c.Dashboard != "" && c.Redis != "" && c.given()
}

// checkRedrive returns an error if the dashboard should redrive, but settings for
// that are missing. HANDOFF_TARGET alone does not ask for it, because other
// commands use it too.
func (c *emulatorCmd) checkRedrive() error {
	if !c.redrives() {
		return nil
	}
	if c.Project == "" || c.Location == "" {
		return errors.New("--target redrives dead letters to queues of --project and --location, and one is missing")
	}
	_, err := c.target()
	return err
}

// createQueues creates the queues of the flags and of the file, and returns the
// errors of all that failed.
func (c *emulatorCmd) createQueues(ctx context.Context, srv *emulator.Server, file []admin.QueueConfig) error {
	client, err := cloudtasks.NewClient(ctx, srv.ClientOptions()...)
	if err != nil {
		return err
	}
	defer client.Close()
	var errs []error
	for _, name := range c.Queue {
		// UpdateQueue creates a queue that does not exist, in any location.
		_, err := client.UpdateQueue(ctx, &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: name}})
		if err != nil {
			errs = append(errs, fmt.Errorf("--queue %s: %s", name, status.Convert(err).Message()))
		}
	}
	if len(file) > 0 {
		errs = append(errs, c.ensure(ctx, srv, file))
	}
	return errors.Join(errs...)
}

// ensure creates the queues of the file with package admin, as for the service.
func (c *emulatorCmd) ensure(ctx context.Context, srv *emulator.Server, queues []admin.QueueConfig) error {
	a, err := admin.New(ctx, admin.Config{Project: c.Project, Location: c.Location, Options: srv.ClientOptions()})
	if err != nil {
		return fmt.Errorf("--queues: %w", err)
	}
	defer func() { _ = a.Close() }()
	if _, err := a.Queues().EnsureAll(ctx, queues); err != nil {
		return fmt.Errorf("--queues %s: %w", c.Queues, err)
	}
	return nil
}
