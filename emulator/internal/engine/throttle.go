package engine

import (
	"net/http"
	"time"
)

// throttle is the service's own braking: it lowers the effective rate of a
// queue whose targets ask for it, and leaves the configured one as it is
// (docs/cloud-tasks.md#6.3). How much, how long and how Retry-After counts is unknown.
// Here the rate halves, at most once a second, down to a sixty-fourth; it
// doubles again after every ten seconds without a new reason; and Retry-After
// stops the queue for as long as it says, up to ten minutes.
type throttle struct {
	halvings int
	changed  int64
	heldTo   int64 // no dispatch before
}

const (
	maxHalvings   = 6
	halvePeriod   = int64(time.Second)
	recoverPeriod = int64(10 * time.Second)
	maxHold       = 10 * time.Minute
)

// throttles reports whether a response slows the queue down: 503 from any target,
// 429 from HTTP targets only (docs/cloud-tasks.md#11.4).
func (r *run) throttles(o Outcome) bool {
	return o.Status == http.StatusServiceUnavailable ||
		o.Status == http.StatusTooManyRequests && r.dispatch.Task.GetHttpRequest() != nil
}

// note takes an outcome into account and reports whether the rate has changed.
func (t *throttle) note(bad bool, retryAfter time.Duration, now int64) bool {
	if !bad {
		return t.recover(now)
	}
	t.heldTo = max(t.heldTo, now+int64(min(retryAfter, maxHold)))
	if t.halvings == maxHalvings || t.halvings > 0 && now-t.changed < halvePeriod {
		return false
	}
	t.halvings++
	t.changed = now
	return true
}

func (t *throttle) recover(now int64) bool {
	before := t.halvings
	for t.halvings > 0 && now-t.changed >= recoverPeriod {
		t.halvings--
		t.changed += recoverPeriod
	}
	return t.halvings != before
}

// rate is the effective rate.
func (t *throttle) rate(configured float64) float64 {
	return configured / float64(int(1)<<t.halvings)
}
