package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ServeConfig is the configuration of [Serve]. Router is required.
type ServeConfig struct {
	_ [0]func()

	// Router handles the deliveries. Serve shuts it down before it returns.
	Router *Router

	// Handler serves the requests, such as an [http.ServeMux] or an echo
	// instance. The Router must be mounted in it. Defaults to the Router itself.
	Handler http.Handler

	// Listener accepts the connections. Serve closes it. Defaults to TCP at
	// Addr.
	Listener net.Listener

	// Addr is the TCP address to listen at, such as ":8080". Defaults to the
	// port in the environment variable PORT, which Cloud Run sets, or else to
	// ":8080".
	Addr string

	// Ready holds the readiness checks, by the name of what they check. Each
	// request of /ready calls all of them concurrently, so they must be safe for
	// concurrent use. Their context ends after 2 s; a check that returns later
	// has failed. Defaults to none.
	Ready map[string]func(ctx context.Context) error

	// Drain is how long running tasks may go on after the signal. Then the
	// router interrupts them and waits up to 1.5 s more. Defaults to 6 s, which
	// fits the 10 s of Cloud Run
	// (https://cloud.google.com/run/docs/container-contract#instance-shutdown).
	Drain time.Duration
}

const (
	defaultDrain  = 6 * time.Second
	respondTime   = time.Second // for responses after the drain
	readyTimeout  = 2 * time.Second
	headerTimeout = 10 * time.Second
)

// Serve serves a worker until ctx ends or the process gets SIGTERM or an interrupt.
// It then refuses new deliveries while running ones go on, waits for them as
// [Router.Shutdown] does, and closes the server. A second signal ends the process
// at once. Close clients, and flush telemetry, after Serve returns.
//
// Besides config.Handler it serves GET and HEAD of two paths:
//
//   - /healthz responds 200 while the server runs;
//   - /ready responds 200 if every check of config.Ready returns nil, and otherwise
//     503 with the names of the checks that failed. It responds 503 once shutdown begins.
//     The errors are logged by the router's logger, once a second for each check, and
//     are not in the response.
//
// Serve returns nil after a clean end. It returns an error for a bad config, if it
// cannot listen or serve, or if handlers still run after the drain.
func Serve(ctx context.Context, config ServeConfig) error {
	if err := config.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener := config.Listener
	if listener == nil {
		var err error
		if listener, err = new(net.ListenConfig).Listen(ctx, "tcp", config.addr()); err != nil {
			return fmt.Errorf("handoff: serve: %w", err)
		}
	}
	s := &service{config: config, log: config.Router.log, failed: refusals{last: make(map[Reason]refusal)}}
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: headerTimeout, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	s.log.Info("handoff: serving", "address", listener.Addr().String())

	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("handoff: serve: %w", err)
	case <-ctx.Done():
		s.log.Info("handoff: shutting down")
	}
	stop() // the next signal ends the process
	s.ending.Store(true)
	return errors.Join(err, s.shutdown(context.WithoutCancel(ctx), server))
}

func (c *ServeConfig) check() error {
	var errs []error
	if c.Router == nil {
		errs = append(errs, errors.New("handoff: ServeConfig.Router is nil"))
	}
	if c.Drain < 0 {
		errs = append(errs, fmt.Errorf("handoff: ServeConfig.Drain is %s; it must be positive, or zero for %s", c.Drain, defaultDrain))
	}
	if c.Listener != nil && c.Addr != "" {
		errs = append(errs, errors.New("handoff: ServeConfig.Listener and Addr are both set; remove one"))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Ready)) {
		if c.Ready[name] == nil {
			errs = append(errs, fmt.Errorf("handoff: ServeConfig.Ready[%q] is nil", name))
		}
	}
	return errors.Join(errs...)
}

func (c *ServeConfig) addr() string {
	return cmp.Or(c.Addr, ":"+cmp.Or(os.Getenv("PORT"), "8080"))
}

// service is a running Serve.
type service struct {
	config ServeConfig
	log    *slog.Logger
	failed refusals // of checks, by their names: anyone may ask
	ending atomic.Bool
}

func (s *service) handler() http.Handler {
	next := s.config.Handler
	if next == nil {
		next = s.config.Router
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asks := r.Method == http.MethodGet || r.Method == http.MethodHead // a task of a kind named ready is a POST
		switch {
		case asks && r.URL.Path == "/healthz":
			w.WriteHeader(http.StatusOK)
		case asks && r.URL.Path == "/ready":
			s.serveReady(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (s *service) serveReady(w http.ResponseWriter, r *http.Request) {
	missing := s.unready(r.Context())
	if s.ending.Load() {
		missing = []string{"shutting down"}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(missing) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintf(w, "not ready: %s\n", strings.Join(missing, ", "))
		return
	}
	_, _ = fmt.Fprintln(w, "ready")
}

// unready returns the names of the checks that fail.
func (s *service) unready(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var mu sync.Mutex
	var missing []string
	var checks sync.WaitGroup
	for name, check := range s.config.Ready {
		checks.Go(func() {
			err := errors.New("the check called runtime.Goexit")
			defer func() {
				if err == nil {
					return
				}
				if hidden, due := s.failed.due(Reason(name)); due {
					s.log.WarnContext(ctx, "handoff: not ready", "check", name, "error", err, "unlogged", hidden)
				}
				mu.Lock()
				defer mu.Unlock()
				missing = append(missing, name)
			}()
			err = cmp.Or(guard("ServeConfig.Ready", func() error { return check(ctx) }), ctx.Err())
		})
	}
	checks.Wait()
	slices.Sort(missing)
	return missing
}

// shutdown drains the router while the server still serves, so that the running
// deliveries can respond and new ones are refused, and then ends the server.
func (s *service) shutdown(ctx context.Context, server *http.Server) error {
	drain, cancel := context.WithTimeout(ctx, cmp.Or(s.config.Drain, defaultDrain))
	defer cancel()
	err := s.config.Router.Shutdown(drain)
	respond, cancel := context.WithTimeout(ctx, respondTime)
	defer cancel()
	if serr := server.Shutdown(respond); serr != nil {
		return errors.Join(err, server.Close()) // idle or hanging connections
	}
	return err
}
