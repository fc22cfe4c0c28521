package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/middleware"
	"github.com/brillconsulting/handoff/redisstore"
	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
)

// worker is the service without its listener.
type worker struct {
	echo   *echo.Echo
	router *handoff.Router
	rdb    *redis.Client
}

func newWorker(cfg config, log *slog.Logger) (*worker, error) {
	verifier, err := newVerifier(cfg)
	if err != nil {
		return nil, err
	}
	observers, limit, err := newMiddleware(cfg, log)
	if err != nil {
		return nil, err
	}
	cfg.redis.ContextTimeoutEnabled = true
	rdb := redis.NewClient(cfg.redis)
	router, err := handoff.NewRouter(handoff.RouterConfig{
		Verifier:    verifier,
		Store:       redisstore.New(rdb, nil),
		DeadLetters: redisstore.NewDeadLetters(rdb, nil),
		Observers:   observers,
		Logger:      log,
		MaxRun:      290 * time.Second, // Cloud Run's default request timeout is 300 s
	})
	if err != nil {
		rdb.Close()
		return nil, err
	}
	router.Use(limit)
	handoff.Handle(router, resize)

	e := echo.New()
	e.GET("/ready", ready(rdb))
	e.GET("/alive", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
	router.Mount(e.Group("/tasks"))
	return &worker{e, router, rdb}, nil
}

// newMiddleware returns what watches deliveries, and what limits them.
func newMiddleware(cfg config, log *slog.Logger) ([]handoff.Observer, handoff.Middleware, error) {
	tracing, terr := middleware.Tracing(middleware.TracingConfig{})
	metrics, merr := middleware.Metrics(middleware.MetricsConfig{})
	logger, lerr := middleware.Logger(middleware.LoggerConfig{Logger: log, CloudProject: cfg.project})
	limit, cerr := middleware.Concurrency(middleware.ConcurrencyConfig{Limit: 8}) // as many as fit into the memory of one instance
	return []handoff.Observer{tracing, metrics, logger}, limit, errors.Join(terr, merr, lerr, cerr)
}

func newVerifier(cfg config) (handoff.Verifier, error) {
	verifier, err := handoff.NewOIDC(handoff.OIDCConfig{Audiences: cfg.audiences, Callers: cfg.callers, Keys: cfg.keys})
	if err != nil || !cfg.trustPlatform {
		return verifier, err
	}
	platform, err := handoff.DangerouslyTrustPlatform(handoff.OIDCConfig{Audiences: cfg.audiences, Callers: cfg.callers})
	if err != nil {
		return nil, err
	}
	return handoff.AnyOf(verifier, platform), nil
}

// ready is the startup probe: an instance that cannot reach Redis receives no
// deliveries. Do not use it as the liveness probe: a new process could not reach
// Redis either. Its path is not /healthz, because Cloud Run reserves some paths
// that end in z.
func ready(rdb *redis.Client) echo.HandlerFunc {
	return func(c echo.Context) error {
		ctx, cancel := context.WithTimeout(c.Request().Context(), time.Second)
		defer cancel()
		if err := rdb.Ping(ctx).Err(); err != nil {
			return echo.NewHTTPError(http.StatusServiceUnavailable).SetInternal(err)
		}
		return c.NoContent(http.StatusOK)
	}
}

// Resize is the payload. Move it to a package of its own if the producer is
// another program.
type Resize struct {
	Image string `json:"image"`
	Width int    `json:"width"`
}

// Kind implements handoff.Payload.
func (Resize) Kind() string { return "resize" }

// Policy sets its queue, TTL and retries.
func (Resize) Policy() handoff.Policy {
	return handoff.Policy{Queue: "images", TTL: 6 * time.Hour, Deadline: 5 * time.Minute}
}

// resize simulates work that takes a while. It returns when its context ends, so
// that a shutdown can interrupt it and another instance can run it again.
func resize(ctx context.Context, r Resize) error {
	select {
	case <-time.After(time.Duration(r.Width) * time.Millisecond / 2):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
