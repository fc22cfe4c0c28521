package dashboard

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/internal/assert"
)

// TestNothingIsDrawnThatWasNotObserved compares every bar with its seconds.
func TestNothingIsDrawnThatWasNotObserved(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 600e6, time.UTC)
	at := func(ago int) time.Time { return now.Truncate(time.Second).Add(-time.Duration(ago) * time.Second) }
	a := Activity{Since: at(20), Seconds: []Second{
		{At: at(400), Dispatched: 1000, Succeeded: 1000}, // before the window
		{At: at(20), Dispatched: 4, LagSum: 8 * time.Second, LagMax: 5 * time.Second, Succeeded: 2, Failed: 2},
		{At: at(3), Dispatched: 8, LagSum: 8 * time.Second, LagMax: time.Second, Succeeded: 6, Refused: 1, Unanswered: 1},
		{At: at(0), Dispatched: 99, Succeeded: 99}, // not over yet
	}}
	throughput := throughputChart(a, now, shortSpan)
	assert.Equal(t, throughput.Unseen, 400.0) // 40 of 60 bars
	assert.Equal(t, len(throughput.Bars), 2)
	assert.Equal(t, []float64{throughput.Bars[0].X, throughput.Bars[0].H, throughput.Bars[1].X, throughput.Bars[1].H}, []float64{400, 50, 570, 100})
	assert.Equal(t, throughput.Top, "8/s")
	assert.Equal(t, strings.HasPrefix(throughput.Summary, "12 dispatches in the last 20 s, 0.60 a second on average, 8 at most"), true)

	outcome := outcomeChart(a, now, shortSpan)
	assert.Equal(t, outcome.Summary, "Dispatches that ended in the last 20 s: 8 succeeded, 1 refused (4xx), 2 failed (5xx), 1 no response.")
	for _, b := range append(outcome.Bars, lagChart(a, now, shortSpan).Bars...) {
		if b.X < 400 || b.Y < -1e-9 || b.Y+b.H > 100+1e-9 || math.IsNaN(b.H) {
			t.Errorf("bar %+v is outside", b)
		}
	}
	lag := lagChart(a, now, shortSpan)
	assert.Equal(t, lag.Summary, "Dispatches of the last 20 s were 1.3 s late on average, 5 s at worst.")

	for _, c := range []*chart{throughputChart(Activity{Since: now}, now, longSpan), outcomeChart(Activity{Since: now}, now, longSpan), lagChart(Activity{Since: now}, now, longSpan)} {
		assert.Equal(t, []any{len(c.Bars), c.Unseen}, []any{0, 600.0})
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 ms", 10: "<1 ms", 15 * time.Millisecond: "15 ms", 1500 * time.Millisecond: "1.5 s", 5 * time.Second: "5 s",
		time.Minute: "1 min", 61 * time.Second: "61 s", 10 * time.Minute: "10 min", time.Hour: "1 h", 61 * time.Minute: "61 min",
		25 * time.Hour: "25 h", 72 * time.Hour: "3 days", -2 * time.Second: "−2 s",
	} {
		assert.Equal(t, briefly(d), want)
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "−1,000"} {
		assert.Equal(t, integer(n), want)
	}
	for f, want := range map[float64]string{0: "0", 0.6: "0.60", 7.25: "7.25", 12.34: "12.3", 499.6: "500", 3: "3"} {
		assert.Equal(t, number(f), want)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for at, want := range map[time.Time]string{
		{}: "never", now: "now", now.Add(-400 * time.Millisecond): "now", now.Add(3 * time.Second): "in 3 s", now.Add(-2 * time.Hour): "2 h ago",
	} {
		assert.Equal(t, relative(now, at), want)
	}
	assert.Equal(t, clock(now, now.Add(time.Millisecond)), "03:04:05.001")
	assert.Equal(t, clock(now, now.Add(-24*time.Hour)), "2026-01-01 03:04:05")
}

// Names are escaped in paths.
func TestPaths(t *testing.T) {
	t.Parallel()
	assert.Equal(t, taskPath("projects/p/locations/l/queues/q/tasks/t"), "/queues/p/l/q/tasks/t")
	assert.Equal(t, queuePath("projects/example.com:p/locations/l/queues/a b/c?d"), "/queues/example.com:p/l/a%20b%2Fc%3Fd")
}

func TestRetryPolicy(t *testing.T) {
	t.Parallel()
	base := admin.QueueConfig{MaxAttempts: 5, MinBackoff: time.Second, MaxBackoff: time.Hour}
	assert.Equal(t, retryPolicy(base), "5 dispatches, 1 s to 1 h apart")
	base.MaxRetryDuration = 2 * time.Hour
	assert.Equal(t, retryPolicy(base), "5 dispatches and 2 h, 1 s to 1 h apart")
	base.MaxAttempts = -1
	assert.Equal(t, retryPolicy(base), "for 2 h, 1 s to 1 h apart")
}
