package service

import (
	"math"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/brillconsulting/handoff/emulator/internal/engine"
	"github.com/brillconsulting/handoff/internal/target"
)

// limits of a queue's rate.
type limits struct {
	rate       float64
	burst      int32
	concurrent int32
}

var (
	serviceLimits = limits{500, 500, 5000} // docs/cloud-tasks.md#5.1, #6.2, #12.1
	// noLimits are those of the arithmetic: a token bucket counts nanoseconds.
	noLimits = limits{1e6, math.MaxInt32, math.MaxInt32}
)

// completeQueue checks a queue's configuration and fills in what was left
// to the service; what only the service sets is overwritten.
func (s *Service) completeQueue(q *cloudtaskspb.Queue) error {
	q.State, q.PurgeTime = 0, nil
	if q.RateLimits == nil {
		q.RateLimits = new(cloudtaskspb.RateLimits)
	}
	if err := s.completeRateLimits(q.RateLimits); err != nil {
		return err
	}
	if q.RetryConfig == nil {
		q.RetryConfig = new(cloudtaskspb.RetryConfig)
	}
	if err := checkRetryConfig(q.RetryConfig); err != nil {
		return err
	}
	completeRetryConfig(q.RetryConfig)
	if ratio := q.GetStackdriverLoggingConfig().GetSamplingRatio(); !(ratio >= 0 && ratio <= 1) {
		return invalid("StackdriverLoggingConfig.samplingRatio must be between 0.0 and 1.0.")
	}
	if err := checkAppEngineRouting(q.GetAppEngineRoutingOverride()); err != nil {
		return err
	}
	if err := checkHTTPTarget(q.GetHttpTarget()); err != nil {
		return err
	}
	return s.cmek.excludes(q.GetName(), q.GetHttpTarget())
}

func (s *Service) completeRateLimits(l *cloudtaskspb.RateLimits) error {
	limit := serviceLimits
	if s.options.NoLimits {
		limit = noLimits
	}
	rate, burst, concurrent := l.GetMaxDispatchesPerSecond(), l.GetMaxBurstSize(), l.GetMaxConcurrentDispatches()
	switch {
	case math.IsNaN(rate):
		return invalid("RateLimits.maxDispatchesPerSecond must be a number.")
	case rate < 0:
		return invalid("RateLimits.maxDispatchesPerSecond cannot be negative.")
	case rate > limit.rate:
		return invalid("RateLimits.maxDispatchesPerSecond must be less than or equal to %.0f.", limit.rate)
	case burst < 0:
		return invalid("RateLimits.maxBurstSize cannot be negative.")
	case burst > limit.burst:
		return invalid("RateLimits.maxBurstSize must be less than or equal to %d.", limit.burst)
	case concurrent < 0:
		return invalid("RateLimits.maxConcurrentDispatches cannot be negative.")
	case concurrent > limit.concurrent:
		return invalid("RateLimits.maxConcurrentDispatches must be less than or equal to %d.", limit.concurrent)
	}
	// Zero is "unset": these fields have no presence (docs/cloud-tasks.md#6.2).
	if rate == 0 {
		l.MaxDispatchesPerSecond = engine.DefaultRate
	}
	if concurrent == 0 {
		l.MaxConcurrentDispatches = engine.DefaultConcurrent
	}
	if burst == 0 {
		l.MaxBurstSize = engine.DefaultBurst(l.MaxDispatchesPerSecond)
	}
	return nil
}

