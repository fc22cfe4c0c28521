package admin

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
)

// QueueConfig is what a queue should be. Everything but ID has a default, and
// the default is as binding as a value: ensuring a queue puts a setting that
// was changed elsewhere back. TaskTTL and TombstoneTTL alone are left as they
// are unless they are set.
type QueueConfig struct {
	_ [0]func()

	// ID is the name of the queue: 1 to 100 letters, digits and hyphens.
	ID string

	// MaxDispatchesPerSecond is the rate at which tasks are dispatched, first
	// attempts and retries alike, over 0 and up to 500; fractions are fine.
	// Defaults to 100. Pause a queue to stop it.
	MaxDispatchesPerSecond float64

	// MaxConcurrentDispatches is how many dispatches may be waiting for their
	// response at a time, 1 to 5000. Defaults to 500.
	MaxConcurrentDispatches int

	// MaxAttempts is how often a task is dispatched before the service deletes
	// it, the first included, or [handoff.Unlimited]. Defaults to 5.
	//
	// It is for tasks that another than a [handoff.Router] handles. Tasks of
	// [handoff.Client.Enqueue] carry a retry policy of their own, which wins
	// over this one; their attempts are counted by the router, which keeps
	// what is given up.
	MaxAttempts int

	// MinBackoff, MaxBackoff and MaxDoublings are the pace of retries, in the
	// terms of [handoff.Retry] and with its defaults: 1 s, 1 h and 16. A queue
	// has at least one doubling, so [handoff.NoDoublings] is an error: the API
	// takes 0 for a field that is not set. Backoffs of a second and more must be
	// whole seconds, since the service cuts off the rest
	// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues#RetryConfig).
	MinBackoff   time.Duration
	MaxBackoff   time.Duration
	MaxDoublings int

	// MaxRetryDuration keeps tasks being retried for that long after their
	// first attempt, in whole seconds. A task is given up when this and
	// MaxAttempts are both used up, so MaxAttempts alone is no limit beside it
	// (https://cloud.google.com/tasks/docs/configuring-queues). Defaults to no
	// such duration.
	MaxRetryDuration time.Duration

	// TaskTTL is the age at which the service deletes a task, run or not: 10
	// days (240h) to 10 years, in whole seconds. Zero leaves it as it is; a new
	// queue has 31 days. For anything shorter, such as the 24 h after which a
	// task is not worth running, there is [handoff.Policy].TTL, which the
	// router observes. This setting goes through v2beta3.
	TaskTTL time.Duration

	// TombstoneTTL is how long the name of a task stays taken once the task is
	// gone: 1 hour to 9 days, in whole seconds. Zero leaves it as it is; on a
	// new queue that is 1 to 24 hours: Google's pages differ
	// (https://cloud.google.com/tasks/docs/quotas). This setting goes through
	// v2beta3.
	TombstoneTTL time.Duration

	// LoggingSample is the share of operations that are logged to Cloud
	// Logging, 0 to 1. Defaults to 0, none.
	LoggingSample float64

	// HTTPTarget overrides where and how the HTTP tasks of the queue are
	// delivered, also those already in it. Defaults to no override.
	HTTPTarget *HTTPOverride

	// AppEngine overrides the routing of the App Engine tasks of the queue.
	// Defaults to no override.
	AppEngine *AppEngineRouting
}

// HTTPOverride replaces parts of every HTTP task of a queue. A change may take a
// minute to apply; to be sure which tasks it applies to, pause the queue, change
// it, wait a minute, resume it
// (https://cloud.google.com/tasks/docs/configuring-queues).
type HTTPOverride struct {
	_ [0]func()

	// Scheme ("http" or "https"), Host (a name without a port) and Port
	// replace theirs of the task's URL. Default to the task's.
	Scheme, Host string
	Port         int

	// Path (with its leading slash) and Query (without its question mark)
	// replace the task's; one that is empty, but not nil, removes it. Default
	// to the task's.
	Path, Query *string

	// IfNotExists limits the five above to tasks that lack the part. Defaults
	// to overriding every task.
	IfNotExists bool

	// Method replaces the task's HTTP method. Defaults to the task's.
	Method string

	// Headers replace the task's headers of the same names, or are added.
	Headers map[string]string

	// ServiceAccount replaces the task's token by one of this account: an OIDC
	// token for Audience or an OAuth token for Scope. Exactly one of the two
	// must be given with it. Default to the task's.
	ServiceAccount, Audience, Scope string
}

