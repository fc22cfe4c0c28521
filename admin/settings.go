package admin

import "reflect"

// setting is one field of a QueueConfig that the service stores.
type setting struct {
	field string // in Go
	key   string // in files and changes
	mask  string // in an update mask of v2
	value func(*QueueConfig) any

	beta  string // in an update mask of v2beta3, if different
	stays bool   // zero leaves it unchanged
}

// settings lists all settings, in the order of the struct.
var settings = []setting{
	{field: "MaxDispatchesPerSecond", key: "max_dispatches_per_second", mask: "rate_limits.max_dispatches_per_second", value: func(c *QueueConfig) any { return c.MaxDispatchesPerSecond }},
	{field: "MaxConcurrentDispatches", key: "max_concurrent_dispatches", mask: "rate_limits.max_concurrent_dispatches", value: func(c *QueueConfig) any { return c.MaxConcurrentDispatches }},
	{field: "MaxAttempts", key: "max_attempts", mask: "retry_config.max_attempts", value: func(c *QueueConfig) any { return c.MaxAttempts }},
	{field: "MinBackoff", key: "min_backoff", mask: "retry_config.min_backoff", value: func(c *QueueConfig) any { return c.MinBackoff }},
	{field: "MaxBackoff", key: "max_backoff", mask: "retry_config.max_backoff", value: func(c *QueueConfig) any { return c.MaxBackoff }},
	{field: "MaxDoublings", key: "max_doublings", mask: "retry_config.max_doublings", value: func(c *QueueConfig) any { return c.MaxDoublings }},
	{field: "MaxRetryDuration", key: "max_retry_duration", mask: "retry_config.max_retry_duration", value: func(c *QueueConfig) any { return c.MaxRetryDuration }},
	{field: "TaskTTL", key: "task_ttl", mask: "task_ttl", value: func(c *QueueConfig) any { return c.TaskTTL }, stays: true},
	{field: "TombstoneTTL", key: "tombstone_ttl", mask: "tombstone_ttl", value: func(c *QueueConfig) any { return c.TombstoneTTL }, stays: true},
	{field: "LoggingSample", key: "logging_sample", mask: "stackdriver_logging_config", value: func(c *QueueConfig) any { return c.LoggingSample }},
	{field: "HTTPTarget", key: "http_target", mask: "http_target", value: func(c *QueueConfig) any { return c.HTTPTarget }},
	{field: "AppEngine", key: "app_engine", mask: "app_engine_routing_override", value: func(c *QueueConfig) any { return c.AppEngine }, beta: "app_engine_http_queue.app_engine_routing_override"},
}

// differing returns the settings that differ.
func differing(is, should *QueueConfig) []setting {
	var differ []setting
	for _, s := range settings {
		want := s.value(should)
		if s.stays && reflect.ValueOf(want).IsZero() {
			continue
		}
		if !reflect.DeepEqual(s.value(is), want) {
			differ = append(differ, s)
		}
	}
	return differ
}

// masked returns the update mask of settings.
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
