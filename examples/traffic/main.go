// Traffic keeps an emulator busy with a synthetic load: several queues and
// kinds, and every outcome. Use it to see the dashboard at work:
//
//	go run ./cmd/handoff emulator --dashboard 127.0.0.1:8080
//	go run ./examples/traffic
//
// It runs until Ctrl-C. If the emulator is not at its default addresses, set
// CLOUD_TASKS_EMULATOR_HOST (gRPC) and -keys (HTTP). With REDIS_URL set for both
// programs the dashboard shows dead letters too.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/redisstore"
)

const (
	project  = "demo"
	location = "europe-west1"
	account  = "tasks@demo.iam.gserviceaccount.com"
)

// config has the addresses of everything.
type config struct {
	emulator string // host:port of its gRPC API
	keys     string // URL of the keys of its tokens
	redis    string // URL; empty: stores in memory
	listen   string // address of the worker; empty: a free port
}

func main() {
	c := config{
		emulator: cmp.Or(os.Getenv("CLOUD_TASKS_EMULATOR_HOST"), "127.0.0.1:8123"),
		redis:    os.Getenv("REDIS_URL"),
	}
	flag.StringVar(&c.keys, "keys", "http://127.0.0.1:8124/oauth2/v3/certs", "where the emulator's token keys are")
	flag.StringVar(&c.listen, "listen", "", "where the worker listens, for the dashboard to redrive to; defaults to a free port")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, c)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "traffic:", err)
		os.Exit(1)
	}
}

// run starts both sides: a worker on a free port and its producer.
func run(ctx context.Context, c config) error {
	options := []option.ClientOption{
		option.WithEndpoint(c.emulator),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
	if err := ensureQueues(ctx, options); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", cmp.Or(c.listen, "127.0.0.1:0"))
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	router, closeStores, err := newRouter(c, url)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer closeStores()
	e := echo.New()
	router.Mount(e.Group("/tasks"))
	e.POST("/hooks/:hook", hook)
	server := &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	defer serving.Wait()
	defer server.Close()

	client, err := handoff.NewClient(ctx, handoff.ClientConfig{
		Project: project, Location: location, Options: options,
		Target: handoff.HTTPTarget{URL: url + "/tasks", ServiceAccount: account},
	})
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Printf("traffic: a worker on %s, tasks on queues of projects/%s/locations/%s; Ctrl-C ends it\n", url, project, location)
	err = produce(ctx, client, url)

	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, router.Shutdown(end))
}

// ensureQueues makes queues with different limits.
func ensureQueues(ctx context.Context, options []option.ClientOption) error {
	a, err := admin.New(ctx, admin.Config{Project: project, Location: location, Options: options})
	if err != nil {
		return err
	}
	defer a.Close()
	for _, q := range []admin.QueueConfig{
		{ID: "emails", MaxDispatchesPerSecond: 50, MaxConcurrentDispatches: 20},
		{ID: "thumbnails", MaxDispatchesPerSecond: 500, MaxConcurrentDispatches: 4},
		{ID: "invoices", MaxDispatchesPerSecond: 4, MaxConcurrentDispatches: 2},
		{ID: "webhooks", MaxDispatchesPerSecond: 20, MaxAttempts: 3, MinBackoff: 2 * time.Second, MaxBackoff: 8 * time.Second},
		{ID: "reports", MaxDispatchesPerSecond: 1, MaxConcurrentDispatches: 1},
	} {
		if _, err := a.Queues().Ensure(ctx, q); err != nil {
			return fmt.Errorf("%w: is the emulator there? go run ./cmd/handoff emulator --dashboard 127.0.0.1:8080", err)
		}
	}
	_, err = a.Queues().Pause(ctx, "reports")
	return err
}

// newRouter returns the worker's router, with stores in Redis or in memory.
func newRouter(c config, url string) (router *handoff.Router, closeStores func(), err error) {
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{
		Audiences: []string{url},
		Callers:   []string{account},
		Keys:      handoff.RemoteKeys(c.keys),
	})
	if err != nil {
		return nil, nil, err
	}
	rc := handoff.RouterConfig{
		Verifier:    verifier,
		Store:       memstore.New(),
		DeadLetters: memstore.NewDeadLetters(),
		Logger:      slog.New(slog.DiscardHandler), // many of these tasks fail on purpose
	}
	closeStores = func() {}
	if c.redis != "" {
		options, err := redis.ParseURL(c.redis)
		if err != nil {
			return nil, nil, errors.New("REDIS_URL is not the URL of a Redis") // without err, which may quote a password
		}
		options.ContextTimeoutEnabled = true
		rdb := redis.NewClient(options)
		rc.Store, rc.DeadLetters = redisstore.New(rdb, nil), redisstore.NewDeadLetters(rdb, nil)
		closeStores = func() { _ = rdb.Close() }
	}
	router, err = handoff.NewRouter(rc)
	if err != nil {
		closeStores()
		return nil, nil, err
	}
	handle(router)
	return router, closeStores, nil
}
