package main

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestTablesAreAligned(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	con := &console{out: &out, colour: true}
	l := con.list(outputFlags{}, "QUEUE", "STATE", "TASKS")
	assert.NoError(t, l.add(nil, text("emails"), cell{"PAUSED", yellow}, number(3)))
	assert.NoError(t, l.add(nil, text("überraschung"), cell{"RUNNING", green}, number(1000)))
	assert.NoError(t, l.end())
	assert.Equal(t, out.String(), ""+
		"QUEUE         STATE    TASKS\n"+
		"emails        \x1b[33mPAUSED\x1b[0m   3\n"+
		"überraschung  \x1b[32mRUNNING\x1b[0m  1000\n")
}

func TestLongTablesNameTheirColumnsOnce(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	con := &console{out: &out}
	l := con.list(outputFlags{}, "N")
	for i := range 2*tablePage + 1 {
		assert.NoError(t, l.add(nil, number(i)))
	}
	assert.Equal(t, strings.Count(out.String(), "\n"), 1+2*tablePage)
	assert.NoError(t, l.end())
	assert.Equal(t, strings.Count(out.String(), "\n"), 2+2*tablePage)
	assert.Equal(t, strings.Count(out.String(), "N"), 1)
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, as := range []string{"table", "json"} {
		l := (&console{out: broken{}}).list(outputFlags{Output: as}, "N")
		assert.ErrorContains(t, errors.Join(l.add(1, number(1)), l.end()), "write the output: disk full")
	}
}

// TestOtherPeoplesWords: what a task or an error says cannot drive a terminal.
func TestOtherPeoplesWords(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ in, want string }{
		{"Grüße, 世界 🚚", "Grüße, 世界 🚚"},
		{"\x1b[2J\x1b]0;gotcha\a", `\x1b[2J\x1b]0;gotcha\a`},
		{"two\nlines\tand\r", `two\nlines\tand\r`},
		{"\u009b31m", `\u009b31m`},
		{"txt.\u202Eexe", `txt.\u202eexe`},
		{"\xff\xfe!", `\xff\xfe!`},
		{"\uFFFD", `\ufffd`},
	} {
		assert.Equal(t, printable(tc.in), tc.want)
	}
	var out strings.Builder
	con := &console{out: &out, err: &out}
	assert.NoError(t, con.describe(outputFlags{}, nil, fact("error", "\x1b[2J")))
	con.sayf("%s", "\x1b[2J")
	assert.Equal(t, out.String(), "error  \\x1b[2J\n\\x1b[2J\n")
}

// TestEveryRuneIsPrintable: what is shown has nothing to escape any more.
func TestEveryRuneIsPrintable(t *testing.T) {
	t.Parallel()
	check := func(s string) {
		shown := printable("a" + s + "z")
		if strings.ContainsFunc(shown, hostile) || printable(shown) != shown {
			t.Fatalf("%q shows as %q", s, shown)
		}
	}
	for r := range rune(unicode.MaxRune + 1) {
		check(string(r))
	}
	for b := range 256 {
		check(string([]byte{byte(b)}))
	}
}

func TestAges(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		ago  time.Duration
		want string
	}{
		{0, "now"},
		{-999 * time.Millisecond, "now"},
		{59 * time.Second, "59s ago"},
		{-90 * time.Second, "in 1m"},
		{47 * time.Hour, "47h ago"},
		{48 * time.Hour, "2d ago"},
	} {
		assert.Equal(t, age(now.Add(-tc.ago), now), tc.want)
	}
	assert.Equal(t, age(time.Time{}, now), "")
	assert.Equal(t, moment(now.Add(-time.Minute), now), "2026-11-23T11:59:00Z (1m ago)")
	assert.Equal(t, moment(time.Time{}, now), "")
}

