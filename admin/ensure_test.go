package admin_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestEnsure(t *testing.T) {
	t.Parallel()
	a, srv, rpcs := emulated(t)
	queues, ctx := a.Queues(), t.Context()
	config := admin.QueueConfig{ID: "emails", MaxDispatchesPerSecond: 50, MaxAttempts: handoff.Unlimited}

	change, err := queues.Ensure(ctx, config)
	assert.NoError(t, err)
	assert.Equal(t, change.Applied, true)
	assert.Equal(t, change.String(), "queue emails: create max_dispatches_per_second 50, max_concurrent_dispatches 500, max_attempts -1, min_backoff 1s, max_backoff 1h0m0s, max_doublings 16")
	assert.Equal(t, rpcs.made(), map[string]int{"GetQueue": 2, "CreateQueue": 1})

	change, err = queues.Ensure(ctx, config)
	assert.NoError(t, err)
	assert.Equal(t, change, admin.Change{Queue: "emails"})
	assert.Equal(t, change.String(), "queue emails: unchanged")
	assert.Equal(t, rpcs.made(), map[string]int{"GetQueue": 1})

	config.MaxDispatchesPerSecond, config.MinBackoff = 200, 100*time.Millisecond
	change, err = queues.Ensure(ctx, config)
	assert.NoError(t, err)
	assert.Equal(t, change, admin.Change{
		Queue:   "emails",
		Action:  admin.Update,
		Applied: true,
		Fields: []admin.FieldChange{
			{Field: "max_dispatches_per_second", From: 50.0, To: 200.0},
			{Field: "min_backoff", From: time.Second, To: 100 * time.Millisecond},
		},
	})
	assert.Equal(t, change.String(), "queue emails: update max_dispatches_per_second 50 → 200, min_backoff 1s → 100ms")
	assert.Equal(t, rpcs.made(), map[string]int{"GetQueue": 1, "UpdateQueue": 1})
	assert.Equal(t, srv.Queues()[0].GetRateLimits().GetMaxDispatchesPerSecond(), 200)
	assert.Equal(t, srv.Queues()[0].GetRetryConfig().GetMaxAttempts(), -1)
}

// everySetting changes one setting at a time from the defaults.
var everySetting = []struct {
	key  string
	mask string
	set  func(*admin.QueueConfig)
}{
	{"max_dispatches_per_second", "rate_limits.max_dispatches_per_second", func(c *admin.QueueConfig) { c.MaxDispatchesPerSecond = 0.25 }},
	{"max_concurrent_dispatches", "rate_limits.max_concurrent_dispatches", func(c *admin.QueueConfig) { c.MaxConcurrentDispatches = 5000 }},
	{"max_attempts", "retry_config.max_attempts", func(c *admin.QueueConfig) { c.MaxAttempts = handoff.Unlimited }},
	{"min_backoff", "retry_config.min_backoff", func(c *admin.QueueConfig) { c.MinBackoff = 10 * time.Second }},
	{"max_backoff", "retry_config.max_backoff", func(c *admin.QueueConfig) { c.MaxBackoff = time.Minute }},
	{"max_doublings", "retry_config.max_doublings", func(c *admin.QueueConfig) { c.MaxDoublings = 3 }},
	{"max_retry_duration", "retry_config.max_retry_duration", func(c *admin.QueueConfig) { c.MaxRetryDuration = time.Hour }},
	{"logging_sample", "stackdriver_logging_config", func(c *admin.QueueConfig) { c.LoggingSample = 0.5 }},
	{"http_target", "http_target", func(c *admin.QueueConfig) { c.HTTPTarget = fullOverride() }},
	{"app_engine", "app_engine_routing_override", func(c *admin.QueueConfig) {
		c.AppEngine = &admin.AppEngineRouting{Service: "worker", Version: "v2", Instance: "3"}
	}},
}

