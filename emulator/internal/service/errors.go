package service

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/emulator/internal/names"
)

// Texts recorded from the service (docs/cloud-tasks.md#12).
var (
	errQueueExists    = status.Error(codes.AlreadyExists, "Queue already exists")
	errQueueRecent    = status.Error(codes.FailedPrecondition, "The queue cannot be created because a queue with this name existed too recently.")
	errQueueMissing   = status.Error(codes.NotFound, "Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize.")
	errEntityMissing  = status.Error(codes.NotFound, "Requested entity was not found.")
	errTaskExists     = status.Error(codes.AlreadyExists, "Requested entity already exists")
	errTaskRecent     = status.Error(codes.AlreadyExists, "The task cannot be created because a task with this name existed too recently. For more information about task de-duplication see https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues.tasks/create#body.request_body.FIELDS.task.")
	errTaskGone       = status.Error(codes.NotFound, "The task no longer exists, though a task with this name existed recently. The task either successfully completed or was deleted.")
	errTaskTooLarge   = invalid("Task size too large")
	errNoPayload      = invalid("Task.payload_type is not set")
	errURLRequired    = invalid("HttpRequest.url is required.")
	errURLScheme      = invalid("HttpTarget.url must start with 'http://' or 'https://'.")
	errTokenOverHTTP  = invalid("HttpRequest.url must start with 'https://' for request with HttpRequest.authorization_header")
	errAccountMissing = invalid("service_account_email must be set.")

	errHeadersTooLarge = invalid("The total size of the headers must be less than 80KB.") // a text of our own
)

const docs = "https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues"

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

func detailed(code codes.Code, text string, details ...protoadapt.MessageV1) error {
	s, err := status.New(code, text).WithDetails(details...)
	if err != nil {
		return status.Error(code, text)
	}
	return s.Err()
}

func help(description, url string) *errdetails.Help {
	return &errdetails.Help{Links: []*errdetails.Help_Link{{Description: description, Url: url}}}
}

// errQueueName has the recorded text. That does not say which characters are
// allowed, so a detail does.
func errQueueName() error {
	return detailed(codes.InvalidArgument,
		`Queue name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>".`,
		&errdetails.LocalizedMessage{Locale: "en-US", Message: "A queue ID can contain only letters ([A-Za-z]), numbers ([0-9]) and hyphens (-), and has 1 to 100 characters."},
		help("Definition of queue name", docs+"#Queue.FIELDS.name"))
}

func errTaskID(id string) error {
	return detailed(codes.InvalidArgument,
		fmt.Sprintf("Task ID %q can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or underscores (_). Task ID must between 1 and 500 characters.", id),
		help("Definition of task ID", docs+".tasks#Task.FIELDS.name"))
}

// errResource is the error for a malformed name. The service resolves the project
// before it looks at the rest (docs/cloud-tasks.md#2).
func errResource(name string) error {
	if names.InProject(name) {
		return invalid("Invalid resource field value in the request.")
	}
	project := names.Project(name)
	text := "Permission denied on resource project " + project + "."
	consumer := "projects/" + project
	return detailed(codes.PermissionDenied, text,
		&errdetails.ErrorInfo{
			Reason: "CONSUMER_INVALID",
			Domain: "googleapis.com",
			Metadata: map[string]string{
				"consumer":      consumer,
				"containerInfo": project,
				"service":       "cloudtasks.googleapis.com",
			},
		},
		&errdetails.LocalizedMessage{Locale: "en-US", Message: text},
		help("Google developers console", "https://console.developers.google.com"))
}

// errQueueLookup is the error for a queue that was not found by name.
func errQueueLookup(name string) error {
	if _, ok := names.ParseQueue(name); ok {
		return errQueueMissing
	}
	if parent, _, ok := names.SplitQueue(name); ok {
		if _, _, ok := names.SplitLocation(parent); ok {
			return errQueueName()
		}
	}
	return errResource(name)
}

// engineError converts an error of the engine to the one that clients see.
func engineError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, engine.ErrQueueMissing):
		return errQueueMissing
	case errors.Is(err, engine.ErrQueueExists):
		return errQueueExists
	case errors.Is(err, engine.ErrQueueRecent):
		return errQueueRecent
	case errors.Is(err, engine.ErrTaskMissing):
		return errEntityMissing
	case errors.Is(err, engine.ErrTaskGone):
		return errTaskGone
	case errors.Is(err, engine.ErrTaskExists):
		return errTaskExists
	case errors.Is(err, engine.ErrTaskRecent):
		return errTaskRecent
	case errors.Is(err, engine.ErrClosed):
		return status.Error(codes.Unavailable, "emulator: closed")
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Internal, err.Error())
}

// Pacific formats a time as the service does in the texts of its errors: in the
// time of California, with its fraction of a second.
func Pacific(t time.Time) string {
	zone, err := time.LoadLocation("America/Los_Angeles")
	if err != nil { // no time zone database here
		zone = time.FixedZone("PST", -8*60*60)
	}
	return t.In(zone).Format(time.RFC3339Nano)
}
