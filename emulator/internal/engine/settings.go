package engine

import (
	"cmp"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
)

// What the service fills in for fields that are not set (docs/cloud-tasks.md#6.1).
const (
	DefaultRate        = 500.0
	DefaultConcurrent  = 1000
	DefaultMaxAttempts = 100
	DefaultMinBackoff  = 100 * time.Millisecond
	DefaultMaxBackoff  = time.Hour
	DefaultDoublings   = 16
)

// DefaultBurst is the bucket size that the service picks for a rate. The
// formula fits every value seen; those between are unproven (docs/cloud-tasks.md#6.2).
func DefaultBurst(rate float64) int32 { return max(10, int32(rate/5)) }

// Definition is the configuration of a queue: that of v2, and what v2beta3 adds (docs/cloud-tasks.md#5.1).
type Definition struct {
	Queue *cloudtaskspb.Queue // replaced, never changed

	TaskTTL      time.Duration // how old a task may grow; 0: the engine's
	TombstoneTTL time.Duration // how long a task name stays reserved; 0: the engine's
}

// settings are the numbers of a queue's definition.
type settings struct {
	rate         float64
	burst        int32
	concurrent   int
	retry        Retry
	taskTTL      time.Duration
	tombstoneTTL time.Duration
}

func (e *Engine) settingsOf(d Definition) settings {
	limits := d.Queue.GetRateLimits()
	return settings{
		rate:         limits.GetMaxDispatchesPerSecond(),
		burst:        limits.GetMaxBurstSize(),
		concurrent:   int(limits.GetMaxConcurrentDispatches()),
		retry:        retryOf(d.Queue.GetRetryConfig()),
		taskTTL:      cmp.Or(d.TaskTTL, e.cfg.TaskTTL),
		tombstoneTTL: cmp.Or(d.TombstoneTTL, e.cfg.TombstoneTTL),
	}
}

// retryOf reads a retry configuration; what is not set has the default of
// a queue. A task's own configuration replaces the queue's as a whole: how
// the service merges them is unknown (docs/cloud-tasks.md#7.3).
func retryOf(c *cloudtaskspb.RetryConfig) Retry {
	r := Retry{
		MaxAttempts: c.GetMaxAttempts(),
		MaxDuration: c.GetMaxRetryDuration().AsDuration(),
		MinBackoff:  DefaultMinBackoff,
		MaxBackoff:  DefaultMaxBackoff,
		Doublings:   c.GetMaxDoublings(),
	}
	if r.MaxAttempts == 0 {
		r.MaxAttempts = DefaultMaxAttempts
	}
	if c.GetMinBackoff() != nil {
		r.MinBackoff = c.GetMinBackoff().AsDuration()
	}
	if c.GetMaxBackoff() != nil {
		r.MaxBackoff = c.GetMaxBackoff().AsDuration()
	}
	if r.Doublings == 0 {
		r.Doublings = DefaultDoublings
	}
	return r
}
