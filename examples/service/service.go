package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/memstore"
	"github.com/brillconsulting/handoff/middleware"
	"github.com/brillconsulting/handoff/redisstore"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/api/option"
)

// The accounts whose tokens are accepted: that of our own tasks, and the CRM's.
const (
	ownAccount = "tasks@acme-shop.iam.gserviceaccount.com"
	crmAccount = "tasks@acme-crm.iam.gserviceaccount.com"
)

// config is what differs between environments.
type config struct {
	project, location string
	url               string                    // of this service; its tasks have it as audience
	rdb               redis.UniversalClient     // nil: memory, for a single process
	prefix            string                    // of this environment's keys in Redis
	keys              *handoff.KeySource        // nil: Google's
	options           []option.ClientOption     // nil: Cloud Tasks
	authorize         func(*http.Request) error // who sees the dashboard; nil: this machine alone
	traces            trace.TracerProvider      // nil: OpenTelemetry's global one
	page              time.Duration             // how long a page of an export takes
	log               *slog.Logger
}

// service is the shop without its listener.
type service struct {
	*shop
	router  *handoff.Router
	admin   *admin.Admin
	board   *dashboard.Dashboard
	rdb     redis.UniversalClient // nil: memory
	handler http.Handler
}

func newService(ctx context.Context, cfg config) (*service, error) {
	registry := prometheus.NewRegistry()
	enqueues, observers, err := telemetry(cfg, registry)
	if err != nil {
		return nil, err
	}
	client, cerr := handoff.NewClient(ctx, handoff.ClientConfig{
		Project: cfg.project, Location: cfg.location, Options: cfg.options, Instrument: enqueues,
		Target: handoff.HTTPTarget{URL: cfg.url + "/tasks", ServiceAccount: ownAccount},
	})
	verifier, verr := handoff.NewOIDC(handoff.OIDCConfig{Audiences: []string{cfg.url}, Callers: []string{ownAccount, crmAccount}, Keys: cfg.keys})
	if err := errors.Join(cerr, verr); err != nil {
		return nil, err
	}
	store, letters := cfg.stores()
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier: verifier, Store: store, DeadLetters: letters, Client: client, Observers: observers, Logger: cfg.log,
		ForeignMaxAttempts: 5, // of the CRM's tasks, which are dead letters then
	})
	if err != nil {
		return nil, err
	}
	s := &service{shop: newShop(client, cfg.page), router: router, rdb: cfg.rdb}
	if err := s.operate(ctx, cfg, letters); err != nil {
		return nil, err
	}
	contacts := s.register(router, handoff.From(ownAccount), handoff.From(crmAccount))
	s.handler = s.routes(contacts, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return s, s.schedule(ctx, time.Now())
}

func newShop(client *handoff.Client, page time.Duration) *shop {
	b := &books{entries: make(map[string][]string), tokens: make(map[string]int64)}
	return &shop{client: client, books: b, http: &http.Client{Timeout: 30 * time.Second}, page: page}
}

func (cfg config) stores() (handoff.Store, handoff.DeadLetterStore) {
	if cfg.rdb == nil {
		return memstore.New(), memstore.NewDeadLetters()
	}
	return redisstore.New(cfg.rdb, &redisstore.Options{Prefix: cfg.prefix}),
		redisstore.NewDeadLetters(cfg.rdb, &redisstore.DeadLetterOptions{Prefix: cfg.prefix})
}

// telemetry returns what watches the enqueues, and what watches the deliveries.
// Tracing comes first: it gives the others the trace.
func telemetry(cfg config, registry *prometheus.Registry) (middleware.InstrumentFunc, []handoff.Observer, error) {
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	if err != nil {
		return nil, nil, err
	}
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	enqueues, ierr := middleware.Instrument(middleware.InstrumentConfig{TracerProvider: cfg.traces, MeterProvider: meters})
	tracing, terr := middleware.Tracing(middleware.TracingConfig{TracerProvider: cfg.traces})
	metrics, merr := middleware.Metrics(middleware.MetricsConfig{MeterProvider: meters})
	logger, lerr := middleware.Logger(middleware.LoggerConfig{Logger: cfg.log, CloudProject: cfg.project})
	return enqueues, []handoff.Observer{tracing, metrics, logger}, errors.Join(ierr, terr, merr, lerr)
}

//go:embed queues.yaml
var queuesFile []byte

// operate makes the queues as the file has them, and the dashboard.
func (s *service) operate(ctx context.Context, cfg config, letters handoff.DeadLetterStore) (err error) {
	s.admin, err = admin.New(ctx, admin.Config{Project: cfg.project, Location: cfg.location, Options: cfg.options})
	if err != nil {
		return err
	}
	queues, err := admin.Load(bytes.NewReader(queuesFile))
	if err != nil {
		return err
	}
	if _, err := s.admin.Queues().EnsureAll(ctx, queues); err != nil {
		return err
	}
	source, err := dashboard.NewAdminSource(dashboard.AdminSourceConfig{Admin: s.admin})
	if err != nil {
		return err
	}
	s.board, err = dashboard.New(dashboard.Config{
		Source: source, DeadLetters: letters, Client: s.client, Prefix: "/ops/tasks", Logger: cfg.log,
		Authorize: cfg.authorize, Loopback: cfg.authorize == nil,
	})
	return err
}

// routes are the pages of the service. Our tasks arrive below /tasks, the CRM's below
// /crm.
func (s *service) routes(contacts, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/tasks/", s.router)
	mux.Handle("PUT /crm/contacts/{id}", contacts)
	mux.HandleFunc("POST /orders", s.takeOrder)
	mux.HandleFunc("POST /thumbnails", s.takeThumbnails)
	mux.Handle("POST /webhooks", take[Webhook](s.client))
	mux.Handle("POST /exports", take[Export](s.client))
	mux.Handle("/ops/tasks/", s.board)
	mux.Handle("GET /metrics", metrics)
	return mux
}

// serve serves until ctx ends or the process is told to end, and then lets running
// tasks finish within the ten seconds that Cloud Run allows. An instance that cannot
// reach Redis is not ready, and gets no requests.
func (s *service) serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	needs := make(map[string]func(context.Context) error)
	if s.rdb != nil {
		needs["Redis"] = func(ctx context.Context) error { return s.rdb.Ping(ctx).Err() }
	}
	err := handoff.Serve(ctx, handoff.ServeConfig{Router: s.router, Handler: handler, Listener: listener, Ready: needs})
	s.board.Close()
	return errors.Join(err, s.client.Close(), s.admin.Close())
}
