package filter_test

import (
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/brillconsulting/handoff/emulator/internal/filter"
)

var queue = &cloudtaskspb.Queue{
	Name:  "projects/p/locations/l/queues/Emails",
	State: cloudtaskspb.Queue_PAUSED,
	RateLimits: &cloudtaskspb.RateLimits{
		MaxDispatchesPerSecond: 2.5, MaxConcurrentDispatches: 7,
	},
	RetryConfig: &cloudtaskspb.RetryConfig{MinBackoff: durationpb.New(time.Minute)},
	PurgeTime:   timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
}

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"":               true,
		"  ":             true,
		"state: PAUSED":  true,
		"state=paused":   true,
		"state!=RUNNING": true,
		"state=RUNNING":  false,
		"rate_limits.max_dispatches_per_second<=2.5": true,
		"rateLimits.maxDispatchesPerSecond<2.5":      false,
		"rateLimits.maxDispatchesPerSecond>-1":       true,
		"rateLimits.maxConcurrentDispatches=7":       true,
		"rateLimits.maxConcurrentDispatches>=7.5":    false,
		`name: "emails"`:                             true,
		"name=projects/p/locations/l/queues/emails":  true,
		"name=emails":                                               false,
		"retryConfig.minBackoff>=60s":                               true,
		"retryConfig.minBackoff=1m":                                 true,
		"retryConfig.maxBackoff=1m":                                 false,
		"retryConfig.maxBackoff!=1m":                                true,
		"purgeTime<2026-01-02T03:04:06Z":                            true,
		`purge_time > "2026-01-02T03:04:05Z"`:                       false,
		"purgeTime:*":                                               true,
		"httpTarget:*":                                              false,
		"NOT state=PAUSED":                                          false,
		"-state=RUNNING":                                            true,
		"state=PAUSED AND name:emails":                              true,
		"state=PAUSED name:nothing":                                 false,
		"state=RUNNING OR name:emails":                              true,
		"state=RUNNING AND name:emails OR name:nothing":             false,
		"state=RUNNING OR state=PAUSED AND name:nothing":            false,
		"(state=RUNNING AND name:nothing) OR state=PAUSED":          true,
		"NOT (state=RUNNING OR name:nothing) AND NOT state=RUNNING": true,
	} {
		match, err := filter.Parse(text, queue.ProtoReflect().Descriptor())
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := match(queue); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"state", "state=", "=PAUSED", "state PAUSED", "states=PAUSED", "state.name=x", "state=SLEEPING",
		"(state=PAUSED", "state=PAUSED)", "state=PAUSED AND", "OR state=PAUSED", `name="x`, "NOT", "()",
		"rateLimits=1", "rateLimits.maxConcurrentDispatches=many", "purgeTime=yesterday", "retryConfig.minBackoff=60",
		"httpTarget.headerOverrides=x", "!state=PAUSED",
	} {
		if _, err := filter.Parse(text, queue.ProtoReflect().Descriptor()); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "state: PAUSED", `(name="a\"b" OR -purgeTime:*) rateLimits.maxBurstSize<=1`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		match, err := filter.Parse(text, queue.ProtoReflect().Descriptor())
		if err != nil {
			return
		}
		// The negation of a filter matches the opposite.
		negated, err := filter.Parse("NOT ("+text+")", queue.ProtoReflect().Descriptor())
		if err == nil && match(queue) == negated(queue) {
			t.Errorf("%q and its negation agree", text)
		}
	})
}