func TestErrorsAreLinesOfTheirOwn(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want string
		code int
	}{
		{errors.New("one"), "handoff: error: one\n", 1},
		{errors.Join(errors.New("one"), errors.Join(errors.New("two"), errors.New("three"))), "handoff: error: one\nhandoff: error: two\nhandoff: error: three\n", 1},
		{usagef("no %s", "queue"), "handoff: error: no queue\n", 2},
		{usageError{errors.Join(errors.New("one"), errors.New("two"))}, "handoff: error: one\nhandoff: error: two\n", 2},
		{errDiffers, "", 3},
		{errToldAlready, "", 1},
	} {
		var said strings.Builder
		con := &console{err: &said}
		assert.Equal(t, con.fail(t.Context(), tc.err), tc.code)
		assert.Equal(t, said.String(), tc.want)
	}
}

// TestFieldsOfTheOutput holds the JSON to the table of docs/operating.md, where
// names are never changed.
func TestFieldsOfTheOutput(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operating.md")
	assert.NoError(t, err)
	for _, value := range []any{
		queueJSON{}, statsJSON{}, changeJSON{}, fieldJSON{}, taskJSON{}, retryJSON{}, attemptJSON{},
		receiptJSON{}, letterJSON{}, keyJSON{}, resultJSON{}, versionJSON{},
	} {
		var cell strings.Builder
		for f := range reflect.TypeOf(value).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			cell.WriteString(" `" + name + "`")
		}
		if !strings.Contains(string(page), " |"+cell.String()+" |\n") {
			t.Errorf("docs/operating.md has no row for %T:%s", value, cell.String())
		}
	}
}

// TestSecretsAreNotShownUnasked: headers and payloads are for --payload alone,
// and header values of an override are never shown.
func TestSecretsAreNotShownUnasked(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	task := admin.Task{Header: map[string][]string{"X-Api-Key": {secret}}, Body: []byte(secret)}
	letter := handoff.DeadLetter{Header: task.Header, Payload: task.Body}
	queue := admin.Queue{Config: admin.QueueConfig{HTTPTarget: &admin.HTTPOverride{Headers: map[string]string{"X-Api-Key": secret}}}}
	for _, tc := range []struct {
		show payloadFlag
		want bool
	}{{payloadFlag{}, false}, {payloadFlag{Payload: true}, true}} {
		for what, shown := range map[string]any{
			"task as JSON":   jsonOfTask(task, tc.show),
			"task":           taskFacts(task, tc.show, time.Time{}),
			"letter as JSON": jsonOfLetter(letter, tc.show),
			"letter":         letterFacts(letter, tc.show, time.Time{}),
		} {
			if got := strings.Contains(shownAs(t, shown), secret); got != tc.want {
				t.Errorf("%s with %+v: the secret is there: %t", what, tc.show, got)
			}
		}
	}
	for _, shown := range []any{jsonOfQueue(queue), queueFacts(queue, time.Time{}), settingJSON("http_target", queue.Config.HTTPTarget)} {
		if strings.Contains(shownAs(t, shown), secret) {
			t.Errorf("the secret is in %v", shown)
		}
	}
}

// shownAs is a value as the program writes it.
func shownAs(t *testing.T, value any) string {
	t.Helper()
	if facts, ok := value.([][]cell); ok {
		var out strings.Builder
		assert.NoError(t, (&console{out: &out}).describe(outputFlags{}, nil, facts...))
		return out.String()
	}
	encoded, err := json.Marshal(value)
	assert.NoError(t, err)
	return string(encoded)
}

func TestSettingsOfAChange(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		key  string
		in   any
		want string
	}{
		{"max_attempts", handoff.Unlimited, "-1"},
		{"max_doublings", handoff.NoDoublings, "0"},
		{"max_doublings", 3, "3"},
		{"max_dispatches_per_second", 0.5, "0.5"},
		{"min_backoff", 90 * time.Second, `"1m30s"`},
		{"app_engine", &admin.AppEngineRouting{Service: "s"}, `"{service: s}"`},
		{"app_engine", (*admin.AppEngineRouting)(nil), "null"},
		{"app_engine", nil, "null"},
	} {
		assert.Equal(t, shownAs(t, settingJSON(tc.key, tc.in)), tc.want)
	}
}