func fullOverride() *admin.HTTPOverride {
	return &admin.HTTPOverride{
		Scheme: "https", Host: "worker.example.com", Port: 8443, Path: new("/tasks"), Query: new(""), IfNotExists: true,
		Method: "PUT", Headers: map[string]string{"X-Tenant": "acme", "Authorization": "secret"},
		ServiceAccount: "caller@my-project.iam.gserviceaccount.com", Audience: "https://worker.example.com",
	}
}

// TestEnsureEverySetting shows that an update names only the setting that differs,
// that the service then has it, and that it can be reset to the default.
func TestEnsureEverySetting(t *testing.T) {
	t.Parallel()
	for _, tc := range everySetting {
		t.Run(tc.key, func(t *testing.T) {
			t.Parallel()
			a, _, rpcs := emulated(t)
			var mask []string
			rpcs.before = func(method string, _ int, req any) error {
				if method == "UpdateQueue" {
					mask = req.(*cloudtaskspb.UpdateQueueRequest).GetUpdateMask().GetPaths()
				}
				return nil
			}
			plain, changed := admin.QueueConfig{ID: "q"}, admin.QueueConfig{ID: "q"}
			tc.set(&changed)
			_, err := a.Queues().Ensure(t.Context(), plain)
			assert.NoError(t, err)
			for _, config := range []admin.QueueConfig{changed, plain} {
				mask = nil
				change, err := a.Queues().Ensure(t.Context(), config)
				assert.NoError(t, err)
				assert.Equal(t, len(change.Fields), 1)
				assert.Equal(t, change.Fields[0].Field, tc.key)
				assert.Equal(t, mask, []string{tc.mask})

				second, err := a.Queues().Ensure(t.Context(), config)
				assert.NoError(t, err)
				assert.Equal(t, second.Action, admin.Unchanged)
			}
		})
	}
}

// TestQueueConfigOfAQueue shows that the Config that Get returns can be passed to
// Ensure.
func TestQueueConfigOfAQueue(t *testing.T) {
	t.Parallel()
	a, _, _ := emulated(t)
	config := admin.QueueConfig{ID: "q"}
	for _, s := range everySetting {
		s.set(&config)
	}
	queue, err := a.Queues().Create(t.Context(), config)
	assert.NoError(t, err)
	assert.Equal(t, queue.Config, config)
	change, err := a.Queues().Ensure(t.Context(), queue.Config)
	assert.NoError(t, err)
	assert.Equal(t, change.Action, admin.Unchanged)
}

// TestQueueOfAnotherTool: a setting that another tool wrote in a different but
// equivalent form is no difference.
func TestQueueOfAnotherTool(t *testing.T) {
	t.Parallel()
	a, srv, _ := emulated(t)
	client, err := cloudtasks.NewClient(t.Context(), srv.ClientOptions()...)
	assert.NoError(t, err)
	defer client.Close()
	_, err = client.CreateQueue(t.Context(), &cloudtaskspb.CreateQueueRequest{Parent: parent, Queue: &cloudtaskspb.Queue{
		Name: parent + "/queues/q",
		HttpTarget: &cloudtaskspb.HttpTarget{
			UriOverride: &cloudtaskspb.UriOverride{UriOverrideEnforceMode: cloudtaskspb.UriOverride_IF_NOT_EXISTS},
			HeaderOverrides: []*cloudtaskspb.HttpTarget_HeaderOverride{
				{Header: &cloudtaskspb.HttpTarget_Header{Key: "x-tenant", Value: "acme"}},
			},
		},
		AppEngineRoutingOverride: &cloudtaskspb.AppEngineRouting{},
		StackdriverLoggingConfig: &cloudtaskspb.StackdriverLoggingConfig{},
	}})
	assert.NoError(t, err)
	queue, err := a.Queues().Get(t.Context(), "q")
	assert.NoError(t, err)
	assert.Equal(t, queue.Config.HTTPTarget, &admin.HTTPOverride{Headers: map[string]string{"X-Tenant": "acme"}})
	change, err := a.Queues().Ensure(t.Context(), queue.Config)
	assert.NoError(t, err)
	assert.Equal(t, change, admin.Change{Queue: "q"})
}

