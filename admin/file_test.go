package admin_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/internal/assert"
)

const fullFile = `# Our queues.
queues:
  - &defaults
    name: api-tasks
    max_dispatches_per_second: 100
    max_concurrent_dispatches: 500
    max_attempts: 5
    min_backoff: 1s
    max_backoff: 1h
    max_doublings: 16
  - name: plain
  - <<: *defaults
    name: slow
    max_dispatches_per_second: 0.5
    max_attempts: -1
    min_backoff: 100ms
    max_doublings: 3
    max_retry_duration: 2h
    task_ttl: 744h
    tombstone_ttl: 24h
    logging_sample: 0.1
    app_engine: {service: worker, version: v2, instance: i}
  - name: webhooks
    http_target:
      scheme: https
      host: worker.example.com
      port: 8443
      path: /tasks
      query: ""
      if_not_exists: true
      method: PUT
      headers: {X-Tenant: acme, Authorization: secret}
      service_account: caller@my-project.iam.gserviceaccount.com
      audience: https://worker.example.com
`

func TestLoad(t *testing.T) {
	t.Parallel()
	configs, err := admin.Load(strings.NewReader(fullFile))
	assert.NoError(t, err)
	assert.Equal(t, configs, []admin.QueueConfig{
		{
			ID: "api-tasks", MaxDispatchesPerSecond: 100, MaxConcurrentDispatches: 500, MaxAttempts: 5,
			MinBackoff: time.Second, MaxBackoff: time.Hour, MaxDoublings: 16,
		},
		{ID: "plain"},
		{
			ID: "slow", MaxDispatchesPerSecond: 0.5, MaxConcurrentDispatches: 500, MaxAttempts: handoff.Unlimited,
			MinBackoff: 100 * time.Millisecond, MaxBackoff: time.Hour, MaxDoublings: 3,
			MaxRetryDuration: 2 * time.Hour, TaskTTL: 744 * time.Hour, TombstoneTTL: 24 * time.Hour, LoggingSample: 0.1,
			AppEngine: &admin.AppEngineRouting{Service: "worker", Version: "v2", Instance: "i"},
		},
		{ID: "webhooks", HTTPTarget: fullOverride()},
	})
}

// TestLoadEnsures loads a file and ensures its queues twice.
func TestLoadEnsures(t *testing.T) {
	t.Parallel()
	configs, err := admin.Load(strings.NewReader("queues: [{name: api-tasks, max_attempts: 7}, {name: emails}]"))
	assert.NoError(t, err)
	a, srv, _ := emulated(t)
	for _, action := range []admin.Action{admin.Create, admin.Unchanged} {
		changes, err := a.Queues().EnsureAll(t.Context(), configs)
		assert.NoError(t, err)
		assert.Equal(t, []admin.Action{changes[0].Action, changes[1].Action}, []admin.Action{action, action})
	}
	assert.Equal(t, srv.Queues()[0].GetRetryConfig().GetMaxAttempts(), 7)
}

