package middleware

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/brillconsulting/handoff/sqlstore"
)

// OutboxMetrics measures an outbox with the OpenTelemetry metrics API, for as long
// as its MeterProvider collects:
//
//	err := middleware.OutboxMetrics(middleware.MetricsConfig{}, outbox.Stats)
//
// It returns the errors of the MeterProvider. The instruments, with their
// attributes:
//
//	handoff.outbox.rows     up-down  queue, state  waiting, later or parked
//	handoff.outbox.oldest   gauge    queue         s for which the oldest row has been due; 0 without one
//	handoff.outbox.relayed  counter  result        sent, buried or unsure
//
// The attributes are named messaging.destination.name, handoff.state and
// handoff.result; [sqlstore.Stats] says what their values mean. Rows are counted in
// the database at every collection, so several processes report the same: take the
// maximum, not the sum. What was relayed is counted by each process that relays.
func OutboxMetrics(config MetricsConfig, stats func(context.Context) (sqlstore.Stats, error)) error {
	meter := meterOf(config.MeterProvider)
	var m outboxMetrics
	var errs [4]error
	m.stats = stats
	m.rows, errs[0] = meter.Int64ObservableUpDownCounter("handoff.outbox.rows", metric.WithUnit("{row}"),
		metric.WithDescription("Rows of the outbox: due, due later, or parked because no send can succeed."))
	m.oldest, errs[1] = meter.Float64ObservableGauge("handoff.outbox.oldest", metric.WithUnit("s"),
		metric.WithDescription("How long the oldest row of the outbox has been due."))
	m.relayed, errs[2] = meter.Int64ObservableCounter("handoff.outbox.relayed", metric.WithUnit("{task}"),
		metric.WithDescription("Tasks that left the outbox, by what became of them."))
	_, errs[3] = meter.RegisterCallback(m.observe, m.rows, m.oldest, m.relayed)
	return errors.Join(errs[:]...)
}

type outboxMetrics struct {
	stats   func(context.Context) (sqlstore.Stats, error)
	rows    metric.Int64ObservableUpDownCounter
	oldest  metric.Float64ObservableGauge
	relayed metric.Int64ObservableCounter
}

func (m *outboxMetrics) observe(ctx context.Context, o metric.Observer) error {
	stats, err := m.stats(ctx)
	if err != nil {
		return err
	}
	for _, q := range stats.Queues {
		queue := destinationKey.String(q.Queue)
		for state, n := range map[string]int{"waiting": q.Waiting, "later": q.Later, "parked": q.Parked} {
			o.ObserveInt64(m.rows, int64(n), metric.WithAttributes(queue, stateKey.String(state)))
		}
		age := 0.0
		if !q.Oldest.IsZero() {
			age = max(0, time.Since(q.Oldest).Seconds())
		}
		o.ObserveFloat64(m.oldest, age, metric.WithAttributes(queue))
	}
	for result, n := range map[string]int64{"sent": stats.Sent, "buried": stats.Buried, "unsure": stats.Unsure} {
		o.ObserveInt64(m.relayed, n, metric.WithAttributes(resultKey.String(result)))
	}
	return nil
}
