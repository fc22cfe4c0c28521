package engine

import "math"

// bucket is the token bucket of a queue (docs/cloud-tasks.md#6.2), kept as one
// number: the time at which it is full again. A bucket that starts full,
// as ours does, starts at the zero time. Integers keep it exact: over any
// span s it lets at most burst + s/interval dispatches through, with no
// rounding to add up.
type bucket struct {
	interval int64 // nanoseconds in which one token grows
	depth    int64 // (burst-1) intervals
	full     int64 // Unix nanoseconds
}

// maxRefill is the longest time in which an empty bucket fills: 146 years. Rates
// that need longer count as this one. It keeps the arithmetic inside an int64, a
// full bucket's time from now included.
const maxRefill = 1 << 62

func newBucket(rate float64, burst int32) bucket {
	interval := int64(math.Ceil(min(1e9/rate, maxRefill/float64(burst))))
	return bucket{interval: interval, depth: int64(burst-1) * interval}
}

// ready is when the next token is there; a time in the past means now.
func (b *bucket) ready() int64 { return b.full - b.depth }

// take removes a token, which must be there.
func (b *bucket) take(now int64) { b.full = max(b.full, now) + b.interval }

// reset changes rate and burst and keeps the missing tokens missing, so
// that neither a raise nor a cut of the rate makes or unmakes a burst.
func (b *bucket) reset(rate float64, burst int32, now int64) {
	next := newBucket(rate, burst)
	if missing := b.full - now; missing > 0 && b.interval > 0 {
		tokens := min(float64(missing)/float64(b.interval), float64(burst))
		next.full = now + int64(tokens*float64(next.interval))
	}
	*b = next
}
