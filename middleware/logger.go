package middleware

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/brillconsulting/handoff"
)

// LoggerConfig configures [LoggerWithConfig].
type LoggerConfig struct {
	_ [0]func()

	// Skipper leaves out the requests it is true for. Defaults to none.
	Skipper Skipper

	// Logger takes the lines. Defaults to slog.Default, as it is when a
	// delivery ends.
	Logger *slog.Logger

	// CloudProject is the ID of the Google Cloud project whose Cloud Logging
	// reads the lines. It adds the keys that Cloud Logging understands:
	// severity, and those that show the line beside its trace. The trace is
	// that of [Tracing], or else of the delivery's traceparent header.
	// Defaults to none of them.
	CloudProject string
}

// Logger returns a middleware for the echo group that logs one line a
// delivery, with the message "handoff: delivery": kind, queue, task, attempt,
// outcome, status, duration (of the whole delivery), lag (how long after its
// scheduled time it began), and reason and error if there are any. Its level
// is Info if the task is over, Warn if it will be retried, and Error if it
// died or if a store or the keys are out of reach.
//
// Deliveries that were refused before their task was claimed are logged at
// most once a second for each reason; suppressed counts those that were not,
// since the last line of that reason.
func Logger() echo.MiddlewareFunc { return LoggerWithConfig(LoggerConfig{}) }

// LoggerWithConfig is [Logger] with a configuration.
func LoggerWithConfig(config LoggerConfig) echo.MiddlewareFunc { return must(config.ToMiddleware()) }

// ToMiddleware returns the middleware. No configuration is an error.
func (config LoggerConfig) ToMiddleware() (echo.MiddlewareFunc, error) {
	l := &logger{config: config, refused: make(map[handoff.Reason]refusal)}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if config.Skipper == nil || !config.Skipper(c) {
				defer l.log(c) // also when net/http is told to abort, by a panic
			}
			return next(c)
		}
	}, nil
}

type logger struct {
	config LoggerConfig

	mu      sync.Mutex
	refused map[handoff.Reason]refusal
}

func (l *logger) log(c echo.Context) {
	d, ok := handoff.DeliveryFrom(c)
	if !ok {
		return
	}
	log := l.config.Logger
	if log == nil {
		log = slog.Default()
	}
	ctx, level := c.Request().Context(), levelOf(&d)
	if !log.Enabled(ctx, level) {
		return
	}
	suppressed, due := l.due(&d)
	if !due {
		return
	}
	var buf [16]slog.Attr
	attrs := appendDelivery(buf[:0], &d)
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	if l.config.CloudProject != "" {
		attrs = l.appendCloud(attrs, c.Request(), &d, level)
	}
	line := slog.NewRecord(time.Now(), level, "handoff: delivery", 0) // 0: this line of ours would be no news, and costs to find
	line.AddAttrs(attrs...)
	_ = log.Handler().Handle(ctx, line) // as slog.Logger does
}

// levelOf follows what an operator has to do: nothing, wait and see, look.
func levelOf(d *handoff.Delivery) slog.Level {
	switch {
	case d.Outcome == handoff.Dead, d.Outcome == handoff.Unavailable:
		return slog.LevelError
	case d.Outcome.Final():
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// maxKind is the length of the longest kind that can have a handler.
const maxKind = 64

func appendDelivery(attrs []slog.Attr, d *handoff.Delivery) []slog.Attr {
	info := &d.Info
	if info.Task != "" { // known once the caller is verified and the headers are read
		kind := info.Kind
		attrs = append(attrs,
			slog.String("kind", kind[:min(len(kind), maxKind)]),
			slog.String("queue", info.Queue),
			slog.String("task", info.Task),
			slog.Int("attempt", info.Attempt))
	}
	attrs = append(attrs,
		slog.String("outcome", d.Outcome.String()),
		slog.Int("status", d.Status),
		slog.Duration("duration", time.Since(d.Received)))
	if lag, ok := lagOf(d, d.Received); ok {
		attrs = append(attrs, slog.Duration("lag", lag))
	}
	if d.Reason != "" {
		attrs = append(attrs, slog.String("reason", string(d.Reason)))
	}
	if d.Err != nil {
		attrs = append(attrs, slog.String("error", d.Err.Error()))
	}
	return attrs
}

// lagOf is how long after its scheduled time a delivery was at a moment; not
// less than zero, since two clocks are compared.
func lagOf(d *handoff.Delivery, at time.Time) (time.Duration, bool) {
	if d.Info.ScheduledAt.IsZero() || at.IsZero() {
		return 0, false
	}
	return max(0, at.Sub(d.Info.ScheduledAt)), true
}

// The keys are Cloud Logging's special fields of a structured line.
func (l *logger) appendCloud(attrs []slog.Attr, r *http.Request, d *handoff.Delivery, level slog.Level) []slog.Attr {
	severity := "INFO"
	switch level {
	case slog.LevelWarn:
		severity = "WARNING"
	case slog.LevelError:
		severity = "ERROR"
	}
	attrs = append(attrs, slog.String("severity", severity))
	span := trace.SpanContextFromContext(r.Context())
	if !span.IsValid() && d.Info.Task != "" {
		ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(r.Header))
		span = trace.SpanContextFromContext(ctx)
	}
	if span.IsValid() {
		attrs = append(attrs,
			slog.String("logging.googleapis.com/trace", "projects/"+l.config.CloudProject+"/traces/"+span.TraceID().String()),
			slog.String("logging.googleapis.com/spanId", span.SpanID().String()),
			slog.Bool("logging.googleapis.com/trace_sampled", span.IsSampled()))
	}
	return attrs
}

type refusal struct {
	at     time.Time // of the last line
	hidden int       // refusals since
}

const refusalPause = time.Second

// due says whether a delivery gets its line, and how many before it did not.
func (l *logger) due(d *handoff.Delivery) (suppressed int, due bool) {
	if !refused(d) {
		return 0, true
	}
	reason := refusalReason(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	last, seen := l.refused[reason]
	if seen && time.Since(last.at) < refusalPause {
		last.hidden++
		l.refused[reason] = last
		return 0, false
	}
	l.refused[reason] = refusal{at: time.Now()}
	return last.hidden, true
}

// refused says whether a delivery ended before its task was claimed, so that
// anything may have caused it, and often.
func refused(d *handoff.Delivery) bool {
	switch d.Outcome {
	case handoff.Unauthenticated, handoff.Forbidden, handoff.Malformed, handoff.UnknownKind, handoff.TooLarge:
		return true
	case handoff.Unavailable, handoff.Interrupted:
		return d.Info.FencingToken == 0 // no claim
	default:
		return false
	}
}

func refusalReason(d *handoff.Delivery) handoff.Reason {
	return cmp.Or(d.Reason, handoff.Reason(d.Outcome.String()))
}
