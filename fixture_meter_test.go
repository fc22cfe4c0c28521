package handoff_test

import (
	"context"
	"fmt"
	"io"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// metricsTo is a MeterProvider that writes every measurement to w.
type metricsTo struct {
	noop.MeterProvider
	w io.Writer
}

func (p metricsTo) Meter(string, ...metric.MeterOption) metric.Meter { return meterTo{w: p.w} }

type meterTo struct {
	noop.Meter
	w io.Writer
}

func (m meterTo) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return counterTo{w: m.w, name: name}, nil
}

func (m meterTo) Float64Histogram(name string, _ ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return histogramTo{w: m.w, name: name}, nil
}

type counterTo struct {
	noop.Int64Counter
	w    io.Writer
	name string
}

func (c counterTo) Add(_ context.Context, n int64, options ...metric.AddOption) {
	set := metric.NewAddConfig(options).Attributes()
	fmt.Fprintln(c.w, "metric", c.name, n, set.Encoded(attribute.DefaultEncoder()))
}

type histogramTo struct {
	noop.Float64Histogram
	w    io.Writer
	name string
}

func (h histogramTo) Record(_ context.Context, v float64, options ...metric.RecordOption) {
	set := metric.NewRecordConfig(options).Attributes()
	fmt.Fprintln(h.w, "metric", h.name, v, set.Encoded(attribute.DefaultEncoder()))
}
