package telemetry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/middleware"
	"github.com/brillconsulting/handoff/sqlstore"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

func TestOutboxMetrics(t *testing.T) {
	t.Parallel()
	w := &world{reader: sdkmetric.NewManualReader()}
	w.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(w.reader))
	stats := sqlstore.Stats{
		Queues: []sqlstore.QueueStats{{Queue: "a", Waiting: 3, Later: 2, Oldest: time.Now().Add(-time.Hour)}, {Queue: "b", Parked: 1}},
		Sent:   7, Buried: 2, Unsure: 1,
	}
	var failure error
	err := middleware.OutboxMetrics(middleware.MetricsConfig{MeterProvider: w.meters}, func(context.Context) (sqlstore.Stats, error) {
		return stats, failure
	})
	assert.NoError(t, err)
	all := w.collect(t)
	assert.Equal(t, all["handoff.outbox.rows"], []point{
		{"handoff.state=later,messaging.destination.name=a", 2, 0},
		{"handoff.state=later,messaging.destination.name=b", 0, 0},
		{"handoff.state=parked,messaging.destination.name=a", 0, 0},
		{"handoff.state=parked,messaging.destination.name=b", 1, 0},
		{"handoff.state=waiting,messaging.destination.name=a", 3, 0},
		{"handoff.state=waiting,messaging.destination.name=b", 0, 0},
	})
	oldest := all["handoff.outbox.oldest"]
	assert.Equal(t, len(oldest), 2)
	if age := oldest[0].value; age < 3600 || age > 4000 || oldest[1].value != 0 {
		t.Errorf("the oldest rows are %+v", oldest)
	}
	assert.Equal(t, all["handoff.outbox.relayed"], []point{{"handoff.result=buried", 2, 0}, {"handoff.result=sent", 7, 0}, {"handoff.result=unsure", 1, 0}})

	failure = errors.New("no database")
	var data metricdata.ResourceMetrics
	assert.ErrorIs(t, w.reader.Collect(t.Context(), &data), failure)
}
