package emulator

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/brillconsulting/handoff/emulator/internal/names"
	"github.com/brillconsulting/handoff/emulator/internal/service"
	"github.com/brillconsulting/handoff/internal/webguard"
)

// Defaults of the service (docs/cloud-tasks.md#6.6, #8.3, #8.9).
const (
	defaultTaskWindow  = 24 * time.Hour
	defaultQueueWindow = 7 * 24 * time.Hour
	defaultRetention   = 31 * 24 * time.Hour
	defaultHistory     = 1000
)

// Config configures a server. The zero Config is a server in memory that
// dispatches over the network, with the service's own limits and windows.
type Config struct {
	_ [0]func()

	// GRPCAddr and HTTPAddr are TCP addresses to serve on, such as
	// "127.0.0.1:8123", or "127.0.0.1:0" for a free port. Each serves both
	// gRPC and HTTP, which is the REST API and what else [Server.HTTPHandler]
	// has. Default to none: the API is reached in memory, through ClientOptions
	// and Conn.
	GRPCAddr string
	HTTPAddr string

	// Hosts are host names, besides those of this machine, that HTTP requests may
	// name the server by, such as "tasks.example.com". Requests that name it
	// otherwise are refused, since the browser of a developer can be made to send
	// them by a web page whose name was pointed at this machine (DNS rebinding).
	// IP addresses, localhost, *.localhost, *.local, *.internal and names of a
	// single label, as containers have them, need not be listed. Defaults to
	// none. The gRPC API, which no web page can speak, takes any name.
	Hosts []string

	// Handler receives every dispatch, in this process and without a socket,
	// whatever host the URL of the task names. It can also be set later, by
	// SetHandler. Defaults to none: dispatches go through Transport.
	Handler http.Handler

	// Transport carries the dispatches. Defaults to one for the network
	// that keeps connections open. Redirects are never followed.
	Transport http.RoundTripper

	// AppEngine has the addresses of App Engine services: base URLs
	// such as "http://localhost:8080" by SERVICE, SERVICE/VERSION or
	// SERVICE/VERSION/INSTANCE; the most specific one counts, and services without
	// one have that of "default". Not needed where a Handler or a
	// Transport takes every dispatch: theirs have the Host of the App Engine
	// service. Without either, dispatches of App Engine tasks fail; they never
	// leave for the real App Engine.
	AppEngine map[string]string

	// DefaultURL is where HTTP tasks go that are created with an empty URL, as
	// firebase-admin creates them where CLOUD_TASKS_EMULATOR_HOST is set.
	// {project}, {location} and {queue} in it stand for those of the task's
	// queue: the functions of the Firebase emulators are found at
	// "http://127.0.0.1:5001/{project}/{location}/{queue}". Defaults to none: an
	// empty URL is INVALID_ARGUMENT, as it is at the service.
	DefaultURL string

	// InsecureTargets accepts any certificate of a target, such as a worker's
	// own self-signed one. Defaults to the system's trust. It is about the
	// network: a Handler has no certificate, a Transport checks its own way.
	InsecureTargets bool

	// CreateMissingQueues creates the queue of a task where there is none,
	// with the service's default limits. The service does not, which is the
	// default: a queue that is missing in production is missed here.
	CreateMissingQueues bool

	// NoLimits lets queues have rates up to 1,000,000 dispatches a second and
	// any number of concurrent ones, for load tests. Defaults to the service's
	// limits: 500 and 5000 (https://cloud.google.com/tasks/docs/quotas).
	NoLimits bool

	// Strict refuses what only development needs and the service does not
	// take: tokens over http to this machine or its network, and gRPC calls
	// without the routing header x-goog-request-params, which Google's clients
	// send. Defaults to false.
	Strict bool

	// SigningKey signs the OIDC tokens of dispatches, RS256, and has at least
	// 2048 bits. Defaults to a key that all servers of the process share,
	// made when the first token is.
	SigningKey *rsa.PrivateKey

	// TaskWindow is how long the name of a task stays reserved after the
	// task is gone, in queues without a tombstone_ttl of their own. Defaults to
	// 24 h, the "up to" of the service; v2beta3 states 1 h. Negative: not at all.
	TaskWindow time.Duration

	// QueueWindow is how long the name of a queue stays reserved after the
	// queue was deleted. Defaults to 7 days, the longest that the service
	// states. Negative: not at all.
	QueueWindow time.Duration

	// Retention is the age at which a task is deleted, run or not, in queues
	// without a task_ttl of their own. Defaults to 31 days.
	Retention time.Duration

	// History is the number of ended tasks of each queue whose dispatches are
	// remembered for [Server.Dispatches]. Defaults to 1000. Negative: none.
	History int

	// Throttle slows a queue down when its targets respond with 429 or 503, as the
	// service does: the effective rate halves, and recovers, and Retry-After
	// is respected. How much exactly the service does is not known, so the
	// default is false.
	Throttle bool

	// Logger logs every dispatch and every API call: failed ones at level Info,
	// others at Debug, and panics of Handler at Error.
	// Tokens, headers and bodies are never logged. Defaults to silence.
	Logger *slog.Logger
}

