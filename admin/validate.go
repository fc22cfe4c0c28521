package admin

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/create"
)

const maxInt32 = 1<<31 - 1

// wantDoublings says why a queue cannot have none, which its tasks can.
const wantDoublings = "1 to 2147483647, and is 16 if left out: gcloud sends 16 for 0, and what the service makes of 0 is not documented"

// check returns every problem of a resolved configuration.
func (c *QueueConfig) check() error {
	v := validator{prefix: "QueueConfig."}
	if create.QueueID(c.ID) != nil {
		v.fail("ID", c.ID, wantQueueID)
	}
	if !(c.MaxDispatchesPerSecond > 0 && c.MaxDispatchesPerSecond <= maxRate) { // false for NaN
		v.fail("MaxDispatchesPerSecond", c.MaxDispatchesPerSecond, "over 0 and at most 500, and is 100 if left out; pause the queue to stop it")
	}
	if c.MaxConcurrentDispatches < 1 || c.MaxConcurrentDispatches > maxConcurrent {
		v.fail("MaxConcurrentDispatches", c.MaxConcurrentDispatches, "1 to 5000, and is 500 if left out")
	}
	if c.MaxAttempts < handoff.Unlimited || c.MaxAttempts > maxInt32 {
		v.fail("MaxAttempts", c.MaxAttempts, "1 to 2147483647, or -1 for no limit, and is 5 if left out")
	}
	if c.MaxDoublings < 1 || c.MaxDoublings > maxInt32 {
		v.fail("MaxDoublings", c.MaxDoublings, wantDoublings)
	}
	v.backoff(c.MinBackoff, c.MaxBackoff)
	v.duration("MaxRetryDuration", c.MaxRetryDuration, 0, 1<<63-1, "positive, in whole seconds, or left out for no such limit")
	if c.TaskTTL != 0 {
		v.duration("TaskTTL", c.TaskTTL, minTaskTTL, maxTaskTTL, "10 days (240h) to 10 years (87600h) in whole seconds, or left out to stay as it is; handoff.Policy.TTL is for less")
	}
	if c.TombstoneTTL != 0 {
		v.duration("TombstoneTTL", c.TombstoneTTL, minTombstoneTTL, maxTombstoneTTL, "1 hour to 9 days (216h) in whole seconds, or left out to stay as it is")
	}
	if !(c.LoggingSample >= 0 && c.LoggingSample <= 1) {
		v.fail("LoggingSample", c.LoggingSample, "0 to 1")
	}
	if c.HTTPTarget != nil {
		v.httpOverride(c.HTTPTarget)
	}
	if r := c.AppEngine; r != nil && r.Service+r.Version+r.Instance == "" {
		v.fail("AppEngine", "empty", "nil, or name a service, version or instance")
	}
	return errors.Join(v.errs...)
}

const wantQueueID = "1 to 100 letters, digits and '-'"

type validator struct {
	prefix string
	errs   []error
}

func (v *validator) fail(field string, value any, want string) {
	v.errs = append(v.errs, invalid(v.prefix+field, value, want))
}

func (v *validator) duration(field string, d, from, to time.Duration, want string) {
	if d < from || d > to || d%time.Second != 0 {
		v.fail(field, d, want)
	}
}

// backoff checks both backoffs. Google says that they are truncated to the second,
// but the service stores its default of 0.1 s (docs/cloud-tasks.md#7.2). verify
// detects a value that the service has changed.
func (v *validator) backoff(minBackoff, maxBackoff time.Duration) {
	if minBackoff <= 0 || minBackoff > time.Second && minBackoff%time.Second != 0 {
		v.fail("MinBackoff", minBackoff, "positive, in whole seconds if over one, and is 1s if left out")
	}
	v.duration("MaxBackoff", maxBackoff, 1, 1<<63-1, "positive, in whole seconds, and is 1h if left out")
	if minBackoff > maxBackoff {
		v.fail("MinBackoff", minBackoff, fmt.Sprintf("at most the max backoff, %s", maxBackoff))
	}
}

