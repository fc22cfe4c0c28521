package main

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// exportTelemetry sends traces and metrics to the collector named by
// OTEL_EXPORTER_OTLP_ENDPOINT, a sidecar on Cloud Run. Without it nothing is
// exported. The SDK reads OpenTelemetry's other variables, such as
// OTEL_SERVICE_NAME. Call flush last: it sends what is left.
func exportTelemetry(ctx context.Context, getenv func(string) string) (flush func() error, err error) {
	if getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" {
		return func() error { return nil }, nil
	}
	spans, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, err
	}
	points, err := otlpmetrichttp.New(ctx)
	if err != nil {
		return nil, err
	}
	traces := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spans))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(points)))
	otel.SetTracerProvider(traces)
	otel.SetMeterProvider(meters)
	return func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return errors.Join(traces.Shutdown(ctx), meters.Shutdown(ctx))
	}, nil
}
