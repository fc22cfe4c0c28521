// Service is a shop whose work is done by tasks: it charges orders once, mails ten
// minutes later, reports on each tenant at night, makes 10,000 thumbnails, calls
// customers' webhooks, exports for twelve minutes, and takes what another team's CRM
// enqueues. Everything around it is in this process:
//
//	go run -C examples/service .
//
// docs/service.md walks through it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/examples/recipes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	project  = "acme-shop"
	location = "europe-west1"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, log io.Writer) error {
	flags := flag.NewFlagSet("service", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:8080", "where the service listens")
	api := flags.String("emulator", "127.0.0.1:8123", "where Cloud Tasks listens, for the command handoff")
	rediss := flags.String("redis", "", "a Redis with TLS, rediss://user:password@host:port, instead of memory")
	ca := flags.String("redis-ca", "ca.pem", "file of the CA of its certificate")
	prefix := flags.String("prefix", "shop:", "what the keys of this environment begin with")
	thumbnails := flags.Int("thumbnails", 10000, "how many thumbnails to make")
	page := flags.Duration("page", time.Minute, "how long each of the twelve pages of an export takes")
	_ = flags.Parse(args) // it exits
	tasks, err := emulator.New(emulator.Config{GRPCAddr: *api})
	if err != nil {
		return err
	}
	defer tasks.Close()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	url := "http://" + listener.Addr().String()
	cfg := config{
		project: project, location: location, url: url, prefix: *prefix, page: *page, log: slog.New(slog.NewJSONHandler(log, nil)),
		keys: handoff.StaticKeys(tasks.JWKS()), options: tasks.ClientOptions(),
		traces: sdktrace.NewTracerProvider(), // an exporter takes the spans elsewhere; the log has their IDs
	}
	if *rediss != "" {
		rdb, err := recipes.OpenRedis(*rediss, *ca)
		if err != nil {
			return err
		}
		defer rdb.Close()
		cfg.rdb = rdb
	}
	s, err := newService(ctx, cfg)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/partner", partner())
	mux.Handle("/", s.handler)
	fmt.Fprintf(out, "the shop: %s, its dashboard: %s/ops/tasks/, Cloud Tasks: %s\n", url, url, tasks.GRPCAddr())
	ctx, stop := context.WithCancel(ctx)
	var day sync.WaitGroup
	defer day.Wait()
	defer stop()
	day.Go(func() {
		if err := trade(ctx, tasks, url, *thumbnails); err != nil {
			cfg.log.Error("service: the day was cut short", "error", err)
		}
	})
	return s.serve(ctx, listener, mux)
}
