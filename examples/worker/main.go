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
	"os"
	"os/signal"
	"syscall"

	"github.com/brillconsulting/handoff"
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

// serve runs the service until ctx ends or the process is told to end, then lets
// running tasks finish.
func serve(ctx context.Context, listener net.Listener, cfg config, log *slog.Logger) error {
	w, err := newWorker(cfg, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer w.rdb.Close()
	return handoff.Serve(ctx, handoff.ServeConfig{
		Router: w.router, Handler: w.echo, Listener: listener,
		Ready: map[string]func(context.Context) error{
			"redis": func(ctx context.Context) error { return w.rdb.Ping(ctx).Err() },
		},
	})
}