// AppEngineRouting names a part of an App Engine app. At least one field must
// be set; those that are not are the app's own choice. Instance needs manual
// scaling.
type AppEngineRouting struct {
	_ [0]func()

	Service, Version, Instance string
}

// Limits and defaults of queues (docs/cloud-tasks.md#5.1, #6.2).
const (
	maxRate         = 500
	maxConcurrent   = 5000
	minTaskTTL      = 10 * 24 * time.Hour
	maxTaskTTL      = 10 * 365 * 24 * time.Hour
	minTombstoneTTL = time.Hour
	maxTombstoneTTL = 9 * 24 * time.Hour

	defaultRate         = 100
	defaultConcurrent   = 500
	defaultMaxAttempts  = 5
	defaultMinBackoff   = time.Second
	defaultMaxBackoff   = time.Hour
	defaultMaxDoublings = 16
)

// resolve returns a copy of c with the defaults filled in.
func resolve(c QueueConfig) QueueConfig {
	c.MaxDispatchesPerSecond = cmp.Or(c.MaxDispatchesPerSecond, defaultRate)
	c.MaxConcurrentDispatches = cmp.Or(c.MaxConcurrentDispatches, defaultConcurrent)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, defaultMaxAttempts)
	c.MinBackoff = cmp.Or(c.MinBackoff, defaultMinBackoff)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, defaultMaxBackoff)
	c.MaxDoublings = cmp.Or(c.MaxDoublings, defaultMaxDoublings)
	return c
}

// beta says whether the configuration has what only v2beta3 has.
func (c *QueueConfig) beta() bool { return c.TaskTTL != 0 || c.TombstoneTTL != 0 }

func (o *HTTPOverride) overridesURI() bool {
	return o.Scheme != "" || o.Host != "" || o.Port != 0 || o.Path != nil || o.Query != nil
}

func (o *HTTPOverride) empty() bool {
	return !o.overridesURI() && o.Method == "" && len(o.Headers) == 0 && o.ServiceAccount == ""
}

// String shows everything but the values of headers, which may be credentials.
func (o *HTTPOverride) String() string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+": "+value)
		}
	}
	add("scheme", o.Scheme)
	add("host", o.Host)
	if o.Port != 0 {
		add("port", text(o.Port))
	}
	if o.Path != nil {
		add("path", text(*o.Path))
	}
	if o.Query != nil {
		add("query", text(*o.Query))
	}
	if o.IfNotExists {
		add("if_not_exists", "true")
	}
	add("method", o.Method)
	add("headers", strings.Join(slices.Sorted(maps.Keys(o.Headers)), ", "))
	add("service_account", o.ServiceAccount)
	add("audience", o.Audience)
	add("scope", o.Scope)
	return "{" + strings.Join(parts, ", ") + "}"
}

// String shows what is set.
func (r *AppEngineRouting) String() string {
	var parts []string
	for _, p := range []struct{ name, value string }{
		{"service", r.Service}, {"version", r.Version}, {"instance", r.Instance},
	} {
		if p.value != "" {
			parts = append(parts, p.name+": "+p.value)
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// QueuesOf lists the queues that the policies of payloads name, each once and
// in order, with default settings to be changed or ensured as they are:
//
//	changes, err := a.Queues().EnsureAll(ctx, admin.QueuesOf(WelcomeEmail{}, Invoice{}))
//
// A payload whose policy names no queue adds none: it goes to the queue of
// [handoff.ClientConfig].Policy or of [handoff.OnQueue], neither of which is
// known here.
func QueuesOf(payloads ...handoff.Payload) []QueueConfig {
	var configs []QueueConfig
	known := make(map[string]bool)
	for _, p := range payloads {
		with, ok := p.(interface{ Policy() handoff.Policy })
		if !ok {
			continue
		}
		if id := with.Policy().Queue; id != "" && !known[id] {
			known[id] = true
			configs = append(configs, QueueConfig{ID: id})
		}
	}
	return configs
}
