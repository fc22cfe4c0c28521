package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
)

// asBench is set for the processes that this test starts of itself: they are
// the program, since rows start it for what they compare with.
const asBench = "HANDOFF_BENCH"

func TestMain(m *testing.M) {
	if os.Getenv(asBench) != "" {
		main()
		return
	}
	_ = os.Setenv(asBench, "1")
	os.Exit(m.Run())
}

// TestEveryRow: at a hundredth of their size, all rows have all their figures.
func TestEveryRow(t *testing.T) {
	var out bytes.Buffer
	l := &lab{scale: 100, rounds: 1, all: true}
	assert.NoError(t, measureRows(t.Context(), l, "", true, &out))
	figures := make(map[string]int)
	for decoder := json.NewDecoder(&out); decoder.More(); {
		var f struct {
			Row, Figure string
			Value       *float64
		}
		assert.NoError(t, decoder.Decode(&f))
		if f.Value == nil || math.IsNaN(*f.Value) || math.IsInf(*f.Value, 0) {
			t.Errorf("%s: %s has no value", f.Row, f.Figure)
		}
		figures[f.Row]++
	}
	want := map[string]int{
		"create": 2, "batch": 2, "dispatch": 2, "paced": 2, "drain": 2, "slow": 4, "pending": 2,
		"idle": 2, "arrival": 10, "late": 7, "rate": 14, "finished": 1, "flat": 4,
	}
	for _, r := range rows {
		assert.Equal(t, figures[r.name], want[r.name])
	}
}

// TestNoFigureOfARunThatFailed: not even of the rounds before.
func TestNoFigureOfARunThatFailed(t *testing.T) {
	nothing, err := exec.LookPath("false")
	if err != nil {
		t.Skip(err)
	}
	var out bytes.Buffer
	err = measureRows(t.Context(), &lab{program: nothing, scale: 100, rounds: 1}, "create", true, &out)
	assert.ErrorContains(t, err, "create: no figures: ")
	assert.Equal(t, out.String(), "")
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{[]float64{3}, 0.5, 3},
		{[]float64{4, 1, 3}, 0.5, 3},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{4, 1, 3, 2}, 1, 4},
		{[]float64{5, 4, 3, 2, 1, 6, 7, 8, 9, 10}, 0.99, 10},
		{[]float64{5, 4, 3, 2, 1, 6, 7, 8, 9, 10}, 0.9, 10},
	} {
		assert.Equal(t, quantile(tc.values, tc.q), tc.want)
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	// A burst of 10 at 10 a second, then tokens of which each is 100 ms away.
	arrivals := func(every time.Duration) []time.Time {
		at := make([]time.Time, 30)
		for i := range at {
			at[i] = time.Unix(0, 0).Add(time.Duration(max(i-9, 0)) * every)
		}
		return at
	}
	share, first, err := pace(arrivals(100*time.Millisecond), time.Unix(0, 0), 10, time.Second+time.Millisecond)
	assert.NoError(t, err)
	assert.Equal(t, math.Round(1000*share), 1000)
	assert.Equal(t, math.Round(first), 10)
	share, _, err = pace(arrivals(80*time.Millisecond), time.Unix(0, 0), 10, time.Second)
	assert.NoError(t, err)
	assert.Equal(t, math.Round(1000*share), 1250)
	_, _, err = pace(arrivals(time.Second)[:11], time.Unix(0, 0), 10, time.Second)
	assert.ErrorContains(t, err, "11 tasks arrived")
}

func TestAims(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		aim   aim
		value float64
		met   bool
		says  string
	}{
		{atMost(42), 42, true, "≤ 42"},
		{atMost(0.2), 0.21, false, "≤ 0.20"},
		{atLeast(14_000), 13_999, false, "≥ 14000"},
		{within(0.2, 100), 99.9, true, "100 ± 0.20"},
		{within(0.2, 100), 100.3, false, "100 ± 0.20"},
		{aim{}, 1, true, ""},
	} {
		assert.Equal(t, tc.aim.met(tc.value), tc.met)
		assert.Equal(t, tc.aim.String(), tc.says)
	}
}
