package admin_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/internal/assert"
)

// TestBadQueues: invalid configurations are refused before a call, with the field
// and the value.
func TestBadQueues(t *testing.T) {
	t.Parallel()
	a, _, rpcs := emulated(t)
	override := func(o admin.HTTPOverride) admin.QueueConfig { return admin.QueueConfig{ID: "q", HTTPTarget: &o} }
	for name, tc := range map[string]struct {
		config admin.QueueConfig
		field  string
		says   string
	}{
		"no ID":                  {admin.QueueConfig{}, "ID", `is ""; it must be 1 to 100 letters, digits and '-'`},
		"underscore":             {admin.QueueConfig{ID: "api_tasks"}, "ID", `"api_tasks"`},
		"full name":              {admin.QueueConfig{ID: parent + "/queues/q"}, "ID", "1 to 100 letters"},
		"not ASCII":              {admin.QueueConfig{ID: "größe"}, "ID", "1 to 100 letters"},
		"too long":               {admin.QueueConfig{ID: strings.Repeat("q", 101)}, "ID", "1 to 100 letters"},
		"rate over 500":          {admin.QueueConfig{ID: "q", MaxDispatchesPerSecond: 500.1}, "MaxDispatchesPerSecond", "is 500.1; it must be over 0 and at most 500"},
		"rate under 0":           {admin.QueueConfig{ID: "q", MaxDispatchesPerSecond: -1}, "MaxDispatchesPerSecond", "is -1"},
		"rate is no number":      {admin.QueueConfig{ID: "q", MaxDispatchesPerSecond: math.NaN()}, "MaxDispatchesPerSecond", "is NaN"},
		"rate is infinite":       {admin.QueueConfig{ID: "q", MaxDispatchesPerSecond: math.Inf(1)}, "MaxDispatchesPerSecond", "is +Inf"},
		"concurrency over 5000":  {admin.QueueConfig{ID: "q", MaxConcurrentDispatches: 5001}, "MaxConcurrentDispatches", "is 5001; it must be 1 to 5000"},
		"concurrency under 0":    {admin.QueueConfig{ID: "q", MaxConcurrentDispatches: -1}, "MaxConcurrentDispatches", "is -1"},
		"attempts under -1":      {admin.QueueConfig{ID: "q", MaxAttempts: -2}, "MaxAttempts", "is -2; it must be 1 to 2147483647, or -1 for no limit"},
		"attempts overflow":      {admin.QueueConfig{ID: "q", MaxAttempts: 1 << 31}, "MaxAttempts", "is 2147483648"},
		"doublings under -1":     {admin.QueueConfig{ID: "q", MaxDoublings: -2}, "MaxDoublings", "is -2"},
		"negative backoff":       {admin.QueueConfig{ID: "q", MinBackoff: -time.Second}, "MinBackoff", "is -1s; it must be positive"},
		"reversed backoffs":      {admin.QueueConfig{ID: "q", MinBackoff: time.Hour, MaxBackoff: time.Minute}, "MinBackoff", "is 1h0m0s; it must be at most the max backoff, 1m0s"},
		"over the default":       {admin.QueueConfig{ID: "q", MinBackoff: 2 * time.Hour}, "MinBackoff", "at most the max backoff, 1h0m0s"},
		"fraction of a backoff":  {admin.QueueConfig{ID: "q", MinBackoff: 1500 * time.Millisecond}, "MinBackoff", "is 1.5s; it must be positive, in whole seconds if over one"},
		"fraction of the max":    {admin.QueueConfig{ID: "q", MaxBackoff: 90*time.Second + 1}, "MaxBackoff", "whole seconds"},
		"max under a second":     {admin.QueueConfig{ID: "q", MinBackoff: time.Millisecond, MaxBackoff: 500 * time.Millisecond}, "MaxBackoff", "whole seconds"},
		"fraction of a retry":    {admin.QueueConfig{ID: "q", MaxRetryDuration: time.Millisecond}, "MaxRetryDuration", "is 1ms; it must be positive, in whole seconds"},
		"negative retry":         {admin.QueueConfig{ID: "q", MaxRetryDuration: -time.Hour}, "MaxRetryDuration", "is -1h0m0s"},
		"the TTL of the seed":    {admin.QueueConfig{ID: "q", TaskTTL: 24 * time.Hour}, "TaskTTL", "is 24h0m0s; it must be 10 days (240h) to 10 years (87600h) in whole seconds, or left out to stay as it is; handoff.Policy.TTL is for less"},
		"TTL over ten years":     {admin.QueueConfig{ID: "q", TaskTTL: 87601 * time.Hour}, "TaskTTL", "10 years"},
		"fraction of a TTL":      {admin.QueueConfig{ID: "q", TaskTTL: 240*time.Hour + time.Millisecond}, "TaskTTL", "whole seconds"},
		"tombstone under 1 hour": {admin.QueueConfig{ID: "q", TombstoneTTL: time.Minute}, "TombstoneTTL", "1 hour to 9 days"},
		"tombstone over 9 days":  {admin.QueueConfig{ID: "q", TombstoneTTL: 217 * time.Hour}, "TombstoneTTL", "1 hour to 9 days"},
		"sample over 1":          {admin.QueueConfig{ID: "q", LoggingSample: 1.01}, "LoggingSample", "is 1.01; it must be 0 to 1"},
		"sample is no number":    {admin.QueueConfig{ID: "q", LoggingSample: math.NaN()}, "LoggingSample", "is NaN"},
		"empty override":         {override(admin.HTTPOverride{}), "HTTPTarget", "nil, or override something"},
		"condition alone":        {override(admin.HTTPOverride{Method: "GET", IfNotExists: true}), "HTTPTarget.IfNotExists", "no part of the URL"},
		"scheme":                 {override(admin.HTTPOverride{Scheme: "ftp"}), "HTTPTarget.Scheme", `is "ftp"; it must be "http" or "https"`},
		"host with a port":       {override(admin.HTTPOverride{Host: "worker:80"}), "HTTPTarget.Host", "a host name alone"},
		"host is a URL":          {override(admin.HTTPOverride{Host: "https://worker"}), "HTTPTarget.Host", "a host name alone"},
		"port":                   {override(admin.HTTPOverride{Port: 65536}), "HTTPTarget.Port", "is 65536; it must be 1 to 65535"},
		"negative port":          {override(admin.HTTPOverride{Port: -1}), "HTTPTarget.Port", "is -1"},
		"path without a slash":   {override(admin.HTTPOverride{Path: new("tasks")}), "HTTPTarget.Path", "begins with '/'"},
		"path with a query":      {override(admin.HTTPOverride{Path: new("/tasks?a=b")}), "HTTPTarget.Path", "without a query"},
		"query with its mark":    {override(admin.HTTPOverride{Query: new("?a=b")}), "HTTPTarget.Query", "without its question mark"},
		"method":                 {override(admin.HTTPOverride{Method: "BREW"}), "HTTPTarget.Method", "POST, GET, HEAD, PUT, DELETE, PATCH or OPTIONS"},
		"method in lower case":   {override(admin.HTTPOverride{Method: "post"}), "HTTPTarget.Method", `is "post"`},
		"no method":              {override(admin.HTTPOverride{Method: "HTTP_METHOD_UNSPECIFIED"}), "HTTPTarget.Method", "POST, GET"},
		"header name":            {override(admin.HTTPOverride{Headers: map[string]string{"X Y": ""}}), "HTTPTarget.Headers", "not a token"},
		"header of the service":  {override(admin.HTTPOverride{Headers: map[string]string{"X-CloudTasks-QueueName": "q"}}), "HTTPTarget.Headers", "set by handoff or by the service"},
		"header twice, nearly":   {override(admin.HTTPOverride{Headers: map[string]string{"x-tenant": "acme"}}), "HTTPTarget.Headers", `is "x-tenant"; it must be spelled "X-Tenant"`},
		"no email":               {override(admin.HTTPOverride{ServiceAccount: "caller", Audience: "a"}), "HTTPTarget.ServiceAccount", "an email"},
		"account for nothing":    {override(admin.HTTPOverride{ServiceAccount: "c@p"}), "HTTPTarget.ServiceAccount", "Audience, for an OIDC token, or Scope"},
		"account for two tokens": {override(admin.HTTPOverride{ServiceAccount: "c@p", Audience: "a", Scope: "s"}), "HTTPTarget.ServiceAccount", "one of them"},
		"audience of nobody":     {override(admin.HTTPOverride{Method: "GET", Audience: "a"}), "HTTPTarget.ServiceAccount", "the account whose token"},
		"empty routing":          {admin.QueueConfig{ID: "q", AppEngine: &admin.AppEngineRouting{}}, "AppEngine", "nil, or name a service, version or instance"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Queues().Ensure(t.Context(), tc.config)
			assert.ErrorIs(t, err, admin.ErrInvalid)
			assert.ErrorContains(t, err, "admin: QueueConfig."+tc.field+" is ", tc.says)
			invalid, ok := errors.AsType[*admin.InvalidError](err)
			assert.Equal(t, ok, true)
			assert.Equal(t, invalid.Field, "QueueConfig."+tc.field)
			if count := strings.Count(err.Error(), "admin: "); count != 1 {
				t.Errorf("%d problems, want one: %v", count, err)
			}
			_, err = a.Queues().Create(t.Context(), tc.config)
			assert.ErrorIs(t, err, admin.ErrInvalid)
			assert.Equal(t, rpcs.made(), map[string]int{})
		})
	}
}

