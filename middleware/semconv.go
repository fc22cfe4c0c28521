package middleware

import (
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"

	"github.com/brillconsulting/handoff"
)

// OpenTelemetry's conventions for messaging are still in development, so one
// version of them is pinned, and in this file alone. What they have no name
// for is under handoff or gcp.cloud_tasks.

const scope = "github.com/brillconsulting/handoff/middleware"

var (
	// No value is registered for Cloud Tasks.
	systemName = semconv.MessagingSystemKey.String("gcp_cloud_tasks")

	processName = semconv.MessagingOperationNameKey.String("process")
	processType = semconv.MessagingOperationTypeProcess
	createName  = semconv.MessagingOperationNameKey.String("create_task")
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

// unknownKind stands for every kind without a handler: whoever may deliver
// could otherwise make up labels without end.
const unknownKind = "_unknown"

// kindOf is the kind of a delivery as a label or an attribute: empty until
// the caller is verified and the headers are read.
func kindOf(d *handoff.Delivery) string {
	switch {
	case d.Known:
		return d.Info.Kind
	case d.Info.Task != "":
		return unknownKind
	}
	return ""
}

// failed says whether an outcome is an error to whoever watches: a task that
// died or was not run, other than in the ordinary course of two deliveries
// meeting or a process ending.
func failed(o handoff.Outcome) bool {
	switch o {
	case handoff.Dead:
		return true
	case handoff.Busy, handoff.Interrupted:
		return false
	default:
		return !o.Final()
	}
}
