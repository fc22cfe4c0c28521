package middleware

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/brillconsulting/handoff"
)

// LoggerConfig configures [Logger]. The zero value means the defaults.
type LoggerConfig struct {
	_ [0]func()

	// Logger writes the lines. Defaults to slog.Default(), called for each
	// delivery.
	Logger *slog.Logger

	// CloudProject is the ID of the Google Cloud project whose Cloud Logging
	// reads the lines, such as "my-project". If it is set, each line also has
	// the keys that Cloud Logging understands: severity, and those that link the
	// line to its trace. Leave it empty with the emulator. Defaults to none,
	// without these keys.
	CloudProject string
}

// Logger returns an observer that logs one line per delivery, with the message
// "handoff: delivery". Its keys are kind, queue, task, attempt, outcome, status,
// duration_seconds (of the whole delivery), lag_seconds (from its scheduled time to
// its start), and reason, more_reasons, error and trace_id if there are any. The
// trace is that of [Tracing], or else that of the task's traceparent header. The
// level is Info if the task has ended, Warn if it will be retried, and Error if it
// died, if it failed for another reason than the handler's, such as a payload that
// cannot be decoded, or if a store or the verifier's keys cannot be reached.
//
// With this observer the router itself does not log how deliveries ended.
//
// Deliveries that were refused before their task was claimed are logged at most
// once a second for each reason. The key suppressed counts those left out since the
// previous line with that reason.
//
// Logger returns an error if CloudProject is not a project ID.
func Logger(config LoggerConfig) (handoff.Observer, error) {
	if p := config.CloudProject; p != "" && !projectID.MatchString(p) {
		return handoff.Observer{}, fmt.Errorf("middleware: LoggerConfig.CloudProject is %q; it must be a project ID, which matches %s", p, projectID)
	}
	l := &logger{config: config, heads: cache[head, slog.Handler]{limit: cacheLimit}, refused: make(map[handoff.Reason]refusal)}
	return handoff.Observer{End: l.end, Logs: true}, nil
}

// projectID also matches the IDs of old projects that begin with a domain.
var projectID = regexp.MustCompile(`^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)

type logger struct {
	config LoggerConfig
	heads  cache[head, slog.Handler]

	mu      sync.Mutex
	refused map[handoff.Reason]refusal
}

func (l *logger) end(ctx context.Context, delivery handoff.Delivery) {
	d := &delivery
	log := l.config.Logger
	if log == nil {
		log = slog.Default()
	}
	level := levelOf(d)
	if !log.Enabled(ctx, level) {
		return
	}
	suppressed, due := l.due(d)
	if !due {
		return
	}
	now := time.Now()
	line := slog.NewRecord(now, level, "handoff: delivery", 0) // 0: the source position would always be this line
	info := &d.Info
	if info.Task != "" { // set once the caller is verified and the headers are parsed
		line.AddAttrs(slog.String("task", info.Task), slog.Int("attempt", info.Attempt))
	}
	if info.Step != "" {
		line.AddAttrs(slog.String("step", info.Step))
	}
	line.AddAttrs(slog.Float64("duration_seconds", now.Sub(d.Received).Seconds()))
	if lag, ok := lagOf(d, d.Received); ok {
		line.AddAttrs(slog.Float64("lag_seconds", lag.Seconds()))
	}
	if d.Reason != "" {
		line.AddAttrs(slog.String("reason", string(d.Reason)))
	}
	if len(d.MoreReasons) > 0 {
		line.AddAttrs(slog.Any("more_reasons", d.MoreReasons))
	}
	if d.Err != nil {
		line.AddAttrs(slog.String("error", d.Err.Error()))
	}
	if suppressed > 0 {
		line.AddAttrs(slog.Int("suppressed", suppressed))
	}
	l.addTrace(ctx, &line, d)
	_ = l.handler(log, d).Handle(ctx, line) // slog.Logger ignores the error too
}

// head holds the attributes that many lines share.
type head struct {
	log         *slog.Logger
	kind, queue string
	outcome     handoff.Outcome
	status      int
}

// handler returns the handler of log with the head of d's line as attributes. For
// kinds that have a task handler it is cached, so that slog formats the head once.
func (l *logger) handler(log *slog.Logger, d *handoff.Delivery) slog.Handler {
	h := head{log, d.Info.Kind, d.Info.Queue, d.Outcome, d.Status}
	if d.Known {
		return l.heads.get(h, head.handler)
	}
	h.kind = h.kind[:min(len(h.kind), maxKind)]
	return h.handler()
}

// maxKind is the max length of a kind that can have a task handler.
const maxKind = 64

func (h head) handler() slog.Handler {
	attrs := []slog.Attr{slog.String("outcome", h.outcome.String()), slog.Int("status", h.status)}
	if h.queue != "" { // set together with the task
		attrs = append(attrs, slog.String("kind", h.kind), slog.String("queue", h.queue))
	}
	return h.log.Handler().WithAttrs(attrs)
}

// levelOf maps what an operator has to do to a level: nothing is Info, wait for the
// retry is Warn, look into it is Error.
func levelOf(d *handoff.Delivery) slog.Level {
	switch {
	case d.Outcome == handoff.Dead, d.Outcome == handoff.Unavailable, d.Outcome == handoff.Failed && d.Reason != "":
		return slog.LevelError
	case d.Outcome.Final() && d.Outcome != handoff.Retried:
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// lagOf returns how long after the scheduled time of d at is. It returns at least
// zero, as the two times are from different clocks, and false if either is unknown.
func lagOf(d *handoff.Delivery, at time.Time) (time.Duration, bool) {
	if d.Info.ScheduledAt.IsZero() || at.IsZero() {
		return 0, false
	}
	return max(0, at.Sub(d.Info.ScheduledAt)), true
}

// addTrace adds the trace, and the special fields of Cloud Logging.
func (l *logger) addTrace(ctx context.Context, line *slog.Record, d *handoff.Delivery) {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() && d.Info.Task != "" {
		carried := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(d.Info.Header))
		span = trace.SpanContextFromContext(carried)
	}
	if span.IsValid() {
		line.AddAttrs(slog.String("trace_id", span.TraceID().String()))
	}
	if l.config.CloudProject == "" {
		return
	}
	line.AddAttrs(slog.String("severity", severityOf(line.Level)))
	if span.IsValid() {
		line.AddAttrs(
			slog.String("logging.googleapis.com/trace", "projects/"+l.config.CloudProject+"/traces/"+span.TraceID().String()),
			slog.String("logging.googleapis.com/spanId", span.SpanID().String()),
			slog.Bool("logging.googleapis.com/trace_sampled", span.IsSampled()))
	}
}

func severityOf(level slog.Level) string {
	switch level {
	case slog.LevelWarn:
		return "WARNING"
	case slog.LevelError:
		return "ERROR"
	}
	return "INFO"
}

type refusal struct {
	at     time.Time // of the last line
	hidden int       // refusals since that line
}

const refusalPause = time.Second

// due reports whether to log d, and how many deliveries were suppressed before it.
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

// refused reports whether a delivery ended before its task was claimed. Anyone who
// can reach the server can cause such deliveries, in any number.
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
