package dashboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/sqlstore"
)

// Config configures a [Dashboard]. Source is required, and one of Authorize
// and Loopback.
type Config struct {
	_ [0]func()

	// Source is where queues and tasks are found.
	Source Source

	// DeadLetters is where dead letters are kept. Defaults to none: the page
	// says that it knows of no store.
	DeadLetters handoff.DeadLetterStore

	// Outbox is where tasks wait that were enqueued in a transaction, such as a
	// [sqlstore.Outbox]. Defaults to none: there is no page of it.
	Outbox Outbox

	// Client redrives dead letters, to its own Target. Defaults to none: they
	// can be read and deleted.
	Client *handoff.Client

	// Prefix is the path that the dashboard is mounted under, such as
	// "/ops/tasks". Requests must arrive with it. Defaults to none: the root.
	Prefix string

	// Authorize decides who is let in. It returns nil for a request that is
	// allowed. Any other error makes the response 403, or 401 if the error is
	// or wraps a [Challenge]. The error is logged, at most one a second, and
	// never sent. GET and HEAD read, POST changes something. Authorize is
	// called for every request, assets included, and again whenever a page
	// that is being watched reconnects, at least every five minutes. To send
	// strangers to a login page, wrap the Dashboard in a handler that does.
	Authorize func(r *http.Request) error

	// Loopback stands in for Authorize on a developer's machine: whoever can
	// connect from this machine is allowed, and nobody else. The response is
	// 403 to requests that came to or from another address, that a proxy passed
	// on, or whose Host is neither an IP address nor a local name (localhost,
	// *.localhost, *.local, *.internal, a name without a dot), as that of a page
	// whose name was pointed at this machine is. It must be served by an
	// [http.Server], which knows the addresses.
	Loopback bool

	// ReadOnly leaves every change out, and refuses them.
	ReadOnly bool

	// Logger is told of every change at Info, of refused requests at Warn, of
	// failures at Error. Payloads are never logged. Defaults to [slog.Default].
	Logger *slog.Logger
}

func (c *Config) check() error {
	var errs []error
	if c.Source == nil {
		errs = append(errs, errors.New("dashboard: Config.Source is nil; NewAdminSource makes one"))
	}
	if c.Authorize == nil && !c.Loopback {
		errs = append(errs, errors.New("dashboard: Config.Authorize is nil: anybody could purge your queues; set it, or Loopback for a dashboard that answers this machine alone"))
	}
	if c.Authorize != nil && c.Loopback {
		errs = append(errs, errors.New("dashboard: Config.Authorize and Loopback are both set; set one"))
	}
	if p := c.Prefix; p != "" && (!strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") || strings.ContainsAny(p, "{}?#% ") || strings.Contains(p, "//")) {
		errs = append(errs, fmt.Errorf(`dashboard: Config.Prefix is %q; it must be a plain path such as "/ops/tasks", or empty for the root`, p))
	}
	if c.Client != nil && c.DeadLetters == nil {
		errs = append(errs, errors.New("dashboard: Config.Client is set and DeadLetters is not; set both to redrive dead letters"))
	}
	return errors.Join(errs...)
}

// Dashboard is the handler that serves it. It is safe for concurrent use.
type Dashboard struct {
	config  Config
	source  Source
	watcher Observer // nil if the source has not seen the dispatches
	log     *slog.Logger
	sparse  *sparseLog
	guard   guard
	handler http.Handler

	ctx     context.Context // of redrives under way and of pages being watched
	stop    context.CancelFunc
	work    sync.WaitGroup
	streams chan struct{} // a place for each page being watched
	redrive redrives
	dead    memo[[]count] // for the start page, which everybody watches
	waiting memo[[]sqlstore.QueueStats]
}

// New checks the whole configuration and returns every problem at once. Call
// Close when done.
func New(config Config) (*Dashboard, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	d := &Dashboard{
		config:  config,
		source:  config.Source,
		log:     config.Logger,
		streams: make(chan struct{}, mostStreams),
		dead:    memo[[]count]{ttl: deadCountAge},
		waiting: memo[[]sqlstore.QueueStats]{ttl: outboxStatsAge},
	}
	d.sparse = newSparseLog(d.log)
	d.guard = newGuard(&d.config, d.sparse)
	d.watcher, _ = config.Source.(Observer)
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.handler = d.guard.protect(d.mount(d.routes()))
	return d, nil
}

// ServeHTTP implements [http.Handler].
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.handler.ServeHTTP(w, r) }

// mount serves routes below the prefix.
func (d *Dashboard) mount(routes http.Handler) http.Handler {
	prefix := d.config.Prefix
	if prefix == "" {
		return routes
	}
	mux := http.NewServeMux()
	mux.Handle(prefix, http.RedirectHandler(prefix+"/", http.StatusMovedPermanently))
	mux.Handle(prefix+"/", http.StripPrefix(prefix, routes))
	return mux
}

// Close ends the pages being watched and a redrive under way, after the letters
// it has in hand. Call it before http.Server.Shutdown, which would wait for
// those pages. The Source, the store and the client stay open.
func (d *Dashboard) Close() {
	d.stop()
	d.work.Wait()
}

func (d *Dashboard) routes() http.Handler {
	mux := http.NewServeMux()
	const queue, task = "/queues/{project}/{location}/{queue}", "/queues/{project}/{location}/{queue}/tasks/{task}"
	mux.Handle("GET /assets/{file}", http.HandlerFunc(serveAsset))
	mux.Handle("GET /{$}", d.page(d.showQueues))
	mux.Handle("GET "+queue, d.page(d.showQueue))
	mux.Handle("GET "+queue+"/purge", d.page(d.askPurge))
	mux.Handle("GET "+task, d.page(d.showTask))
	mux.Handle("GET "+task+"/delete", d.page(d.askDelete))
	mux.Handle("GET /dead", d.page(d.showLetters))
	mux.Handle("GET /dead/letter", d.page(d.showLetter))
	mux.Handle("GET /dead/redrive", d.page(d.askRedrive))
	mux.Handle("GET /dead/delete", d.page(d.askDeleteLetters))
	mux.Handle("GET /dead/progress", d.page(d.showRedrive))
	mux.Handle("GET /outbox", d.page(d.showOutbox))
	mux.Handle("GET /outbox/drop", d.page(d.askDrop))

	mux.Handle("POST "+queue+"/pause", d.change(d.pause))
	mux.Handle("POST "+queue+"/resume", d.change(d.resume))
	mux.Handle("POST "+queue+"/purge", d.change(d.purge))
	mux.Handle("POST "+task+"/run", d.change(d.runTask))
	mux.Handle("POST "+task+"/delete", d.change(d.deleteTask))
	mux.Handle("POST /dead/letter/redrive", d.change(d.redriveLetter))
	mux.Handle("POST /dead/letter/delete", d.change(d.deleteLetter))
	mux.Handle("POST /dead/redrive", d.change(d.redriveMany))
	mux.Handle("POST /dead/delete", d.change(d.deleteMany))
	mux.Handle("POST /dead/redrive/stop", d.change(d.stopRedrive))
	mux.Handle("POST /outbox/retry", d.change(d.retryRow))
	mux.Handle("POST /outbox/drop", d.change(d.dropRow))
	mux.Handle("/", d.page(func(*http.Request) (view, error) { return view{}, errNoPage }))
	return mux
}
