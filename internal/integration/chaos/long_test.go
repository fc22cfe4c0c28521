package main

import (
	"strings"
	"testing"
)

// TestTheCheckerOfLongWorkBites breaks each rule in a ledger of a few lines.
func TestTheCheckerOfLongWorkBites(t *testing.T) {
	t.Parallel()
	at := func(tok int64, what, step string, n int) event {
		return event{What: what, ID: "w", Tok: tok, Out: step, N: n}
	}
	long := at(0, evLong, "", 3)
	first := []event{long, at(1, evStepRuns, "first", 0), at(1, evStepDone, "first", 0), at(1, evFrom, "", 0), at(1, evSaved, "", 2)}
	rest := []event{at(2, evStepDone, "first", 0), at(2, evFrom, "", 2), at(2, evSaved, "", 3), at(2, evStepDone, "parts", 0), at(2, evLongDone, "", 0)}
	for name, tc := range map[string]struct {
		events [][]event
		says   string // empty: no violation
	}{
		"all is well":          {[][]event{first, rest}, ""},
		"a late line":          {[][]event{first, rest, {at(1, evSaved, "", 2)}}, ""}, // of a worker that stood still
		"the running step":     {[][]event{{long, at(1, evStepRuns, "first", 0), at(2, evStepRuns, "first", 0)}, rest}, ""},
		"a position goes back": {[][]event{first, {at(2, evFrom, "", 1)}, rest[2:]}, "a run begins at 1, and an earlier one had saved 2"},
		"a step again":         {[][]event{first, {at(2, evStepRuns, "first", 0)}, rest}, "step first runs again after it finished"},
		"the positions again":  {[][]event{first, rest, {at(3, evFrom, "", 3)}}, "the step with positions runs again"},
		"it does not end":      {[][]event{first, rest[:4]}, "long work did not end: 3 of 3 parts"},
		"it was never run":     {[][]event{{long}}, "long work did not end: 0 of 3 parts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var events []event
			for _, some := range tc.events {
				events = append(events, some...)
			}
			violations := strings.Join(check(events, nil).violations, "\n")
			if tc.says == "" && violations != "" || !strings.Contains(violations, tc.says) {
				t.Errorf("got %q, want %q", violations, tc.says)
			}
		})
	}
}
