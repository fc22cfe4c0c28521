package handoff

import (
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// log writes a line about the delivery.
func (d *delivery) log(level slog.Level, message string, more ...any) {
	info := &d.result.Info
	kind := info.Kind[:min(len(info.Kind), maxKind)] // of a path, which may be longer
	attrs := []any{"kind", kind, "queue", info.Queue, "task", info.Task, "attempt", info.Attempt}
	if step := d.resumed.currentStep(); step != "" {
		attrs = append(attrs, "step", step)
	}
	d.logBare(level, message, append(attrs, more...)...)
}

// logBare is log without the names of the task, which a stranger may have chosen.
func (d *delivery) logBare(level slog.Level, message string, attrs ...any) {
	if id := d.traceID(); id != "" {
		attrs = append(attrs, "trace_id", id)
	}
	d.router.log.Log(d.result.ctx, level, message, attrs...)
}

// traceID returns the ID of the delivery's trace, or else that of the task's
// traceparent header once the caller is verified, or "".
func (d *delivery) traceID() string {
	span := trace.SpanContextFromContext(d.result.ctx)
	if !span.IsValid() && d.result.Info.Task != "" {
		carried := propagation.TraceContext{}.Extract(d.result.ctx, propagation.HeaderCarrier(d.info().Header))
		span = trace.SpanContextFromContext(carried)
	}
	if !span.HasTraceID() {
		return ""
	}
	return span.TraceID().String()
}

// logEnd logs how the delivery ended, unless it is over or only had to wait.
// Observers with Logs do so instead.
func (d *delivery) logEnd() {
	end := &d.result
	switch {
	case d.refused:
		d.logRefusal()
	case end.Outcome == Dead:
		d.logDied(append([]Reason{end.Reason}, end.MoreReasons...), end.Err)
	case end.Outcome == Failed && end.Reason != "":
		d.log(slog.LevelError, "handoff: attempt failed", "outcome", end.Outcome, "reason", end.Reason, "error", end.Err)
	case end.Outcome == Failed, end.Outcome == Throttled, end.Outcome == Retried:
		d.log(slog.LevelWarn, "handoff: attempt failed", "outcome", end.Outcome, "error", end.Err)
	case end.Outcome == Lost:
		d.log(slog.LevelWarn, "handoff: lease lost", "error", end.Err)
	case end.Outcome == Unavailable:
		d.log(slog.LevelError, "handoff: delivery not settled", "reason", end.Reason, "error", end.Err)
	case end.Outcome == Duplicate && d.claim.Status == ClaimDead:
		d.log(slog.LevelWarn, "handoff: a task of dead work was deleted", "error", end.Err)
	}
}

// logDied logs that a task was buried. It is called for the burials that the end of
// their delivery does not tell too.
func (d *delivery) logDied(reasons []Reason, err error) {
	d.log(slog.LevelError, "handoff: task died", "reasons", reasons, "error", err)
}

// logRefusal logs why the delivery was refused, at most once a second for each
// reason, so that many requests do not fill the log. It has the number of refusals
// that were not logged before.
func (d *delivery) logRefusal() {
	end := &d.result
	if hidden, due := d.router.refused.due(end.Reason); due {
		d.logBare(slog.LevelWarn, "handoff: delivery refused",
			"outcome", end.Outcome.String(), "reason", string(end.Reason), "error", end.Err, "unlogged", hidden)
	}
}

// setReasons sets why the task is buried, or could not be.
func (d *delivery) setReasons(reasons []Reason) {
	d.result.Reason, d.result.MoreReasons = reasons[0], reasons[1:]
}

// refusals counts the refused deliveries of each reason that are not logged. last
// stays small, because there are few reasons.
type refusals struct {
	mu   sync.Mutex
	last map[Reason]refusal
}

type refusal struct {
	at     time.Time
	hidden int // refusals after at, which were not logged
}

const refusalPause = time.Second

func (l *refusals) due(reason Reason) (hidden int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	last, seen := l.last[reason]
	if seen && now.Sub(last.at) < refusalPause {
		last.hidden++
		l.last[reason] = last
		return 0, false
	}
	l.last[reason] = refusal{at: now}
	return last.hidden, true
}