// TestGoodQueues: values at the limits are accepted, by this package and by the
// emulator, which checks the service's ranges too.
func TestGoodQueues(t *testing.T) {
	t.Parallel()
	a, _, _ := emulated(t)
	for name, config := range map[string]admin.QueueConfig{
		"longest ID":       {ID: strings.Repeat("q", 100)},
		"max":              {ID: "max", MaxDispatchesPerSecond: 500, MaxConcurrentDispatches: 5000, MaxAttempts: math.MaxInt32, MaxDoublings: math.MaxInt32, LoggingSample: 1},
		"least":            {ID: "least", MaxDispatchesPerSecond: 1e-9, MaxConcurrentDispatches: 1, MaxAttempts: 1, MaxDoublings: 1},
		"service defaults": {ID: "defaults", MaxDispatchesPerSecond: 500, MaxConcurrentDispatches: 1000, MaxAttempts: 100, MinBackoff: 100 * time.Millisecond},
		"no limit":         {ID: "no-limit", MaxAttempts: handoff.Unlimited, MaxRetryDuration: 31 * 24 * time.Hour},
		"equal backoffs":   {ID: "equal", MinBackoff: time.Minute, MaxBackoff: time.Minute},
		"OAuth":            {ID: "oauth", HTTPTarget: &admin.HTTPOverride{ServiceAccount: "c@p", Scope: "https://www.googleapis.com/auth/cloud-platform"}},
		"root":             {ID: "root", HTTPTarget: &admin.HTTPOverride{Scheme: "http", Path: new(""), Query: new("a=b&c=%20")}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Queues().Ensure(t.Context(), config)
			assert.NoError(t, err)
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	a, _, _ := emulated(t)
	_, err := a.Queues().Ensure(t.Context(), admin.QueueConfig{ID: "_", MaxDispatchesPerSecond: 501, MaxAttempts: -2, TaskTTL: 24 * time.Hour, HTTPTarget: &admin.HTTPOverride{Port: -1}, LoggingSample: 2})
	assert.ErrorContains(t, err, "QueueConfig.ID", "QueueConfig.MaxDispatchesPerSecond", "QueueConfig.MaxAttempts", "QueueConfig.TaskTTL", "QueueConfig.HTTPTarget.Port", "QueueConfig.LoggingSample")
}

// TestHeaderValuesStaySecret: errors do not show header values, which may be
// credentials.
func TestHeaderValuesStaySecret(t *testing.T) {
	t.Parallel()
	a, _, _ := emulated(t)
	_, err := a.Queues().Ensure(t.Context(), admin.QueueConfig{ID: "q", HTTPTarget: &admin.HTTPOverride{Headers: map[string]string{"Authorization": "Bearer hunter2\n"}}})
	assert.ErrorContains(t, err, "Authorization")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows the credential: %v", err)
	}
}

type (
	welcome  struct{}
	invoice  struct{}
	reminder struct{}
	audit    struct{}
)

func (welcome) Kind() string            { return "welcome" }
func (welcome) Policy() handoff.Policy  { return handoff.Policy{Queue: "emails"} }
func (invoice) Kind() string            { return "invoice" }
func (invoice) Policy() handoff.Policy  { return handoff.Policy{Queue: "billing"} }
func (reminder) Kind() string           { return "reminder" }
func (reminder) Policy() handoff.Policy { return handoff.Policy{Queue: "emails", TTL: time.Hour} }
func (audit) Kind() string              { return "audit" }

func TestQueuesOf(t *testing.T) {
	t.Parallel()
	assert.Equal(t, admin.QueuesOf(welcome{}, invoice{}, reminder{}, audit{}), []admin.QueueConfig{{ID: "emails"}, {ID: "billing"}})
	assert.Equal(t, len(admin.QueuesOf()), 0)

	a, srv, _ := emulated(t)
	_, err := a.Queues().EnsureAll(t.Context(), admin.QueuesOf(welcome{}, invoice{}))
	assert.NoError(t, err)
	assert.Equal(t, srv.Queues()[0].GetRateLimits().GetMaxDispatchesPerSecond(), 100)
	assert.Equal(t, len(srv.Queues()), 2)
}