// TestChangesHideSecrets shows that header values, which may be credentials, do
// not get into the text of a change.
func TestChangesHideSecrets(t *testing.T) {
	t.Parallel()
	a, _, _ := emulated(t)
	change, err := a.Queues().Ensure(t.Context(), admin.QueueConfig{ID: "q", HTTPTarget: fullOverride(), AppEngine: &admin.AppEngineRouting{Service: "worker"}})
	assert.NoError(t, err)
	assert.Equal(t, change.Applied, true)
	assert.Equal(t, change.String(), `queue q: create max_dispatches_per_second 100, max_concurrent_dispatches 500, max_attempts 5, min_backoff 1s, max_backoff 1h0m0s, max_doublings 16, `+
		`http_target {scheme: https, host: worker.example.com, port: 8443, path: "/tasks", query: "", if_not_exists: true, method: PUT, headers: Authorization, X-Tenant, `+
		`service_account: caller@my-project.iam.gserviceaccount.com, audience: https://worker.example.com}, app_engine {service: worker}`)

	changes, err := a.Queues().Diff(t.Context(), []admin.QueueConfig{{ID: "q", AppEngine: &admin.AppEngineRouting{Version: "v2", Instance: "1"}}})
	assert.NoError(t, err)
	assert.ErrorContains(t, errors.New(changes[0].String()), "audience: https://worker.example.com} → none, app_engine {service: worker} → {version: v2, instance: 1}")
	_, err = a.Queues().Ensure(t.Context(), admin.QueueConfig{ID: "q"})
	assert.NoError(t, err)
	changes, err = a.Queues().Diff(t.Context(), []admin.QueueConfig{{ID: "q", AppEngine: &admin.AppEngineRouting{Service: "worker"}}})
	assert.NoError(t, err)
	assert.Equal(t, changes[0].String(), "queue q: update app_engine none → {service: worker}")
}

func manyConfigs(n int) []admin.QueueConfig {
	configs := make([]admin.QueueConfig, n)
	for i := range configs {
		configs[i] = admin.QueueConfig{ID: fmt.Sprintf("queue-%d", i), MaxAttempts: 1 + i%7}
	}
	return configs
}

// TestEnsureAllTwice ensures a thousand queues, the default maximum of a location.
// The second time takes a single call.
func TestEnsureAllTwice(t *testing.T) {
	t.Parallel()
	a, srv, rpcs := emulated(t)
	configs := manyConfigs(1000)

	changes, err := a.Queues().EnsureAll(t.Context(), configs)
	assert.NoError(t, err)
	assert.Equal(t, len(srv.Queues()), 1000)
	for i, change := range changes {
		assert.Equal(t, change.Queue, configs[i].ID)
		assert.Equal(t, change.Action, admin.Create)
		assert.Equal(t, change.Applied, true)
	}
	assert.Equal(t, rpcs.made(), map[string]int{"ListQueues": 1, "CreateQueue": 1000, "GetQueue": 1000})

	changes, err = a.Queues().EnsureAll(t.Context(), configs)
	assert.NoError(t, err)
	for _, change := range changes {
		assert.Equal(t, change.Action, admin.Unchanged)
	}
	assert.Equal(t, rpcs.made(), map[string]int{"ListQueues": 1})

	configs[7].MaxConcurrentDispatches = 7
	_, err = a.Queues().EnsureAll(t.Context(), configs)
	assert.NoError(t, err)
	assert.Equal(t, rpcs.made(), map[string]int{"ListQueues": 1, "UpdateQueue": 1})
}

