package engine

import "time"

// Retry says when a failed task is tried again and when no more
// (docs/cloud-tasks.md#7). It is complete: defaults have been filled in.
type Retry struct {
	MaxAttempts int32         // -1: no limit
	MaxDuration time.Duration // 0: no limit
	MinBackoff  time.Duration
	MaxBackoff  time.Duration
	Doublings   int32
}

// wait is the pause after the n-th failed dispatch, n counting from 1
// (docs/cloud-tasks.md#7.2): it doubles, then grows linearly, then stays. Whether
// the service adds jitter is unknown; none is added here.
func (r Retry) wait(n int32) time.Duration {
	step := r.MinBackoff
	if step <= 0 {
		return 0
	}
	for range min(n-1, r.Doublings) {
		// Compared before doubling: with many doublings the product overflows.
		if step > r.MaxBackoff/2 {
			return r.MaxBackoff
		}
		step *= 2
	}
	if steps := time.Duration(n - r.Doublings); steps > 1 {
		if steps > r.MaxBackoff/step {
			return r.MaxBackoff
		}
		step *= steps
	}
	return min(step, r.MaxBackoff)
}

// exhausted reports whether retrying ends after this many dispatches and this
// long since the first: both limits must be reached, and one that is not
// set does not keep the other from deciding (docs/cloud-tasks.md#7.1). Asked when an
// dispatch has failed: whether the service asks then or when the next one
// falls due is unknown.
func (r Retry) exhausted(dispatches int32, since time.Duration) bool {
	byCount, byTime := r.MaxAttempts > 0, r.MaxDuration > 0
	if !byCount && !byTime {
		return false
	}
	return (!byCount || dispatches >= r.MaxAttempts) && (!byTime || since >= r.MaxDuration)
}