// TestLoadBadFiles: all problems are reported together, each with its line.
func TestLoadBadFiles(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		file string
		says []string
	}{
		"nothing":          {"", []string{"no documents"}},
		"no queues":        {"queues: []", []string{`there is no queue; the file must begin with "queues:"`}},
		"queues are null":  {"queues:", []string{"there is no queue"}},
		"not a list":       {"queues: 3", []string{"line 1", "a int `3` cannot stand here"}},
		"a list at once":   {"- name: q", []string{"line 1", "a seq cannot stand here"}},
		"not YAML":         {"queues: [\n", []string{"line 2: invalid: not YAML: did not find expected node content"}},
		"binary":           {"\x00", []string{"control characters"}},
		"unknown anchor":   {"queues: *q", []string{"line 1", "unknown anchor"}},
		"two documents":    {"queues: [{name: a}]\n---\nqueues: [{name: b}]", []string{"single document"}},
		"unknown at top":   {"queues: [{name: a}]\nqueue: []", []string{`line 2: invalid: unknown key "queue"`}},
		"top key twice":    {"queues: [{name: a}]\nqueues: [{name: b}]", []string{`line 2`, `"queues" already defined at line 1`}},
		"unknown key":      {"queues:\n- name: a\n  max_attempt: 3\n- name: b\n  rate: 1", []string{`line 3: invalid: unknown key "max_attempt"`, `line 5: invalid: unknown key "rate"`}},
		"unknown below":    {"queues:\n- name: a\n  http_target:\n    hots: h", []string{`line 4: invalid: unknown key "hots"`}},
		"key twice":        {"queues:\n- name: a\n  name: b", []string{"line 3", `"name" already defined at line 2`}},
		"one name twice":   {"queues:\n- name: a\n- name: b\n- name: a", []string{`line 4: name is "a"; it must be another than that of the queue on line 2`}},
		"no name":          {"queues:\n- max_attempts: 3", []string{`line 2: name is ""`}},
		"no name, nested":  {"queues:\n- max_attempts: 3\n  http_target:\n    headers: {name: a}", []string{`line 2: name is ""`}},
		"null item":        {"queues:\n- name: a\n-\n", []string{`line 3: name is ""`}},
		"item is no map":   {"queues:\n- a", []string{"line 2", "a str `a` cannot stand here"}},
		"rate is text":     {"queues:\n- name: a\n  max_dispatches_per_second: fast", []string{"line 3: invalid: `fast` is not a number"}},
		"attempts are 1.5": {"queues:\n- name: a\n  max_attempts: 1.5", []string{"line 3: invalid: `1.5` is not a whole number"}},
		"flag is text":     {"queues:\n- name: a\n  http_target: {if_not_exists: perhaps}", []string{"line 3: invalid: `perhaps` is not true or false"}},
		"name is a list":   {"queues:\n- name: [a]", []string{"line 2", "seq", "cannot stand here"}},
		"duration is bare": {"queues:\n- name: a\n  min_backoff: 10", []string{"line 3: invalid: `10` is not a duration, such as 90s or 240h"}},
		"duration in days": {"queues:\n- name: a\n  task_ttl: 10d", []string{"line 3: invalid: `10d` is not a duration"}},
		"TTL of the seed":  {"queues:\n- name: a\n  task_ttl: 24h", []string{"line 3: task_ttl is 24h0m0s; it must be 10 days (240h) to 10 years", "handoff.Policy.TTL"}},
		"out of range":     {"queues:\n- name: a\n\n  max_dispatches_per_second: 501\n  max_attempts: -2", []string{"line 4: max_dispatches_per_second is 501", "line 5: max_attempts is -2"}},
		"zeros":            {"queues:\n- name: a\n  max_dispatches_per_second: 0\n  max_attempts: 0\n  task_ttl: 0s", []string{"line 3: max_dispatches_per_second is 0", "line 4: max_attempts is 0", "line 5: task_ttl is 0", "left out"}},
		"nested range":     {"queues:\n- name: a\n  http_target:\n    scheme: https\n    port: 70000", []string{"line 5: http_target.port is 70000"}},
		"nested account":   {"queues:\n- name: a\n  http_target:\n    service_account: c@p", []string{"line 4: http_target.service_account is \"c@p\""}},
		"nested condition": {"queues:\n- name: a\n  http_target: {method: GET, if_not_exists: true}", []string{"line 3: http_target.if_not_exists is true"}},
		"merged":           {"queues:\n- &a\n  name: a\n  max_attempts: -2\n- <<: *a\n  name: b", []string{"line 4: max_attempts is -2"}},
		"several at once": {"queues:\n- name: a\n  rate: 1\n  max_attempts: -2\n- name: b\n  min_backoff: 1\n  max_backoff: 1s\n- name: b\nqueue: []", []string{
			`line 3: invalid: unknown key "rate"`, "line 4: max_attempts is -2", "line 6: invalid: `1` is not a duration",
			`line 8: name is "b"`, `line 9: invalid: unknown key "queue"`,
		}},
		"too large": {strings.Repeat("#", 17<<20), []string{"the file is over 16777216 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			configs, err := admin.Load(strings.NewReader(tc.file))
			assert.ErrorContains(t, err, append(tc.says, "admin: ")...)
			assert.Equal(t, slices.IsSorted(strings.Split(err.Error(), "\n")), true) // their lines have one digit
			assert.Equal(t, len(configs), 0)
			assert.Equal(t, errors.Is(err, admin.ErrInvalid), name != "too large")
			for _, own := range []string{"admin.file", "yaml.Node", "struct {"} {
				if strings.Contains(err.Error(), own) {
					t.Errorf("the error shows %q to the file's author: %v", own, err)
				}
			}
		})
	}
}

// TestLoadTellsAProblemOnce: a value that cannot be decoded is not also reported as
// out of range.
func TestLoadTellsAProblemOnce(t *testing.T) {
	t.Parallel()
	_, err := admin.Load(strings.NewReader("queues:\n- name: [a]\n  min_backoff: soon\n"))
	assert.Equal(t, strings.Count(err.Error(), "line 2"), 1)
	assert.Equal(t, strings.Count(err.Error(), "line 3"), 1)
	assert.Equal(t, strings.Count(err.Error(), "\n"), 1)
}

// FuzzLoad: Load never panics, and the queues that it accepts can be ensured.
func FuzzLoad(f *testing.F) {
	f.Add(fullFile)
	f.Add("queues: [{name: a, max_attempts: -1}]")
	f.Add("queues:\n- &a {name: a, <<: {max_doublings: 0}}\n- *a\n- \n")
	f.Add("queues: *x")
	f.Fuzz(func(t *testing.T, file string) {
		configs, err := admin.Load(strings.NewReader(file))
		if (err == nil) != (len(configs) > 0) {
			t.Fatalf("%d queues and the error %v", len(configs), err)
		}
		known := make(map[string]bool)
		for _, c := range configs {
			if c.ID == "" || known[c.ID] {
				t.Errorf("ID %q", c.ID)
			}
			known[c.ID] = true
		}
	})
}