func TestDiffChangesNothing(t *testing.T) {
	t.Parallel()
	a, srv, rpcs := emulated(t)
	_, err := a.Queues().Create(t.Context(), admin.QueueConfig{ID: "old"})
	assert.NoError(t, err)
	rpcs.made()
	changes, err := a.Queues().Diff(t.Context(), []admin.QueueConfig{{ID: "new"}, {ID: "old", MaxAttempts: 9}})
	assert.NoError(t, err)
	assert.Equal(t, []string{changes[0].Action.String(), changes[1].String()}, []string{"create", "queue old: update max_attempts 5 → 9"})
	assert.Equal(t, changes[0].Applied || changes[1].Applied, false)
	assert.Equal(t, rpcs.made(), map[string]int{"ListQueues": 1})
	assert.Equal(t, len(srv.Queues()), 1)
}

func TestEnsureAllOfNothing(t *testing.T) {
	t.Parallel()
	a, _, rpcs := emulated(t)
	changes, err := a.Queues().EnsureAll(t.Context(), nil)
	assert.NoError(t, err)
	assert.Equal(t, len(changes), 0)
	assert.Equal(t, rpcs.made(), map[string]int{})
}

// TestEnsureAllFailsInPart shows that one failure does not stop the other changes,
// and that the result says which were applied.
func TestEnsureAllFailsInPart(t *testing.T) {
	t.Parallel()
	a, srv, _ := emulated(t)
	queues, ctx := a.Queues(), t.Context()
	_, err := queues.Create(ctx, admin.QueueConfig{ID: "gone"})
	assert.NoError(t, err)
	assert.NoError(t, queues.Delete(ctx, "gone"))

	changes, err := queues.EnsureAll(ctx, []admin.QueueConfig{{ID: "a"}, {ID: "gone"}, {ID: "b"}})
	assert.ErrorIs(t, err, admin.ErrTombstoned)
	assert.ErrorContains(t, err, `create queue "gone"`)
	assert.Equal(t, []bool{changes[0].Applied, changes[1].Applied, changes[2].Applied}, []bool{true, false, true})
	assert.Equal(t, len(srv.Queues()), 2)
}

// TestEnsureAllChecksFirst shows that an invalid configuration is reported, with
// all its problems, before any call.
func TestEnsureAllChecksFirst(t *testing.T) {
	t.Parallel()
	a, _, rpcs := emulated(t)
	_, err := a.Queues().EnsureAll(t.Context(), []admin.QueueConfig{{ID: "a"}, {ID: "b", MaxAttempts: -2, LoggingSample: 3}, {ID: "a"}})
	assert.ErrorIs(t, err, admin.ErrInvalid)
	assert.ErrorContains(t, err,
		`admin: queue 2 of 3, "b": admin: QueueConfig.MaxAttempts is -2`, "QueueConfig.LoggingSample is 3",
		`admin: queue 3 of 3: admin: QueueConfig.ID is "a"; it must be another than that of queue 1`)
	assert.Equal(t, rpcs.made(), map[string]int{})
}

func TestEnsureAllStopsWithItsContext(t *testing.T) {
	t.Parallel()
	a, _, rpcs := emulated(t)
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	rpcs.before = func(method string, nth int, _ any) error {
		if method == "CreateQueue" && nth == 20 {
			cancel(reason)
		}
		return nil
	}
	changes, err := a.Queues().EnsureAll(ctx, manyConfigs(100))
	assert.ErrorIs(t, err, reason)
	assert.ErrorContains(t, err, "changes were not begun: enough")
	applied := 0
	for _, change := range changes {
		if change.Applied {
			applied++
		}
	}
	if made := rpcs.made()["CreateQueue"]; applied > made || made > 30 {
		t.Errorf("%d changes are said to be applied, of %d creates", applied, made)
	}
}

// TestEnsureWaitsForANewQueue: the service does not find a queue for a minute after
// its creation.
func TestEnsureWaitsForANewQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _, rpcs := emulated(t)
		rpcs.before = invisibleFor(time.Minute)
		start := time.Now()
		change, err := a.Queues().Ensure(t.Context(), admin.QueueConfig{ID: "emails"})
		assert.NoError(t, err)
		assert.Equal(t, change.Applied, true)
		if took := time.Since(start); took < time.Minute || took > 70*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestEnsureGivesUpOnANewQueue: the queue only seems to be created, and is never
