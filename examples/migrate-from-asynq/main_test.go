package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

func TestMain(m *testing.M) { assert.NoLeaksMain(m) }

// Both programs do the same.
func TestBothDoTheSame(t *testing.T) {
	t.Parallel()
	out := new(bytes.Buffer)
	assert.NoError(t, run(t.Context(), out))
	before, after, ok := strings.Cut(out.String(), "after, on handoff:\n")
	if !ok {
		t.Fatalf("there is no after in\n%s", out)
	}
	want := []string{
		"before, on asynq:",
		`  {"user":"nobody"} failed for good`,
		"  ada is welcome, at attempt 1",
		"  edsger is enqueued already",
		"  edsger is welcome, at attempt 1",
		"  flaky is welcome, at attempt 2",
		"  grace is welcome, at attempt 1",
	}
	slices.Sort(want)
	assert.Equal(t, lines(before), want)
	want = slices.DeleteFunc(want, func(line string) bool { return line == "before, on asynq:" })
	assert.Equal(t, lines(after), want)
}

func lines(text string) []string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	slices.Sort(all)
	return all
}