func (v *validator) httpOverride(o *HTTPOverride) {
	if o.empty() {
		v.fail("HTTPTarget", "empty", "nil, or override something")
	}
	v.prefix += "HTTPTarget."
	defer func() { v.prefix = strings.TrimSuffix(v.prefix, "HTTPTarget.") }()
	if o.IfNotExists && !o.overridesURI() {
		v.fail("IfNotExists", o.IfNotExists, "false where no part of the URL is overridden")
	}
	if o.Scheme != "" && o.Scheme != "http" && o.Scheme != "https" {
		v.fail("Scheme", o.Scheme, `"http" or "https"`)
	}
	if strings.ContainsAny(o.Host, "/:?#@ ") {
		v.fail("Host", o.Host, "a host name alone, without scheme, port or path")
	}
	if o.Port < 0 || o.Port > 65535 {
		v.fail("Port", o.Port, "1 to 65535")
	}
	if o.Path != nil && *o.Path != "" && (create.RelativeURI(*o.Path) != nil || strings.Contains(*o.Path, "?")) {
		v.fail("Path", *o.Path, "a path that begins with '/', without a query")
	}
	if o.Query != nil && strings.ContainsAny(*o.Query, "?# ") {
		v.fail("Query", *o.Query, "a query without its question mark, encoded")
	}
	if _, ok := cloudtaskspb.HttpMethod_value[o.Method]; o.Method != "" && (!ok || o.Method == unspecifiedMethod) {
		v.fail("Method", o.Method, "POST, GET, HEAD, PUT, DELETE, PATCH or OPTIONS")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Headers)) {
		canonical, err := create.Header(name, o.Headers[name])
		switch {
		case err != nil: // the error does not quote the value
			v.fail("Headers", name, "headers that can be sent: "+err.Error())
		case canonical != name:
			v.fail("Headers", name, "spelled "+strconv.Quote(canonical)+", so that none is given twice")
		}
	}
	v.token(o)
}

func (v *validator) token(o *HTTPOverride) {
	switch {
	case o.ServiceAccount == "" && o.Audience+o.Scope != "":
		v.fail("ServiceAccount", "", "the account whose token is for Audience or Scope")
	case o.ServiceAccount != "" && !strings.Contains(o.ServiceAccount, "@"):
		v.fail("ServiceAccount", o.ServiceAccount, "an email")
	case o.ServiceAccount != "" && (o.Audience == "") == (o.Scope == ""):
		v.fail("ServiceAccount", o.ServiceAccount, "accompanied by Audience, for an OIDC token, or Scope, for an OAuth token: one of them")
	}
}

// checkAll resolves and checks the configurations of one EnsureAll.
func checkAll(configs []QueueConfig) ([]QueueConfig, error) {
	var errs []error
	all := make([]QueueConfig, len(configs))
	first := make(map[string]int, len(configs))
	for i, c := range configs {
		all[i] = resolve(c)
		if err := all[i].check(); err != nil {
			errs = append(errs, fmt.Errorf("admin: queue %d of %d, %q: %w", i+1, len(configs), c.ID, err))
		}
		if other, twice := first[c.ID]; twice {
			errs = append(errs, fmt.Errorf("admin: queue %d of %d: %w", i+1, len(configs),
				invalid("QueueConfig.ID", c.ID, fmt.Sprintf("another than that of queue %d", other+1))))
			continue
		}
		first[c.ID] = i
	}
	return all, errors.Join(errs...)
}

// text returns a value as errors and changes show it.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case string:
		return strconv.Quote(v)
	case *HTTPOverride:
		if v == nil {
			return "none"
		}
	case *AppEngineRouting:
		if v == nil {
			return "none"
		}
	}
	return fmt.Sprint(v)
}

// checkQueueID checks the ID in a call about one queue.
func checkQueueID(id string) error {
	if create.QueueID(id) != nil {
		return invalid("queue", id, wantQueueID+", the ID alone")
	}
	return nil
}

// queueOfTask returns the resource name of the queue in that of a task
// (docs/cloud-tasks.md#2).
func queueOfTask(name string) (string, error) {
	parts := strings.Split(name, "/")
	if len(parts) != 8 || parts[0] != "projects" || parts[2] != "locations" || parts[4] != "queues" || parts[6] != "tasks" ||
		slices.Contains(parts, "") || create.QueueID(parts[5]) != nil || create.TaskID(parts[7]) != nil {
		return "", invalid("task", name, "a full name, projects/P/locations/L/queues/Q/tasks/T, as in handoff.Receipt.Name; Tasks.Name makes one")
	}
	return strings.Join(parts[:6], "/"), nil
}

const unspecifiedMethod = "HTTP_METHOD_UNSPECIFIED"
