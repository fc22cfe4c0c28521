package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff"
)

// crashed is work whose attempts are all used up; each is what of makes of its claim.
func crashed(of func(claim event) []event) []event {
	events := []event{{What: evEnqueued, ID: "w", Out: actOK}}
	for i := range maxAttempts {
		name := fmt.Sprint("run", i)
		events = append(events, of(event{What: evClaimed, ID: "w", Run: name, PID: 1, Att: i + 1, Tok: int64(i)})...)
	}
	return append(events, event{What: evLetter, ID: "w", Run: "last", PID: 9})
}

func letters(reasons ...handoff.Reason) map[string][]handoff.DeadLetter {
	found := map[string][]handoff.DeadLetter{}
	for _, reason := range reasons {
		found["w"] = append(found["w"], handoff.DeadLetter{Reasons: []handoff.Reason{reason}})
	}
	return found
}

// TestTheCheckerBites: each rule, broken in a ledger of a few lines.
func TestTheCheckerBites(t *testing.T) {
	t.Parallel()
	enqueued := event{What: evEnqueued, ID: "w", Out: actOK}
	start := func(run string, pid, att int, tok int64) event {
		return event{What: evStart, ID: "w", Run: run, PID: pid, Att: att, Tok: tok}
	}
	at := func(what, run string, pid int) event { return event{What: what, ID: "w", Run: run, PID: pid} }
	buried := func() []event { // and redriven
		return []event{
			enqueued, start("a", 1, 1, 10), at(evEnd, "a", 1), at(evLetter, "a", 1), {What: evRedrive, ID: "w"}, {What: evRedriven, ID: "w"},
			{What: evStart, ID: "w", Run: "b", Task: "again", PID: 2, Red: 1, Tok: 20, Att: 1}, at(evEffect, "b", 2), at(evEnd, "b", 2),
		}
	}
	good := []event{enqueued, start("a", 1, 1, 10), at(evEffect, "a", 1), at(evEnd, "a", 1), at(evMarked, "a", 1)}
	tests := []struct {
		name    string
		events  []event
		letters map[string][]handoff.DeadLetter
		says    string // empty: no violation
	}{
		{"all is well", good, nil, ""},
		{"killed between effect and mark", []event{
			enqueued, start("a", 1, 1, 10), at(evEffect, "a", 1), {What: evExit, PID: 1},
			start("b", 2, 2, 20), at(evEffect, "b", 2), at(evEnd, "b", 2), at(evMarked, "b", 2),
		}, nil, ""},
		{"told before the newer began", []event{
			enqueued, start("a", 1, 1, 10), at(evLost, "a", 1),
			start("b", 2, 2, 20), at(evEnd, "a", 1), at(evEffect, "b", 2), at(evEnd, "b", 2), at(evMarked, "b", 2),
		}, nil, ""},
		{"lost", []event{enqueued, start("a", 1, 1, 10), at(evEnd, "a", 1), at(evMarked, "a", 1)}, nil, "lost: ok has no effect"},
		{"never delivered", []event{enqueued}, nil, "after 0 runs"},
		{"buried", []event{enqueued, start("a", 1, 1, 10), at(evLetter, "a", 1)}, letters(handoff.ReasonExhausted), ""},
		{"two letters", good, letters(handoff.ReasonExhausted, handoff.ReasonCrashed), "2 dead letters"},
		{"a letter of nothing", good, map[string][]handoff.DeadLetter{"x": {{}}}, "never enqueued"},
		{"overlap", []event{
			enqueued, start("a", 1, 1, 10), start("b", 2, 2, 20), at(evEnd, "a", 1), at(evEffect, "b", 2), at(evEnd, "b", 2), at(evMarked, "b", 2),
		}, nil, "had not ended and was not told"},
		{"told too late", []event{
			enqueued, start("a", 1, 1, 10), start("b", 2, 2, 20), at(evLost, "a", 1), at(evEnd, "a", 1), at(evEffect, "b", 2), at(evEnd, "b", 2), at(evMarked, "b", 2),
		}, nil, "had not ended and was not told"},
		{"token goes back", []event{
			enqueued, start("a", 1, 1, 20), at(evEnd, "a", 1), start("b", 1, 2, 10), at(evEffect, "b", 1), at(evEnd, "b", 1), at(evMarked, "b", 1),
		}, nil, "fencing token 10, the run before it 20"},
		{"effects out of order", []event{
			enqueued, start("a", 1, 1, 10), at(evLost, "a", 1), start("b", 2, 2, 20), at(evEffect, "b", 2), at(evEffect, "a", 1), at(evEnd, "b", 2), at(evMarked, "b", 2),
		}, nil, "an effect with fencing token 10 came after one with 20"},
		{"run after the mark", append(append([]event{}, good...), start("b", 2, 2, 20), at(evEnd, "b", 2)), nil, "after marked"},
		{"a newer generation after the mark", append(append([]event{}, good...),
			event{What: evStart, ID: "w", Run: "b", PID: 2, Gen: 1, Tok: 20, Att: 1}, at(evEnd, "b", 2)), nil, "after marked"},
		{"a newer generation after it was opened", []event{
			enqueued, start("a", 1, 1, 10), at(evEnd, "a", 1), {What: evMarked, ID: "w", Run: "a", PID: 1, Out: markOpened},
			{What: evStart, ID: "w", Run: "b", PID: 2, Gen: 1, Tok: 20, Att: 1}, at(evEffect, "b", 2), at(evEnd, "b", 2),
		}, nil, ""},
		{"run after the letter", []event{
			enqueued, start("a", 1, 1, 10), at(evEnd, "a", 1), at(evLetter, "a", 1), start("b", 2, 2, 20), at(evEnd, "b", 2),
		}, letters(handoff.ReasonPermanent), "after letter"},
		{"redriven", buried(), nil, ""},
		{"redriven, and dead again", buried(), map[string][]handoff.DeadLetter{"w": {{Redrives: 1, Reasons: []handoff.Reason{handoff.ReasonExhausted}}}}, ""},
		{"redriven by two tasks", append(buried(), event{What: evStart, ID: "w", Run: "c", Task: "other", PID: 2, Red: 1, Tok: 30, Att: 2}, at(evEnd, "c", 2)), nil, "is of task other, another one of task again"},
		{"redriven before it was asked for", slices.Delete(buried(), 4, 6), nil, "which nobody asked for"},
		{"redriven, and never run", buried()[:6], nil, "did not run again"},
		{"redriven, and its letter not marked", buried(), letters(handoff.ReasonExhausted), "is not marked"},
		{"a copy of a foreign task", []event{
			{What: evEnqueued, ID: "w", Out: actOK, Origin: originForeign},
			{What: evStart, ID: "w", Run: "a", PID: 1, Gen: 1, Tok: 10, Att: 1}, at(evEffect, "a", 1), at(evEnd, "a", 1),
		}, nil, "of a foreign task"},
		{"a foreign task that is snoozed, and no letter", []event{
			{What: evEnqueued, ID: "w", Out: actSnooze, Origin: originForeign}, start("a", 1, 1, 10), at(evEffect, "a", 1), at(evEnd, "a", 1), at(evMarked, "a", 1),
		}, nil, "snooze left no dead letter"},
		{"two tasks of work without a key", []event{
			enqueued, {What: evStart, ID: "w", Run: "a", Task: "one", PID: 1, Att: 1, Tok: 10}, at(evEnd, "a", 1),
			{What: evStart, ID: "w", Run: "b", Task: "other", PID: 1, Tok: 20, Att: 2}, at(evEffect, "b", 1), at(evEnd, "b", 1), at(evMarked, "b", 1),
		}, nil, "is of task other, another one of task one"},
		{"second effect unexplained", []event{
			enqueued, start("a", 1, 1, 10), at(evEffect, "a", 1), at(evEnd, "a", 1),
			start("b", 2, 2, 20), at(evEffect, "b", 2), at(evEnd, "b", 2), at(evMarked, "b", 2),
		}, nil, "nothing explains it"},
		{"attempt given again", []event{
			enqueued, start("a", 1, 1, 10), at(evEnd, "a", 1), at(evCounted, "a", 1),
			start("b", 1, 1, 20), at(evEffect, "b", 1), at(evEnd, "b", 1), at(evMarked, "b", 1),
		}, nil, "after attempt 1 counted"},
		{"attempt beyond the limit", []event{
			enqueued, start("a", 1, maxAttempts+1, 10), at(evEffect, "a", 1), at(evEnd, "a", 1), at(evMarked, "a", 1),
		}, nil, "is attempt 7 of 6"},
		{"overlap with a worker that stands still", []event{
			enqueued, start("a", 1, 1, 10), {What: evStopped, PID: 1}, start("b", 2, 2, 20), at(evEffect, "b", 2), at(evEnd, "b", 2), at(evMarked, "b", 2),
			{What: evResumed, PID: 1}, at(evEffect, "a", 1), at(evLost, "a", 1), at(evEnd, "a", 1),
		}, nil, ""},
		{"overlap before a worker stands still", []event{
			enqueued, start("a", 1, 1, 10), start("b", 2, 2, 20), {What: evStopped, PID: 1}, at(evEffect, "b", 2), at(evEnd, "b", 2), at(evMarked, "b", 2),
		}, nil, "had not ended and was not told"},
		{"crashed, and nothing died", crashed(func(e event) []event { return []event{e, at(evEnd, e.Run, 1), at(evCounted, e.Run, 1)} }),
			letters(handoff.ReasonCrashed), "all of its attempts failed"},
		{"crashed, and workers died", crashed(func(e event) []event { e.PID = 10 + e.Att; return []event{e, {What: evExit, PID: e.PID}} }),
			letters(handoff.ReasonCrashed), ""},
		{"goroutines left", append(append([]event{}, good...), event{What: evDrained, PID: 1, N: 3}), nil, "3 goroutines are left over"},
	}
	many := []event{}
	for i := range 30 { // each has a second effect that is explained
		id := fmt.Sprint("w", i)
		for _, e := range []event{
			enqueued, start("a", 1, 1, 10), at(evEffect, "a", 1), at(evEnd, "a", 1), at(evUnmarked, "a", 1),
			start("b", 2, 2, 20), at(evEffect, "b", 2), at(evEnd, "b", 2), at(evMarked, "b", 2),
		} {
			e.ID = id
			many = append(many, e)
		}
	}
	tests = append(tests, tests[0])
	tests[len(tests)-1].name, tests[len(tests)-1].events, tests[len(tests)-1].says = "too many excuses", many, "30 of 60 runs of ours are excused"
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for i := range tt.events {
				tt.events[i].T = int64(i + 1)
			}
			violations := strings.Join(check(tt.events, tt.letters).violations, "\n")
			if tt.says == "" && violations != "" || !strings.Contains(violations, tt.says) {
				t.Errorf("got %q, want %q", violations, tt.says)
			}
		})
	}
}
