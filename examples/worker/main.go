// Worker is a Cloud Run service that receives tasks. It is configured by its
// environment, verifies its callers, keeps its fence in Redis, exports
// telemetry, and stops within the ten seconds that Cloud Run allows. deploy.md
// says how to deploy it. To run it on this machine, with Cloud Tasks and Redis
// in the same process:
//
//	go run -C examples/worker . -local
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	local := flag.Bool("local", false, "run here, with Cloud Tasks and Redis in this process and a task every second")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	start := serveConfigured
	if *local {
		start = serveLocal
	}
	err := start(ctx, slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serveConfigured(ctx context.Context, log *slog.Logger) error {
	cfg, err := configure(os.Getenv)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+cfg.port)
	if err != nil {
		return err
	}
	flush, err := exportTelemetry(ctx, os.Getenv)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	return errors.Join(serve(ctx, listener, cfg, log), flush())
}

// serve runs the service until ctx ends, then lets running tasks finish.
//
// Cloud Run kills the process 10 s after SIGTERM. Running tasks have 6 of them,
// the router up to 1.5 to interrupt the rest and release their claims, the last
// responses and the telemetry one each.
func serve(ctx context.Context, listener net.Listener, cfg config, log *slog.Logger) error {
	w, err := newWorker(cfg, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer w.rdb.Close()
	server := &http.Server{Handler: w.echo, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	log.Info("worker: serving", "address", listener.Addr().String())

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	log.Info("worker: stopping")
	ctx = context.WithoutCancel(ctx)
	drain, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	err = w.router.Shutdown(drain) // the server still serves, and the router refuses new deliveries
	respond, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(respond))
}
