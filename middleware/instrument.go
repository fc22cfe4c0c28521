package middleware

import (
	"context"
	"errors"
	"path"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/brillconsulting/handoff"
)

// InstrumentFunc is the type of [handoff.ClientConfig].Instrument.
type InstrumentFunc = func(context.Context, handoff.Enqueuing) (context.Context, func(handoff.Receipt, error))

// InstrumentConfig configures [Instrument]. The zero InstrumentConfig is its
// defaults.
type InstrumentConfig struct {
	_ [0]func()

	// TracerProvider makes the spans. Defaults to otel.GetTracerProvider.
	TracerProvider trace.TracerProvider

	// MeterProvider makes the instruments. Defaults to otel.GetMeterProvider.
	MeterProvider metric.MeterProvider

	// Propagator writes the trace to the task's headers. Defaults to W3C trace
	// context, not to OpenTelemetry's global propagator, which writes nothing
	// until it is set. Whatever it writes is stored with the task, baggage
	// included if it writes that.
	Propagator propagation.TextMapPropagator
}

// Instrument returns a function that traces and counts the tasks that a client
// enqueues, for [handoff.ClientConfig].Instrument, or the errors of the
// MeterProvider.
//
// Each task has an OpenTelemetry producer span, named "create_task <queue>",
// whose trace context travels with the task for [Tracing] to continue. The
// span of a single task is that of the call; those of a batch are each about
// one of its members. The instruments, with their attributes:
//
//	messaging.client.sent.messages       counter    kind, result
//	messaging.client.operation.duration  histogram  kind, result  s until the answer, retries included
//
// The result is created, duplicate, failed (there is no task), not-sent (the
// same, because it was never tried) or unknown (see [handoff.ErrUnknown]). It
// is named handoff.result, the kind handoff.kind; a task without a payload
// type has an empty kind. Payloads are not looked at.
func Instrument(config InstrumentConfig) (InstrumentFunc, error) {
	meter := meterOf(config.MeterProvider)
	sent, err := newSentMessages(meter)
	duration, derr := newOperationDuration(meter, durationBuckets)
	if err := errors.Join(err, derr); err != nil {
		return nil, err
	}
	i := &instrument{
		tracer:     tracerOf(config.TracerProvider),
		propagator: propagatorOf(config.Propagator),
		sent:       sent.Inst(),
		duration:   duration.Inst(),
		labels:     cache[sendLabel, options]{limit: cacheLimit},
	}
	return i.begin, nil
}

type instrument struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	sent       metric.Int64Counter
	duration   metric.Float64Histogram
	labels     cache[sendLabel, options]
}

func (i *instrument) begin(ctx context.Context, e handoff.Enqueuing) (context.Context, func(handoff.Receipt, error)) {
	start, operation := time.Now(), sendType
	if e.Batch {
		operation = createType // the send is the batch's
	}
	ctx, span := i.tracer.Start(ctx, "create_task "+e.Queue,
		trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(systemName, operation, createName, destinationKey.String(e.Queue)))
	i.propagator.Inject(ctx, propagation.MapCarrier(e.Header))
	return ctx, func(r handoff.Receipt, err error) {
		result := resultOf(r, err)
		options := i.labels.get(sendLabel{e.Kind, result}, sendLabel.options)
		i.sent.Add(ctx, 1, options.add...)
		i.duration.Record(ctx, time.Since(start).Seconds(), options.record...)
		if span.IsRecording() {
			span.SetAttributes(kindKey.String(e.Kind), idKey.String(e.ID), bodySizeKey.Int(e.Size), resultKey.String(result))
			if r.Name != "" {
				span.SetAttributes(messageKey.String(path.Base(r.Name)))
			}
			if err != nil {
				span.SetAttributes(errorTypeKey.String(result))
				span.SetStatus(codes.Error, err.Error())
			}
		}
		span.End()
	}
}

func resultOf(r handoff.Receipt, err error) string {
	switch {
	case errors.Is(err, handoff.ErrUnknown):
		return "unknown"
	case errors.Is(err, handoff.ErrNotSent):
		return "not-sent"
	case err != nil:
		return "failed"
	case r.Duplicate:
		return "duplicate"
	}
	return "created"
}

type sendLabel struct{ kind, result string }

func (l sendLabel) options() options {
	attrs := []attribute.KeyValue{systemName, sendType, createName, kindKey.String(l.kind), resultKey.String(l.result)}
	if l.result != "created" && l.result != "duplicate" {
		attrs = append(attrs, errorTypeKey.String(l.result))
	}
	return optionsOf(attrs...)
}
