package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/internal/assert"
)

// runs returns an experiment that takes the given µs a task, round by round.
func runs(row Row, micros ...float64) *experiment {
	round := 0
	return &experiment{row: row, run: func(context.Context) (sample, error) {
		used := micros[min(round, len(micros)-1)]
		round++
		if used < 0 {
			return sample{}, errors.New("one response was 503")
		}
		cpu := time.Duration(used * 100 * float64(time.Microsecond))
		return sample{tasks: 100, wall: time.Second, cpu: map[string]time.Duration{workerCPU: cpu, redisCPU: cpu / 10, loadCPU: time.Hour}}, nil
	}}
}

func silent(string) {}

func TestMediansWithoutTheFirstRound(t *testing.T) {
	e := runs(Row{Section: "worker", Name: withHandoff}, 1000, 40, 60, 50)
	interleave(t.Context(), 3, []*experiment{e}, silent)
	row := e.result()
	assert.Equal(t, row.Error, "")
	assert.Equal(t, row.CPU[workerCPU], Figure{Median: 50, Least: 40, Most: 60})
	assert.Equal(t, row.CPU[workerCPU].String(), "50.0 (40.0–60.0)")
	assert.Equal(t, row.Rate.Median, 100)
	assert.Equal(t, row.All.Median, 55) // without the load's
}

func TestNoFiguresFromARunWithErrors(t *testing.T) {
	good := runs(Row{Section: "worker", Name: withHandoff, Token: seenToken, InFlight: 100}, 40)
	bad := runs(Row{Section: "worker", Name: bareEcho, Token: seenToken, InFlight: 100}, 30, 30, -1)
	interleave(t.Context(), 3, []*experiment{good, bad}, silent)
	r := &Report{Rows: results([]*experiment{good, bad})}
	r.compare()
	assert.Equal(t, len(good.samples), 3)
	assert.Equal(t, r.failures(), []string{"worker, echo, token seen before, 100 in flight: one response was 503"})
	if rate := r.Rows[1].Rate; rate != (Figure{}) {
		t.Errorf("a case that failed has figures: %v", rate)
	}
	if text := figuresBlock(r); !strings.Contains(text, "failed") || strings.Contains(text, "30.0") || strings.Contains(text, "times bare echo") {
		t.Errorf("the report uses a case that failed:\n%s", text)
	}
}

func TestEveryOtherRoundGoesBackwards(t *testing.T) {
	var order []string
	var all []*experiment
	for _, name := range []string{"a", "b", "c"} {
		all = append(all, &experiment{run: func(context.Context) (sample, error) {
			order = append(order, name)
			return sample{tasks: 1}, nil
		}})
	}
	interleave(t.Context(), 2, all, silent)
	assert.Equal(t, strings.Join(order, ""), "abccbaabc")
}

// figures returns the report of a made-up run.
func figures() *Report {
	row := func(section, name, token string, inFlight int, worker, store float64) Row {
		return Row{
			Section: section, Name: name, Token: token, InFlight: inFlight,
			CPU: map[string]Figure{workerCPU: {Median: worker}, redisCPU: {Median: store}},
			All: Figure{Median: worker + store},
		}
	}
	r := &Report{
		Date: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), Rounds: 5,
		Rows: []Row{
			row("worker", bareEcho, seenToken, 100, 30, 0),
			row("worker", withHandoff, seenToken, 100, 44, 10),
			row("worker", withHandoff, newTokens, 100, 111, 10),
			row("asynq", "asynq, README", "", 10, 140, 90),
			row("asynq", "asynq, tuned", "", 100, 99, 60),
		},
	}
	r.compare()
	return r
}

func TestDocs(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, "performance.md")
	assert.NoError(t, os.WriteFile(page, []byte("mine\nalso mine\n"), 0o600))
	assert.ErrorContains(t, writeDocs(dir, figures()), "bench:figures")

	assert.NoError(t, os.WriteFile(page, []byte("mine\n<!-- bench:figures -->\nold\n<!-- /bench:figures -->\nalso mine\n"), 0o600))
	for range 2 { // the second time changes nothing
		assert.NoError(t, writeDocs(dir, figures()))
	}
	text, err := os.ReadFile(page)
	assert.NoError(t, err)
	for _, want := range []string{"mine\n", "also mine\n", "| handoff | seen before | 100 | 44.0", "| 1.47 | times bare echo", "2026-11-23"} {
		assert.Equal(t, strings.Count(string(text), want) > 0, true)
	}
	if strings.Contains(string(text), "old") {
		t.Errorf("the old figures are still there:\n%s", text)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0.123: "0.12", 9.87: "9.87", 12.34: "12.3", 123.4: "123", 1234.5: "1,235", 1234567: "1,234,567"} {
		assert.Equal(t, number(v), want)
	}
}
