package middleware

import (
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"

	"github.com/brillconsulting/handoff"
)

// OpenTelemetry's conventions for messaging are still in development, so this file
// pins one version of them. Names that the conventions do not have begin with
// handoff or gcp.cloud_tasks.

const scope = "github.com/brillconsulting/handoff/middleware"

var (
	// The conventions register no value for Cloud Tasks.
	systemName = semconv.MessagingSystemKey.String("gcp_cloud_tasks")

	processName = semconv.MessagingOperationNameKey.String("process")
	processType = semconv.MessagingOperationTypeProcess
	createName  = semconv.MessagingOperationNameKey.String("create_task")
	draftName   = semconv.MessagingOperationNameKey.String("draft_task")
	createType  = semconv.MessagingOperationTypeCreate
	sendType    = semconv.MessagingOperationTypeSend
)

const (
	destinationKey = semconv.MessagingDestinationNameKey
	messageKey     = semconv.MessagingMessageIDKey
	bodySizeKey    = semconv.MessagingMessageBodySizeKey
	errorTypeKey   = semconv.ErrorTypeKey

	kindKey     = attribute.Key("handoff.kind")
	idKey       = attribute.Key("handoff.id")
	attemptKey  = attribute.Key("handoff.attempt")
	outcomeKey  = attribute.Key("handoff.outcome")
	reasonKey   = attribute.Key("handoff.reason")
	stateKey    = attribute.Key("handoff.state")
	resultKey   = attribute.Key("handoff.result")
	retriesKey  = attribute.Key("gcp.cloud_tasks.retry_count")
	previousKey = attribute.Key("gcp.cloud_tasks.previous_response")
)

// Instruments that the conventions name.
var (
	newProcessDuration   = messagingconv.NewProcessDuration
	newOperationDuration = messagingconv.NewClientOperationDuration
	newSentMessages      = messagingconv.NewClientSentMessages
)

// unknownKind replaces every kind without a handler. Otherwise a caller could
// create any number of labels.
const unknownKind = "_unknown"

// kindOf returns the kind of a delivery as a label or an attribute. It is empty if
// the caller was not verified or the headers were not parsed.
func kindOf(d *handoff.Delivery) string {
	switch {
	case d.Known:
		return d.Info.Kind
	case d.Info.Task != "":
		return unknownKind
	}
	return ""
}

// failed reports whether an outcome is an error in traces: the task died or must be
// retried. Busy and Interrupted are no errors, because concurrent deliveries and
// shutdowns are ordinary.
func failed(o handoff.Outcome) bool {
	switch o {
	case handoff.Dead, handoff.Retried:
		return true
	case handoff.Busy, handoff.Interrupted:
		return false
	default:
		return !o.Final()
	}
}
