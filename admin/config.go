package admin

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
)

// QueueConfig is the configuration of a queue. Every field but ID has a default,
// and a default counts as a value: ensuring a queue resets a setting that was
// changed elsewhere. Only TaskTTL and TombstoneTTL are left unchanged if they
// are zero.
type QueueConfig struct {
	_ [0]func()

	// ID is the name of the queue: 1 to 100 letters, digits and hyphens.
	ID string

	// MaxDispatchesPerSecond is the rate at which tasks are dispatched, first
	// attempts and retries alike, over 0 and up to 500; it may be a fraction.
	// Defaults to 100. To stop a queue, pause it.
	MaxDispatchesPerSecond float64

	// MaxConcurrentDispatches is the number of dispatches that may wait for their
	// response at the same time, 1 to 5000. Defaults to 500.
	MaxConcurrentDispatches int

	// MaxAttempts is how often a task is dispatched before the service deletes
	// it, the first included, or [handoff.Unlimited]. Defaults to 5.
	//
	// It is for tasks that no [handoff.Router] handles. Tasks of
	// [handoff.Client.Enqueue] carry their own retry policy, which overrides this
	// one; the router counts their attempts and keeps those that are exhausted.
	MaxAttempts int

	// MinBackoff, MaxBackoff and MaxDoublings are the backoff of retries, as in
	// [handoff.Retry]. They default to 1 s, 1 h and 16. [handoff.NoDoublings] is an
	// error, because the API reads 0 as a field that is not set. Backoffs of a
	// second and more must be whole seconds, since the service truncates them
	// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues#RetryConfig).
	MinBackoff   time.Duration
	MaxBackoff   time.Duration
	MaxDoublings int

	// MaxRetryDuration is how long tasks are retried after their first attempt, in
	// whole seconds. The service gives a task up when both this and MaxAttempts are
	// exceeded, so with it MaxAttempts alone is no limit
	// (https://cloud.google.com/tasks/docs/configuring-queues). Defaults to no
	// duration.
	MaxRetryDuration time.Duration

	// TaskTTL is the age at which the service deletes a task, whether it ran or
	// not: 10 days (240h) to 10 years, in whole seconds. Zero leaves it unchanged;
	// a new queue has 31 days. For a shorter time use [handoff.Policy].TTL, which
	// the router enforces. This setting uses v2beta3.
	TaskTTL time.Duration

	// TombstoneTTL is how long the name of a task stays reserved after the task is
	// gone: 1 hour to 9 days, in whole seconds. Zero leaves it unchanged; a new
	// queue has 1 to 24 hours: Google's pages differ
	// (https://cloud.google.com/tasks/docs/quotas). This setting uses v2beta3.
	TombstoneTTL time.Duration

	// LoggingSample is the fraction of operations that are logged to Cloud Logging,
	// 0 to 1. Defaults to 0.
	LoggingSample float64

	// HTTPTarget overrides the target of the queue's HTTP tasks, including those
	// already in it. Defaults to no override.
	HTTPTarget *HTTPOverride

	// AppEngine overrides the routing of the App Engine tasks of the queue.
	// Defaults to no override.
	AppEngine *AppEngineRouting
}

// HTTPOverride overrides parts of every HTTP task of a queue. A change may take
// a minute to take effect. To know which tasks it applies to, pause the queue,
// change it, wait a minute and resume it
// (https://cloud.google.com/tasks/docs/configuring-queues).
type HTTPOverride struct {
	_ [0]func()

	// Scheme ("http" or "https"), Host (a name without a port) and Port replace
	// those of the task's URL. They default to the task's.
	Scheme, Host string
	Port         int

	// Path (with its leading slash) and Query (without its question mark) replace
	// the task's; an empty one that is not nil removes it. They default to the
	// task's.
	Path, Query *string

	// IfNotExists applies the five fields above only to tasks that lack the part.
	// Defaults to overriding every task.
	IfNotExists bool

	// Method replaces the task's HTTP method. Defaults to the task's.
	Method string

	// Headers replace the task's headers of the same names, or are added.
	Headers map[string]string

	// ServiceAccount replaces the task's token by one of this account: an OIDC
	// token for Audience or an OAuth token for Scope. Exactly one of the two must
	// be set with it. They default to the task's.
	ServiceAccount, Audience, Scope string
}

// AppEngineRouting selects a part of an App Engine app. At least one field must
// be set; the app chooses the others. Instance needs manual scaling.
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

// beta reports whether the configuration has settings that only v2beta3 has.
func (c *QueueConfig) beta() bool { return c.TaskTTL != 0 || c.TombstoneTTL != 0 }

func (o *HTTPOverride) overridesURI() bool {
	return o.Scheme != "" || o.Host != "" || o.Port != 0 || o.Path != nil || o.Query != nil
}

func (o *HTTPOverride) empty() bool {
	return !o.overridesURI() && o.Method == "" && len(o.Headers) == 0 && o.ServiceAccount == ""
}

// String returns everything but the values of headers, which may be credentials.
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

// String returns the fields that are set.
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

// QueuesOf returns the queues that the policies of payloads name, each once and
// in order, with default settings:
//
//	changes, err := a.Queues().EnsureAll(ctx, admin.QueuesOf(WelcomeEmail{}, Invoice{}))
//
// A payload whose policy names no queue adds none: its queue is that of
// [handoff.ClientConfig].Policy or of [handoff.OnQueue], which are not known
// here.
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
