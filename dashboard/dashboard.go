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

// Config configures a [Dashboard]. Source is required, and so is either
// Authorize or Loopback.
type Config struct {
	_ [0]func()

	// Source provides the queues and tasks.
	Source Source

	// DeadLetters is the store of dead letters. Defaults to none; the page then
	// says so.
	DeadLetters handoff.DeadLetterStore

	// Store is the Store of the workers. With it, the page of a task shows the steps
	// of its work (package steps): those that finished, the one that runs, and, with
	// the payload, its position. Tasks that handoff did not enqueue have none there.
	// Defaults to none; no steps are shown then.
	Store handoff.KeyStore

	// Outbox has the tasks that were enqueued in a transaction and wait to be
	// sent, such as a [sqlstore.Outbox]. Defaults to none; the dashboard then has
	// no page for it.
	Outbox Outbox

	// Client redrives dead letters, to its own Target. Defaults to none; letters
	// can then be read and deleted, but not redriven.
	Client *handoff.Client

	// Prefix is the path that the dashboard is mounted under, such as
	// "/ops/tasks". Requests must arrive with it. Defaults to none: the root.
	Prefix string

	// Authorize decides whether a request is allowed, and returns nil if it is.
	// After an error the response is 403, or 401 if the error is or wraps a
	// [Challenge]. The error is logged, at most once a second, and never sent.
	// GET and HEAD read; POST changes something. Authorize is called for every
	// request, also for assets. An open page reconnects at least every five
	// minutes, and Authorize is called again. To redirect to a login page, wrap
	// the Dashboard in a handler that does.
	Authorize func(r *http.Request) error

	// Loopback replaces Authorize on a developer's machine. It allows requests
	// from this machine only. The response is 403 if the request came to or from
	// another address, if a proxy forwarded it, or if its Host is neither an IP
	// address nor a local name (localhost, *.localhost, *.local, *.internal, a
	// name without a dot). The check of Host stops DNS rebinding, by which a web
	// page's name is made to resolve to this machine. The Dashboard must be served by an
	// [http.Server], which knows the addresses.
	Loopback bool

	// ReadOnly hides every button that changes something and refuses every POST.
	ReadOnly bool

	// Logger logs every change at Info, refused requests at Warn and failures at
	// Error. Payloads are never logged. Defaults to [slog.Default].
	Logger *slog.Logger
}

func (c *Config) check() error {
	var errs []error
	if c.Source == nil {
		errs = append(errs, errors.New("dashboard: Config.Source is nil; NewAdminSource makes one"))
	}
	if c.Authorize == nil && !c.Loopback {
		errs = append(errs, errors.New("dashboard: Config.Authorize is nil: anybody could purge your queues; set it, or Loopback to allow requests from this machine only"))
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

// Dashboard is the [http.Handler] of the pages. It is safe for concurrent use.
type Dashboard struct {
	config  Config
	source  Source
	watcher Observer // the source, if it is an Observer; otherwise nil
	log     *slog.Logger
	sparse  *sparseLog
	guard   guard
	handler http.Handler

	ctx     context.Context // of running redrives and open pages
	stop    context.CancelFunc
	work    sync.WaitGroup
	streams chan struct{} // has one element for each open page
	redrive redrives
	dead    memo[[]count] // for the start page, which many have open
	waiting memo[[]sqlstore.QueueStats]
}

// New returns a Dashboard. The error reports every problem of config. Call Close
// when done.
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
		streams: make(chan struct{}, maxStreams),
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

// mount registers the routes below the prefix.
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

// Close closes the streams of open pages and stops a running redrive or deletion
// after the letters that it is working on. Call it before http.Server.Shutdown,
// which would wait for those streams. It does not close the Source, the store or
// the client.
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
