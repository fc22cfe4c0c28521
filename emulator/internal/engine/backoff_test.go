package engine

import (
	"math"
	"testing"
	"time"
)

// The examples of docs/cloud-tasks.md#7.2.
func TestBackoff(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		least, most float64 // seconds
		doublings   int32
		want        []float64
	}{
		{10, 300, 3, []float64{10, 20, 40, 80, 160, 240, 300, 300, 300}},
		{1, 60, 0, []float64{1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{10, 100, 1, []float64{10, 20, 40, 60, 80, 100, 100, 100, 100}},
		{2, 3600, 2, []float64{2, 4, 8, 16, 24, 32, 40, 48, 56}},
		{5, 5, 16, []float64{5, 5, 5, 5, 5, 5, 5, 5, 5}},
		{0.1, 3600, 16, []float64{0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6}},
		{0, 3600, 16, []float64{0, 0, 0}},
		{0, 0, 16, []float64{0, 0, 0}},
	} {
		r := Retry{MinBackoff: seconds(row.least), MaxBackoff: seconds(row.most), Doublings: row.doublings}
		for i, want := range row.want {
			if got := r.wait(int32(i + 1)); got != seconds(want) {
				t.Errorf("min %v max %v doublings %d: wait %d is %v, want %v s", row.least, row.most, row.doublings, i+1, got, want)
			}
		}
	}
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * 1e9)) }

// The same formula, in numbers that cannot overflow.
func FuzzBackoff(f *testing.F) {
	f.Add(int64(100*time.Millisecond), int64(time.Hour), int32(16), int32(99))
	f.Add(int64(1), int64(math.MaxInt64), int32(math.MaxInt32), int32(math.MaxInt32))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), int32(1), int32(2))
	f.Fuzz(func(t *testing.T, least, most int64, doublings, n int32) {
		if least < 0 || most < least || doublings < 0 || n < 1 {
			t.Skip()
		}
		r := Retry{MinBackoff: time.Duration(least), MaxBackoff: time.Duration(most), Doublings: doublings}
		exact := float64(least) * math.Pow(2, float64(min(n-1, doublings)))
		if n > doublings+1 && doublings < math.MaxInt32 {
			exact *= float64(n - doublings)
		}
		exact = min(exact, float64(most))
		got := float64(r.wait(n))
		if math.Abs(got-exact) > exact*1e-9 {
			t.Errorf("wait %d of %+v is %v, want %v", n, r, got, exact)
		}
	})
}

func TestExhausted(t *testing.T) {
	t.Parallel()
	const d = time.Hour
	for _, row := range []struct {
		name       string
		retry      Retry
		dispatches int32
		since      time.Duration
		want       bool
	}{
		{"dispatches only, below", Retry{MaxAttempts: 3}, 2, 9 * d, false},
		{"dispatches only, reached", Retry{MaxAttempts: 3}, 3, 0, true},
		{"duration only, below", Retry{MaxAttempts: -1, MaxDuration: d}, 999, d - 1, false},
		{"duration only, reached", Retry{MaxAttempts: -1, MaxDuration: d}, 1, d, true},
		{"both, dispatches reached", Retry{MaxAttempts: 3, MaxDuration: d}, 99, d - 1, false},
		{"both, duration reached", Retry{MaxAttempts: 3, MaxDuration: d}, 2, 9 * d, false},
		{"both reached", Retry{MaxAttempts: 3, MaxDuration: d}, 3, d, true},
		{"neither", Retry{MaxAttempts: -1}, math.MaxInt32, math.MaxInt64, false},
	} {
		if got := row.retry.exhausted(row.dispatches, row.since); got != row.want {
			t.Errorf("%s: got %v", row.name, got)
		}
	}
}