// checkRetryConfig is for queues and for tasks with their own.
func checkRetryConfig(c *cloudtaskspb.RetryConfig) error {
	for _, f := range []struct {
		name  string
		value *durationpb.Duration
	}{
		{"maxRetryDuration", c.GetMaxRetryDuration()},
		{"minBackoff", c.GetMinBackoff()},
		{"maxBackoff", c.GetMaxBackoff()},
	} {
		if f.value == nil {
			continue
		}
		if f.value.CheckValid() != nil {
			return invalid("RetryConfig.%s is not a valid duration.", f.name)
		}
		if f.value.AsDuration() < 0 {
			return invalid("RetryConfig.%s cannot be negative.", f.name)
		}
	}
	minBackoff, maxBackoff := engine.DefaultMinBackoff, engine.DefaultMaxBackoff
	if c.GetMinBackoff() != nil {
		minBackoff = c.GetMinBackoff().AsDuration()
	}
	if c.GetMaxBackoff() != nil {
		maxBackoff = c.GetMaxBackoff().AsDuration()
	}
	switch {
	case c.GetMaxAttempts() < -1:
		return invalid("RetryConfig.maxAttempts must be greater or equal to -1.")
	case c.GetMaxDoublings() < 0:
		return invalid("RetryConfig.maxDoublings cannot be negative.")
	case minBackoff > maxBackoff:
		return invalid("RetryConfig.minBackoff must be less than or equal to RetryConfig.maxBackoff.")
	}
	return nil
}

// completeRetryConfig fills in the defaults of a queue. Backoffs keep their
// fractions of a second, as the default of 0.1 s needs, although "truncated
// to the second" is said of them (docs/cloud-tasks.md#7.2).
func completeRetryConfig(c *cloudtaskspb.RetryConfig) {
	if c.MaxAttempts == 0 {
		c.MaxAttempts = engine.DefaultMaxAttempts
	}
	if d := c.MaxRetryDuration; d != nil {
		c.MaxRetryDuration = &durationpb.Duration{Seconds: d.GetSeconds()} // of 10,000 years, too
	}
	if c.MinBackoff == nil {
		c.MinBackoff = durationpb.New(engine.DefaultMinBackoff)
	}
	if c.MaxBackoff == nil {
		c.MaxBackoff = durationpb.New(engine.DefaultMaxBackoff)
	}
	if c.MaxDoublings == 0 {
		c.MaxDoublings = engine.DefaultDoublings
	}
}

// checkHTTPTarget checks queue-level overrides (docs/cloud-tasks.md#9.8).
func checkHTTPTarget(t *cloudtaskspb.HttpTarget) error {
	if t == nil {
		return nil
	}
	o := t.GetUriOverride()
	if o != nil && o.Host != nil && o.GetHost() == "" {
		return invalid("UriOverride.host must not be empty.")
	}
	if o.GetHost() != "" && !target.IsHost(o.GetHost()) {
		return invalid("UriOverride.host is %q. It must be a host name or an IP address, without a scheme, a port or a path.", o.GetHost())
	}
	// No URL is longer, so no part of one is.
	if path, query := o.GetPathOverride().GetPath(), o.GetQueryOverride().GetQueryParams(); len(path) > maxURL || len(query) > maxURL {
		return invalid("UriOverride.pathOverride and queryOverride must be at most %d characters long.", maxURL)
	}
	size := 0
	for _, h := range t.GetHeaderOverrides() {
		if err := checkHeader("HttpTarget.headerOverrides", h.GetHeader().GetKey(), h.GetHeader().GetValue()); err != nil {
			return err
		}
		size += len(h.GetHeader().GetKey()) + len(h.GetHeader().GetValue())
	}
	if size >= maxHeaderBytes {
		return errHeadersTooLarge
	}
	if o != nil && o.Port != nil && (o.GetPort() < 0 || o.GetPort() > 65535) {
		return invalid("UriOverride.port must be between 1 and 65535, or 0 to clear it.")
	}
	if token := t.GetOidcToken(); token != nil {
		if token.GetServiceAccountEmail() == "" {
			return errAccountMissing
		}
		if token.GetAudience() == "" {
			return invalid("audience must be set.")
		}
	}
	if token := t.GetOauthToken(); token != nil {
		if token.GetServiceAccountEmail() == "" {
			return errAccountMissing
		}
		if token.GetScope() == "" {
			return invalid("scope must be set.")
		}
	}
	return nil
}
