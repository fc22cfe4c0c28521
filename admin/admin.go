package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	cloudtasksbeta "cloud.google.com/go/cloudtasks/apiv2beta3"
	gax "github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"

	"github.com/brillconsulting/handoff/internal/rpc"
)

// Config says whose queues an [Admin] manages. Project and Location are
// required.
type Config struct {
	_ [0]func()

	// Project and Location name where the queues are, such as "my-project"
	// and "europe-west1".
	Project, Location string

	// Options are passed to the Cloud Tasks clients: credentials, endpoint, an
	// emulator's ClientOptions. If there are none and CLOUD_TASKS_EMULATOR_HOST is
	// set (host:port of gRPC), the clients connect to it, without TLS and
	// credentials. Managing queues needs the role roles/cloudtasks.queueAdmin;
	// [ErrPermission] names a missing permission.
	Options []option.ClientOption
}

// Admin manages the queues of one location and their tasks. It is safe for
// concurrent use; one is enough for a process. Close it when done.
type Admin struct {
	v2     *cloudtasks.Client
	beta   *cloudtasksbeta.Client
	parent string // resource name of the location

	singly atomic.Bool // the server has no BatchDeleteTasks
}

// New returns an Admin, or an error that lists every problem of the configuration.
// It connects in the background.
func New(ctx context.Context, config Config) (*Admin, error) {
	var errs []error
	if config.Project == "" || strings.ContainsAny(config.Project, "/ ") {
		errs = append(errs, invalid("Config.Project", config.Project, "a project ID"))
	}
	if config.Location == "" || strings.ContainsAny(config.Location, "/ ") {
		errs = append(errs, invalid("Config.Location", config.Location, `a location ID, such as "europe-west1"`))
	}
	opts, err := rpc.Options(config.Options)
	if err != nil {
		errs = append(errs, fmt.Errorf("admin: %w", err))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	v2, err := cloudtasks.NewClient(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("admin: new client: %w", err)
	}
	beta, err := cloudtasksbeta.NewClient(ctx, opts...)
	if err != nil {
		_ = v2.Close()
		return nil, fmt.Errorf("admin: new client: %w", err)
	}
	return &Admin{v2: v2, beta: beta, parent: "projects/" + config.Project + "/locations/" + config.Location}, nil
}

// Close closes the connections. Calls in progress fail.
func (a *Admin) Close() error {
	if err := errors.Join(a.v2.Close(), a.beta.Close()); err != nil {
		return fmt.Errorf("admin: close: %w", err)
	}
	return nil
}

// Queues returns the queue operations of a.
func (a *Admin) Queues() *Queues { return &Queues{a} }

// Tasks returns the task operations of a.
func (a *Admin) Tasks() *Tasks { return &Tasks{a} }

// call makes one call with a deadline that the service accepts.
func call[Req, Resp any](ctx context.Context, do func(context.Context, Req, ...gax.CallOption) (Resp, error), req Req, opts ...gax.CallOption) (Resp, error) {
	ctx, cancel := rpc.WithTimeout(ctx)
	defer cancel()
	return do(ctx, req, opts...)
}

// retried retries an idempotent call. Google's client retries only reads and
// deletes by itself (docs/cloud-tasks.md#14).
var retried = gax.WithRetry(func() gax.Retryer {
	return gax.OnCodes(
		[]codes.Code{codes.Unavailable, codes.ResourceExhausted},
		gax.Backoff{Initial: 100 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2},
	)
})
