package admin

import (
	"reflect"
	"strings"
)

// setting is one field of a QueueConfig that the service keeps.
type setting struct {
	field string // in Go
	key   string // in files and changes
	mask  string // in an update mask of v2
	beta  string // in one of v2beta3, if another
	value func(*QueueConfig) any
}

// settings are all of them, in the order of the struct.
var settings = []setting{
	{"MaxDispatchesPerSecond", "max_dispatches_per_second", "rate_limits.max_dispatches_per_second", "", func(c *QueueConfig) any { return c.MaxDispatchesPerSecond }},
	{"MaxConcurrentDispatches", "max_concurrent_dispatches", "rate_limits.max_concurrent_dispatches", "", func(c *QueueConfig) any { return c.MaxConcurrentDispatches }},
	{"MaxAttempts", "max_attempts", "retry_config.max_attempts", "", func(c *QueueConfig) any { return c.MaxAttempts }},
	{"MinBackoff", "min_backoff", "retry_config.min_backoff", "", func(c *QueueConfig) any { return c.MinBackoff }},
	{"MaxBackoff", "max_backoff", "retry_config.max_backoff", "", func(c *QueueConfig) any { return c.MaxBackoff }},
	{"MaxDoublings", "max_doublings", "retry_config.max_doublings", "", func(c *QueueConfig) any { return c.MaxDoublings }},
	{"MaxRetryDuration", "max_retry_duration", "retry_config.max_retry_duration", "", func(c *QueueConfig) any { return c.MaxRetryDuration }},
	{"TaskTTL", "task_ttl", "task_ttl", "", func(c *QueueConfig) any { return c.TaskTTL }},
	{"TombstoneTTL", "tombstone_ttl", "tombstone_ttl", "", func(c *QueueConfig) any { return c.TombstoneTTL }},
	{"LoggingSample", "logging_sample", "stackdriver_logging_config", "", func(c *QueueConfig) any { return c.LoggingSample }},
	{"HTTPTarget", "http_target", "http_target", "", func(c *QueueConfig) any { return c.HTTPTarget }},
	{"AppEngine", "app_engine", "app_engine_routing_override", "app_engine_http_queue.app_engine_routing_override", func(c *QueueConfig) any { return c.AppEngine }},
}

// differing returns the settings in which a queue is not as it should be. A
// TTL that is not set is as it should be.
func differing(is, should *QueueConfig) []setting {
	var differ []setting
	for _, s := range settings {
		want := s.value(should)
		if strings.HasSuffix(s.field, "TTL") && reflect.ValueOf(want).IsZero() {
			continue
		}
		if !reflect.DeepEqual(s.value(is), want) {
			differ = append(differ, s)
		}
	}
	return differ
}

// masked is the update mask of settings.
func masked(differ []setting, beta bool) []string {
	paths := make([]string, len(differ))
	for i, s := range differ {
		paths[i] = s.mask
		if beta && s.beta != "" {
			paths[i] = s.beta
		}
	}
	return paths
}