// found.
func TestEnsureGivesUpOnANewQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _, rpcs := emulated(t)
		rpcs.before = invisibleFor(time.Hour)
		start := time.Now()
		change, err := a.Queues().Ensure(t.Context(), admin.QueueConfig{ID: "emails"})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorIs(t, err, admin.ErrNotFound)
		assert.ErrorContains(t, err, `queue "emails": created, but not found`, "deleted in the last 7 days")
		assert.Equal(t, change.Applied, true)
		assert.Equal(t, time.Since(start), 2*time.Minute)
	})
}

// invisibleFor makes a queue not be found for d after its creation.
func invisibleFor(d time.Duration) func(string, int, any) error {
	var created time.Time
	return func(method string, _ int, _ any) error {
		switch method {
		case "CreateQueue":
			if created.IsZero() {
				created = time.Now()
			}
		case "GetQueue":
			if created.IsZero() || time.Since(created) < d {
				return status.Error(codes.NotFound, "Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize.")
			}
		}
		return nil
	}
}

// TestEnsureMeetsAnother: the queue is created by another program, with another
// setting, between the read and the create of Ensure.
func TestEnsureMeetsAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _, rpcs := emulated(t)
		_, err := a.Queues().Create(t.Context(), admin.QueueConfig{ID: "emails", MaxAttempts: 9})
		assert.NoError(t, err)
		rpcs.before = invisibleFor(time.Minute)
		change, err := a.Queues().Ensure(t.Context(), admin.QueueConfig{ID: "emails"})
		assert.NoError(t, err)
		assert.Equal(t, change.Applied, true)
		assert.Equal(t, change.String(), "queue emails: update max_attempts 9 → 5")
	})
}

// TestNoDoublings: Load, Ensure and Diff all refuse 0, because gcloud sends 16 for
// it, and how the service interprets 0 is not known (docs/cloud-tasks.md#7.2).
func TestNoDoublings(t *testing.T) {
	t.Parallel()
	const want = "MaxDoublings is -1; it must be 1 to 2147483647, and is 16 if left out: gcloud sends 16 for 0"
	a, _, _ := emulated(t)
	config := admin.QueueConfig{ID: "linear", MaxDoublings: handoff.NoDoublings}
	_, err := a.Queues().Ensure(t.Context(), config)
	assert.ErrorContains(t, err, want)
	_, err = a.Queues().Diff(t.Context(), []admin.QueueConfig{config})
	assert.ErrorContains(t, err, want)
	_, err = admin.Load(strings.NewReader("queues: [{name: linear, max_doublings: 0}]"))
	assert.ErrorContains(t, err, "line 1: max_doublings is 0; it must be 1 to 2147483647, and is 16 if left out: gcloud sends 16 for 0")
}

// TestEnsureSeesWhatTheServiceKept: the service silently truncates values that it
// cannot store.
func TestEnsureSeesWhatTheServiceKept(t *testing.T) {
	t.Parallel()
	a, _, rpcs := emulated(t)
	rpcs.after = func(method string, _ int, reply any) error {
		if slices.Contains([]string{"GetQueue", "UpdateQueue"}, method) {
			reply.(*cloudtaskspb.Queue).GetRetryConfig().MinBackoff.Nanos = 0
		}
		return nil
	}
	config := admin.QueueConfig{ID: "emails", MinBackoff: 250 * time.Millisecond}
	for _, action := range []admin.Action{admin.Create, admin.Update} {
		change, err := a.Queues().Ensure(t.Context(), config)
		assert.ErrorIs(t, err, admin.ErrInvalid)
		assert.ErrorContains(t, err, `admin: ensure queue "emails": admin: QueueConfig.MinBackoff is 250ms; it must be what the service can keep: it made it 0s`)
		assert.Equal(t, change.Action, action)
		assert.Equal(t, change.Applied, true)
	}
}
