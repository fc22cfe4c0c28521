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

// InstrumentConfig configures [Instrument]. The zero value means the
// defaults.
type InstrumentConfig struct {
	_ [0]func()

	// TracerProvider makes the spans. Defaults to otel.GetTracerProvider.
	TracerProvider trace.TracerProvider

	// MeterProvider makes the instruments. Defaults to otel.GetMeterProvider.
	MeterProvider metric.MeterProvider

	// Propagator writes the trace to the task's headers. Defaults to W3C trace
	// context, not to OpenTelemetry's global propagator, which writes nothing
	// until it is set. The headers that it writes are stored with the task,
	// including baggage if it writes that.
	Propagator propagation.TextMapPropagator
}

// Instrument returns a function for [handoff.ClientConfig].Instrument that traces
// and counts the tasks that a client enqueues. It returns the errors of the
// MeterProvider. The function is safe for concurrent use.
//
// Each task has an OpenTelemetry producer span, named "create_task <queue>",
// whose trace context is stored with the task for [Tracing] to continue. In a
// batch, each task has a span of its own. A draft, such as a task of an outbox, has
// its producer span, "draft_task <queue>", where it is drafted; sending it is a
// client span with a link to that one. The instruments, with their attributes:
//
//	messaging.client.sent.messages       counter    kind, result
//	messaging.client.operation.duration  histogram  kind, result  s until the response, including retries
//
// The attributes are named handoff.kind and handoff.result. The result is created,
// duplicate, failed (no task was created), not-sent (no request was sent, so no
// task was created) or unknown (see [handoff.ErrUnknown]). A task without a payload
// type has an empty kind. A draft is counted when it is sent; the result of its first
// span is drafted or failed. Payloads are not read.
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
	start := time.Now()
	ctx, span := i.start(ctx, e)
	return ctx, func(r handoff.Receipt, err error) {
		result := resultOf(r, err)
		switch {
		case !e.Draft:
			options := i.labels.get(sendLabel{e.Kind, result}, sendLabel.options)
			i.sent.Add(ctx, 1, options.add...)
			i.duration.Record(ctx, time.Since(start).Seconds(), options.record...)
		case err == nil:
			result = "drafted"
		}
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

// start begins the span of a task, and stores its context with the task unless
// the task has that of an earlier span.
func (i *instrument) start(ctx context.Context, e handoff.Enqueuing) (context.Context, trace.Span) {
	name, operation := createName, sendType
	switch {
	case e.Draft:
		name, operation = draftName, createType
	case e.Batch:
		operation = createType // in a batch, only the batch call is a send
	}
	kind, links := trace.SpanKindProducer, []trace.Link(nil)
	stored := i.stored(e.Header)
	if stored.IsValid() {
		operation, kind, links = sendType, trace.SpanKindClient, []trace.Link{{SpanContext: stored}}
	}
	ctx, span := i.tracer.Start(ctx, name.Value.AsString()+" "+e.Queue, trace.WithSpanKind(kind), trace.WithLinks(links...),
		trace.WithAttributes(systemName, operation, name, destinationKey.String(e.Queue)))
	if !stored.IsValid() {
		i.propagator.Inject(ctx, propagation.MapCarrier(e.Header))
	}
	return ctx, span
}

// stored returns the trace context that a draft was made with.
func (i *instrument) stored(header map[string]string) trace.SpanContext {
	if len(header) == 0 {
		return trace.SpanContext{}
	}
	carrier := make(propagation.HeaderCarrier, len(header))
	for name, value := range header {
		carrier.Set(name, value)
	}
	return trace.SpanContextFromContext(i.propagator.Extract(context.Background(), carrier))
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
