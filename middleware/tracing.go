package middleware

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/brillconsulting/handoff"
)

// TracingConfig configures [Tracing]. The zero value means the defaults.
type TracingConfig struct {
	_ [0]func()

	// TracerProvider makes the spans. Defaults to otel.GetTracerProvider.
	TracerProvider trace.TracerProvider

	// Propagator reads the trace from the task's headers. Defaults to W3C trace
	// context, not to OpenTelemetry's global propagator, which reads nothing
	// until it is set. It must be the same as in [InstrumentConfig].
	Propagator propagation.TextMapPropagator
}

// Tracing returns an observer that makes an OpenTelemetry consumer span for each
// delivery, named "process <queue>".
//
// The first delivery of a task is a child of the span that enqueued it (see
// [Instrument]). Retries may come days later, so they are new root spans that
// link to it. The trace of a request is used only after its caller is verified, so
// that strangers cannot decide what is sampled. A delivery refused before that is a
// root span of its own.
//
// The span lasts from the verification of the caller to the response, and is the
// parent of the handler's spans. Its status is Error if the task died or must be
// retried, except if it was busy or interrupted.
//
// Use it instead of a general server instrumentation, which uses the trace of every
// request, verified or not. At present Tracing returns no error.
func Tracing(config TracingConfig) (handoff.Observer, error) {
	t := &tracing{
		tracer:     tracerOf(config.TracerProvider),
		propagator: propagatorOf(config.Propagator),
		queues:     cache[string, queueSpan]{limit: cacheLimit},
	}
	return handoff.Observer{Verified: t.start, End: t.end}, nil
}

func tracerOf(p trace.TracerProvider) trace.Tracer {
	if p == nil {
		p = otel.GetTracerProvider()
	}
	return p.Tracer(scope)
}

func propagatorOf(p propagation.TextMapPropagator) propagation.TextMapPropagator {
	if p == nil {
		return propagation.TraceContext{}
	}
	return p
}

type tracing struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	queues     cache[string, queueSpan]
}

// start begins the span of a delivery whose caller is verified. It tells a first
// delivery from a retry by the headers, because the claim, which counts attempts,
// comes later and within the span.
func (t *tracing) start(ctx context.Context, info handoff.Info, header http.Header) context.Context {
	ctx = t.propagator.Extract(ctx, carrier{propagation.HeaderCarrier(header)})
	queue := t.queues.get(info.Queue, spanOf)
	options := queue.options
	if info.RetryCount > 0 {
		options = append(slices.Clip(options), trace.WithNewRoot())
		if origin := trace.SpanContextFromContext(ctx); origin.IsRemote() {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: origin}))
		}
	}
	ctx, span := t.tracer.Start(ctx, queue.name, options...)
	if size, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64); err == nil && size > 0 && span.IsRecording() {
		span.SetAttributes(bodySizeKey.Int64(size))
	}
	return context.WithValue(ctx, t, span) // later observers may replace the current span, so keep this one apart
}

// queueSpan holds what all spans of a queue have in common.
type queueSpan struct {
	name    string
	options []trace.SpanStartOption
}

func spanOf(queue string) queueSpan {
	return queueSpan{"process " + queue, []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(systemName, processType, processName, destinationKey.String(queue)),
	}}
}

// carrier looks up common header names without canonicalizing them.
type carrier struct{ propagation.HeaderCarrier }

func (c carrier) Get(key string) string {
	var values []string
	switch key {
	case "traceparent":
		values = c.HeaderCarrier["Traceparent"]
	case "tracestate":
		values = c.HeaderCarrier["Tracestate"]
	default:
		return c.HeaderCarrier.Get(key)
	}
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func (t *tracing) end(ctx context.Context, d handoff.Delivery) {
	span, ok := ctx.Value(t).(trace.Span)
	if !ok { // the caller was not verified
		_, span = t.tracer.Start(ctx, "process", trace.WithTimestamp(d.Received),
			trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(systemName, processType, processName))
	}
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attributesOf(&d)...)
	if failed(d.Outcome) {
		span.SetAttributes(errorTypeKey.String(d.Outcome.String()))
		span.SetStatus(codes.Error, errorText(d.Err))
	}
}

func attributesOf(d *handoff.Delivery) []attribute.KeyValue {
	attrs := append(make([]attribute.KeyValue, 0, 8), outcomeKey.String(d.Outcome.String()))
	if d.Reason != "" {
		attrs = append(attrs, reasonKey.String(string(d.Reason)))
	}
	info := &d.Info
	if info.Task == "" {
		return attrs
	}
	attrs = append(attrs, kindKey.String(kindOf(d)), messageKey.String(info.Task), retriesKey.Int(info.RetryCount))
	if info.ID != "" {
		attrs = append(attrs, idKey.String(info.ID))
	}
	if info.Attempt > 0 {
		attrs = append(attrs, attemptKey.Int(info.Attempt))
	}
	if info.PreviousResponse > 0 {
		attrs = append(attrs, previousKey.Int(info.PreviousResponse))
	}
	return attrs
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
