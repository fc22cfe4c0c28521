package middleware

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/brillconsulting/handoff"
)

// MetricsConfig configures [Metrics]. The zero value means the defaults.
type MetricsConfig struct {
	_ [0]func()

	// MeterProvider makes the instruments. Defaults to otel.GetMeterProvider.
	MeterProvider metric.MeterProvider
}

// Metrics returns an observer that counts deliveries with the OpenTelemetry metrics
// API. It returns the errors of the MeterProvider. Its instruments, with their
// attributes:
//
//	handoff.deliveries          counter    kind, outcome
//	handoff.rejections          counter    kind, reason
//	handoff.in_flight           up-down    -
//	handoff.lag                 histogram  kind            s from the scheduled time to the handler's start
//	messaging.process.duration  histogram  kind, outcome   s in the handler
//	handoff.enqueue_to_done     histogram  kind            s from the enqueue to the end of the attempt that succeeded
//	handoff.leases_lost         counter    kind            leases lost while the handler ran
//	handoff.dead_letters        counter    kind, reason    tasks that died
//
// Attributes are named handoff.kind, handoff.outcome and handoff.reason;
// messaging.process.duration has those of OpenTelemetry's conventions as well.
// The values of all attributes are closed sets. The kind is one that the router has
// a handler for, "_unknown" for any other, or empty if the caller was not verified.
// A delivery that was refused before its task was claimed counts as a rejection,
// and also in handoff.deliveries.
//
// The module examples/prometheus exports them to Prometheus.
func Metrics(config MetricsConfig) (handoff.Observer, error) {
	m, err := newMetrics(meterOf(config.MeterProvider))
	if err != nil {
		return handoff.Observer{}, err
	}
	return handoff.Observer{Begin: m.begin, End: m.end}, nil
}

func meterOf(p metric.MeterProvider) metric.Meter {
	if p == nil {
		p = otel.GetMeterProvider()
	}
	return p.Meter(scope)
}

type metrics struct {
	rejections, leasesLost, deadLetters metric.Int64Counter
	duration, lag, toDone               metric.Float64Histogram

	// These are counted in this struct and observed at collection, because adding
	// to an instrument for each delivery costs many times as much. If several
	// observers share a MeterProvider, OpenTelemetry's SDK adds up their counts.
	deliveries metric.Int64ObservableCounter // the counts are in ends
	inFlight   metric.Int64ObservableUpDownCounter
	running    atomic.Int64

	ends    cache[label, *ending]
	reasons cache[label, options]
}

// OpenTelemetry's default buckets for durations end at 10 s. A handler may take
// 30 min, and a task may wait for days.
var (
	durationBuckets = metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 30, 60, 300, 900, 1800)
	waitBuckets     = metric.WithExplicitBucketBoundaries(.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 6*3600, 24*3600, 7*24*3600)
)

func newMetrics(meter metric.Meter) (*metrics, error) {
	var m metrics
	var errs [9]error
	m.deliveries, errs[0] = meter.Int64ObservableCounter("handoff.deliveries", metric.WithUnit("{delivery}"),
		metric.WithDescription("Deliveries, by how they ended."))
	m.rejections, errs[1] = meter.Int64Counter("handoff.rejections", metric.WithUnit("{delivery}"),
		metric.WithDescription("Deliveries refused before their task was claimed, by why."))
	m.leasesLost, errs[2] = meter.Int64Counter("handoff.leases_lost", metric.WithUnit("{lease}"),
		metric.WithDescription("Leases lost while the handler ran."))
	m.deadLetters, errs[3] = meter.Int64Counter("handoff.dead_letters", metric.WithUnit("{letter}"),
		metric.WithDescription("Tasks that died, by why."))
	m.inFlight, errs[4] = meter.Int64ObservableUpDownCounter("handoff.in_flight", metric.WithUnit("{delivery}"),
		metric.WithDescription("Deliveries in the router."))
	m.lag, errs[5] = meter.Float64Histogram("handoff.lag", metric.WithUnit("s"), waitBuckets,
		metric.WithDescription("From the scheduled time to the handler's start."))
	m.toDone, errs[6] = meter.Float64Histogram("handoff.enqueue_to_done", metric.WithUnit("s"), waitBuckets,
		metric.WithDescription("From the enqueue to the end of the attempt that succeeded."))
	duration, err := newProcessDuration(meter, durationBuckets)
	m.duration, errs[7] = duration.Inst(), err
	_, errs[8] = meter.RegisterCallback(m.observe, m.deliveries, m.inFlight)
	return &m, errors.Join(errs[:]...)
}

func (m *metrics) observe(_ context.Context, o metric.Observer) error {
	o.ObserveInt64(m.inFlight, m.running.Load())
	m.ends.each(func(e *ending) { o.ObserveInt64(m.deliveries, e.count.Load(), e.ended) })
	return nil
}

func (m *metrics) begin(context.Context, *http.Request) { m.running.Add(1) }

func (m *metrics) end(ctx context.Context, d handoff.Delivery) {
	m.running.Add(-1)
	m.count(ctx, &d)
}

func (m *metrics) count(ctx context.Context, d *handoff.Delivery) {
	l := label{kind: kindOf(d), outcome: d.Outcome}
	e := m.ends.get(l, label.ending)
	e.count.Add(1)
	if refused(d) {
		l.reason = refusalReason(d)
		m.rejections.Add(ctx, 1, m.reasons.get(l, label.why).add...)
	}
	if !d.Started.IsZero() && !d.Ended.IsZero() {
		m.duration.Record(ctx, d.Ended.Sub(d.Started).Seconds(), e.processed.record...)
	}
	if lag, ok := lagOf(d, d.Started); ok {
		m.lag.Record(ctx, lag.Seconds(), e.kind.record...)
	}
	if d.Outcome == handoff.Done && !d.Info.EnqueuedAt.IsZero() {
		m.toDone.Record(ctx, max(0, d.Ended.Sub(d.Info.EnqueuedAt)).Seconds(), e.kind.record...)
	}
	if d.LeaseLost {
		m.leasesLost.Add(ctx, 1, e.kind.add...)
	}
	if d.Outcome == handoff.Dead {
		l.reason = d.Reason
		m.deadLetters.Add(ctx, 1, m.reasons.get(l, label.why).add...)
	}
}

// label holds what the attributes of a delivery are made from.
type label struct {
	kind    string
	outcome handoff.Outcome
	reason  handoff.Reason // only of a refusal or a burial
}

// ending holds the count and the attributes of the deliveries with one label.
type ending struct {
	count           atomic.Int64
	ended           metric.ObserveOption
	processed, kind options
}

func (l label) ending() *ending {
	kind, outcome := kindKey.String(l.kind), outcomeKey.String(l.outcome.String())
	processed := []attribute.KeyValue{kind, outcome, systemName, processName}
	if failed(l.outcome) {
		processed = append(processed, errorTypeKey.String(l.outcome.String()))
	}
	return &ending{ended: metric.WithAttributes(kind, outcome), processed: optionsOf(processed...), kind: optionsOf(kind)}
}

func (l label) why() options {
	return optionsOf(kindKey.String(l.kind), reasonKey.String(string(l.reason)))
}

// options holds one set of attributes as options for each type of instrument.
type options struct {
	add    []metric.AddOption
	record []metric.RecordOption
}

func optionsOf(attrs ...attribute.KeyValue) options {
	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	return options{add: []metric.AddOption{set}, record: []metric.RecordOption{set}}
}
