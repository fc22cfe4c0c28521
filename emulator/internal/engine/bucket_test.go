package engine

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// In any span of time, at most the burst and what the rate adds goes through. A
// bucket that is always drained loses nothing.
func TestBucketNeverExceeds(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0.01, 0.25, 1, 1.5, 10, 100, 300, 499.9, 500} {
		burst := DefaultBurst(rate)
		b := newBucket(rate, burst)
		start := int64(1e18)
		now := start
		var taken []int64
		for len(taken) < 2000 {
			now = max(now, b.ready())
			if rand.IntN(50) == 0 {
				now += rand.Int64N(int64(20 * 1e9 / rate)) // let it fill up
			}
			b.take(now)
			taken = append(taken, now)
		}
		for i := range taken {
			for _, span := range []int{1, int(burst), int(burst) + 1, 100, 500} {
				if j := i + span; j < len(taken) {
					most := float64(burst) + float64(taken[j]-taken[i])/1e9*rate
					if got := float64(span + 1); got > most+1e-6 {
						t.Fatalf("rate %v: %v dispatches in %v, the bucket allows %v", rate, got, time.Duration(taken[j]-taken[i]), most)
					}
				}
			}
		}
	}
}

func TestBucketLosesNothing(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0.25, 1, 1.5, 10, 300, 500} {
		b := newBucket(rate, 10)
		now := int64(1e18)
		start := now
		const n = 5000
		for range n {
			now = max(now, b.ready())
			b.take(now)
		}
		want := float64(n-10) / rate
		if got := float64(now-start) / 1e9; got < want || got > want*1.000001 {
			t.Errorf("rate %v: %d dispatches took %v s, want %v", rate, n, got, want)
		}
	}
}

// After a change of the rate, as many tokens are missing from the bucket as before.
func TestBucketReset(t *testing.T) {
	t.Parallel()
	now := int64(1e18)
	b := newBucket(1, 10)
	for range 10 {
		b.take(now)
	}
	b.reset(100, 20, now)
	took := 0
	for b.ready() <= now {
		b.take(now)
		took++
	}
	if took != 10 {
		t.Errorf("an empty bucket of 10 became one of 20 with %d tokens, want 10", took)
	}
	full := newBucket(1, 10)
	full.reset(100, 20, now)
	for took = 0; full.ready() <= now; took++ {
		full.take(now)
	}
	if took != 20 {
		t.Errorf("a full bucket became one with %d of 20 tokens", took)
	}
}

// No rate or burst of its range overflows: the burst goes through at once, and the
// next token is not early.
func TestBucketExtremes(t *testing.T) {
	t.Parallel()
	now := time.Now().UnixNano()
	for _, rate := range []float64{math.SmallestNonzeroFloat64, 1e-12, 1e-9, 1e-6, 500, 1e6} {
		for _, burst := range []int32{1, 10, 500, math.MaxInt32} {
			b := newBucket(rate, burst)
			if b.interval <= 0 || b.depth < 0 {
				t.Fatalf("rate %v, burst %d: interval %d, depth %d", rate, burst, b.interval, b.depth)
			}
			taken := 0
			for ; taken < 600 && b.ready() <= now; taken++ {
				b.take(now)
			}
			if want := min(int(burst), 600); taken != want {
				t.Errorf("rate %v, burst %d: took %d of %d tokens", rate, burst, taken, want)
			}
			if wait := b.ready() - now; burst < 600 && (wait <= 0 || float64(wait) < min(1e9/rate, maxRefill/float64(burst))) {
				t.Errorf("rate %v, burst %d: the next token is there after %v", rate, burst, time.Duration(wait))
			}
			b.reset(1, 500, now)
			if ready := b.ready(); ready > now+int64(2*time.Second) {
				t.Errorf("rate %v, burst %d: after the change it waits %v", rate, burst, time.Duration(ready-now))
			}
		}
	}
}