// check reports everything that is wrong with cfg.
func (cfg *Config) check() error {
	var errs []error
	if cfg.Handler != nil && cfg.Transport != nil {
		errs = append(errs, errors.New("emulator: Config.Handler and Config.Transport are both set: dispatches can go one way only"))
	}
	if cfg.InsecureTargets && (cfg.Handler != nil || cfg.Transport != nil) {
		errs = append(errs, errors.New("emulator: Config.InsecureTargets is set beside Config.Handler or Config.Transport: it is about certificates, which neither asks for"))
	}
	for service, base := range cfg.AppEngine {
		if parts := strings.Split(service, "/"); len(parts) > 3 || slices.Contains(parts, "") {
			errs = append(errs, fmt.Errorf("emulator: Config.AppEngine[%q]: the key must be SERVICE, SERVICE/VERSION or SERVICE/VERSION/INSTANCE", service))
		}
		if u, err := url.Parse(base); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, fmt.Errorf("emulator: Config.AppEngine[%q] is %q: it must be a URL such as http://localhost:8080", service, base))
		}
	}
	for _, host := range cfg.Hosts {
		if err := webguard.CheckHostName(host); err != nil {
			errs = append(errs, fmt.Errorf("emulator: Config.Hosts has %q: %w", host, err))
		}
	}
	if err := checkDefaultURL(cfg.DefaultURL); err != nil {
		errs = append(errs, err)
	}
	if cfg.Retention < 0 {
		errs = append(errs, fmt.Errorf("emulator: Config.Retention is %v: it must be positive, or 0 for 31 days", cfg.Retention))
	}
	if k := cfg.SigningKey; k != nil && k.N.BitLen() < 2048 {
		errs = append(errs, fmt.Errorf("emulator: Config.SigningKey has %d bits: it must have 2048 or more", k.N.BitLen()))
	}
	return errors.Join(errs...)
}

func checkDefaultURL(template string) error {
	if template == "" {
		return nil
	}
	u, err := url.Parse(service.ExpandURL(template, names.Queue{Project: "p", Location: "l", ID: "q"}))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.ContainsAny(u.Path, "{}") {
		return fmt.Errorf("emulator: Config.DefaultURL is %q: it must be a URL such as http://localhost:8080/{queue}, with no variables but {project}, {location} and {queue}", template)
	}
	return nil
}

// complete fills in the defaults.
func (cfg *Config) complete() {
	cfg.AppEngine = maps.Clone(cfg.AppEngine)
	cfg.TaskWindow = orDefault(cfg.TaskWindow, defaultTaskWindow)
	cfg.QueueWindow = orDefault(cfg.QueueWindow, defaultQueueWindow)
	cfg.Retention = orDefault(cfg.Retention, defaultRetention)
	cfg.History = orDefault(cfg.History, defaultHistory)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
}

// orDefault returns def for zero, and zero for a negative number.
func orDefault[T time.Duration | int](v, def T) T {
	if v == 0 {
		return def
	}
	return max(v, 0)
}
