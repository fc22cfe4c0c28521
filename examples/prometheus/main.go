// Prometheus runs a worker and a producer, with the emulator as Cloud Tasks, and
// exports their metrics to Prometheus:
//
//	go run -C examples/prometheus .
//	curl -s localhost:9464/metrics | grep -E 'handoff|messaging'
//
// prometheus.yml scrapes it, rules.yml has alerts to start from. A service needs
// only watch and its two uses.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/brillconsulting/handoff/middleware"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

func main() {
	addr := flag.String("listen", "localhost:9464", "where to serve /metrics")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, *addr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// watch returns a MeterProvider, and the handler of /metrics that exports it.
func watch() (metric.MeterProvider, http.Handler, error) {
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	if err != nil {
		return nil, nil, err
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	return provider, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), nil
}

func run(ctx context.Context, out io.Writer, addr string) error {
	meters, metrics, err := watch()
	if err != nil {
		return err
	}
	deliveries, err := middleware.Metrics(middleware.MetricsConfig{MeterProvider: meters})
	if err != nil {
		return err
	}
	enqueues, err := middleware.Instrument(middleware.InstrumentConfig{MeterProvider: meters})
	if err != nil {
		return err
	}

	s, err := open(ctx, enqueues, deliveries)
	if err != nil {
		return err
	}
	defer s.close()
	e := echo.New()
	s.router.Mount(e.Group("/tasks"))
	s.tasks.SetHandler(e)

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", metrics)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(out, "http://%s/metrics, until interrupted\n", listener.Addr())

	err = errors.Join(s.trade(ctx), server.Close())
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}
