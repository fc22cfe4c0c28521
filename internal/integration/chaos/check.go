package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// report is what the checker found.
type report struct {
	violations []string
	endings    map[string]int // how tasks ended
	repeats    map[string]int // second effects, by what explains them
	stood      int            // overlaps of a run whose worker stood still and could not be told
	crashed    map[string]int // attempts of tasks that were buried as crashed, by how they ended
	runs       int
	troubles   map[string]int
	took       time.Duration
}

// execution is one run of a handler.
type execution struct {
	run              string
	pid              int
	gen, att         int
	tok              int64
	start            int64
	effects          []int64
	lost, end        int64 // 0: never
	marked, unmarked int64
	letter           int64
	counted          bool
	claimed          bool
	out              string
}

const never = int64(1) << 62

// check holds the ledger against what is promised. It looks at one piece of
// work after the other; letters are those in the store at the end.
func check(events []event, letters map[string][]string) *report {
	c := &checker{
		report: &report{endings: map[string]int{}, repeats: map[string]int{}, crashed: map[string]int{}},
		acts:   map[string]string{}, exits: map[int]int64{}, stops: map[int][]stop{}, work: map[string]map[string]*execution{}, done: map[string][]event{},
	}
	for _, e := range events {
		c.read(e)
	}
	for _, id := range slices.Sorted(maps.Keys(c.acts)) {
		c.checkWork(id, c.acts[id], letters[id])
	}
	for id := range letters {
		if _, known := c.acts[id]; !known {
			c.violatef(id, "a dead letter of work that was never enqueued")
		}
	}
	c.checkExcuses()
	return c.report
}

type checker struct {
	report *report
	acts   map[string]string                // work → act
	exits  map[int]int64                    // process → when it was gone
	stops  map[int][]stop                   // process → when it stood still
	work   map[string]map[string]*execution // work → delivery → execution
	done   map[string][]event               // work → marks and letters, in order
}

func (c *checker) violatef(id, format string, args ...any) {
	c.report.violations = append(c.report.violations, id+": "+fmt.Sprintf(format, args...))
}

func (c *checker) read(e event) {
	switch e.What {
	case evEnqueued:
		c.acts[e.ID] = e.Out
		return
	case evExit:
		c.exits[e.PID] = e.T
		return
	case evStopped:
		c.stops[e.PID] = append(c.stops[e.PID], stop{e.T, never})
		return
	case evResumed:
		c.stops[e.PID][len(c.stops[e.PID])-1].to = e.T
		return
	case evDrained:
		if e.N > 0 {
			c.violatef(fmt.Sprint("worker ", e.PID), "%d goroutines are left over after it drained", e.N)
		}
		return
	}
	if c.work[e.ID] == nil {
		c.work[e.ID] = map[string]*execution{}
	}
	x := c.work[e.ID][e.Run]
	if x == nil {
		x = &execution{run: e.Run, pid: e.PID, gen: e.Gen, start: never}
		c.work[e.ID][e.Run] = x
	}
	switch e.What {
	case evClaimed:
		x.claimed, x.att = true, e.Att
	case evStart:
		x.start, x.tok, x.att = e.T, e.Tok, e.Att
	case evEffect:
		x.effects = append(x.effects, e.T)
	case evLost:
		x.lost = e.T
	case evEnd:
		x.end, x.out = e.T, e.Out
	case evMarked:
		x.marked = e.T
		c.done[e.ID] = append(c.done[e.ID], e)
	case evUnmarked:
		x.unmarked = e.T
	case evLetter:
		x.letter = e.T
		c.done[e.ID] = append(c.done[e.ID], e)
	case evCounted:
		x.counted = true
	}
}

// gone is when x can no longer have done anything.
func (c *checker) gone(x *execution) int64 {
	end := never
	if x.end > 0 {
		end = x.end
	}
	if exit, ok := c.exits[x.pid]; ok {
		end = min(end, exit)
	}
	return end
}

func (c *checker) checkWork(id, act string, letters []string) {
	var runs []*execution
	for _, x := range c.work[id] {
		if x.start != never {
			runs = append(runs, x)
		}
	}
	slices.SortFunc(runs, func(a, b *execution) int { return int(a.start - b.start) })
	c.report.runs += len(runs)
	c.checkOverlaps(id, runs)
	c.checkTokens(id, runs)
	c.checkAttempts(id, runs)
	c.checkAfterTheEnd(id, runs)
	c.checkEffects(id, runs)
	c.checkEnding(id, act, runs, letters)
}

// Two runs of the same work never overlap, unless the older was told before
// the newer started, or its process was gone.
func (c *checker) checkOverlaps(id string, runs []*execution) {
	for i, older := range runs {
		for _, newer := range runs[i+1:] {
			if newer.start >= c.gone(older) || older.lost > 0 && older.lost < newer.start {
				continue
			}
			if c.stood(older.pid, newer.start) {
				c.report.stood++
				continue
			}
			c.violatef(id, "run %s began %s after run %s, which had not ended and was not told", newer.run, span(newer.start-older.start), older.run)
		}
	}
}

// Fencing tokens grow from run to run, and effects happen in their order.
func (c *checker) checkTokens(id string, runs []*execution) {
	type effect struct {
		at, tok int64
		pid     int
	}
	var effects []effect
	for i, x := range runs {
		if i > 0 && x.tok <= runs[i-1].tok {
			c.violatef(id, "run %s has fencing token %d, the run before it %d", x.run, x.tok, runs[i-1].tok)
		}
		for _, at := range x.effects {
			effects = append(effects, effect{at, x.tok, x.pid})
		}
	}
	slices.SortFunc(effects, func(a, b effect) int { return int(a.at - b.at) })
	for i := 1; i < len(effects); i++ {
		if effects[i].tok < effects[i-1].tok && !c.stood(effects[i].pid, effects[i].at) {
			c.violatef(id, "an effect with fencing token %d came after one with %d", effects[i].tok, effects[i-1].tok)
		}
	}
}

// An attempt that counted is never given again, and none is beyond the limit.
func (c *checker) checkAttempts(id string, runs []*execution) {
	for i, x := range runs {
		if x.att > maxAttempts {
			c.violatef(id, "run %s is attempt %d of %d", x.run, x.att, maxAttempts)
		}
		if i == 0 || runs[i-1].gen != x.gen {
			continue
		}
		if before := runs[i-1]; before.counted && x.att <= before.att {
			c.violatef(id, "run %s is attempt %d, after attempt %d counted", x.run, x.att, before.att)
		}
	}
}

// Nothing runs after the work was marked as done or its letter was taken, but
// for a newer generation.
func (c *checker) checkAfterTheEnd(id string, runs []*execution) {
	for _, over := range c.done[id] {
		for _, x := range runs {
			if x.start > over.T && x.gen <= over.Gen && x.run != over.Run {
				c.violatef(id, "run %s of generation %d began %s after %s", x.run, x.gen, span(x.start-over.T), over.What)
			}
		}
	}
}

// A second effect is explained by what happened to the run before it.
func (c *checker) checkEffects(id string, runs []*execution) {
	var before *execution
	for _, x := range runs {
		if len(x.effects) > 1 {
			c.violatef(id, "run %s had %d effects", x.run, len(x.effects))
		}
		if len(x.effects) == 0 {
			continue
		}
		if before != nil {
			why := c.explain(before, x)
			if why == "" {
				c.violatef(id, "runs %s and %s both had their effect, and nothing explains it", before.run, x.run)
			} else {
				c.report.repeats[why]++
			}
		}
		before = x
	}
}

func (c *checker) explain(before, x *execution) string {
	exit, gone := c.exits[before.pid]
	switch {
	case before.lost > 0:
		return "the lease was lost"
	case before.marked > 0 && before.marked < x.start:
		return "" // it was marked, so there is no excuse
	case c.stood(before.pid, x.start):
		return "the worker stood still"
	case gone && exit < x.start:
		return "the worker died between effect and mark"
	case before.unmarked > 0:
		return "the store was away at the mark"
	case before.out == "failed" || before.out == "interrupted":
		return "the run failed after its effect"
	}
	return ""
}

// Nothing is lost: each task is done with its effect, dropped on purpose, or a
// dead letter with a reason that its act can have.
func (c *checker) checkEnding(id, act string, runs []*execution, letters []string) {
	if len(letters) > 1 {
		c.violatef(id, "%d dead letters: %v", len(letters), letters)
	}
	effects, dropped := 0, false
	for _, x := range runs {
		effects += len(x.effects)
		dropped = dropped || x.out == "dropped"
	}
	switch {
	case len(letters) > 0:
		c.report.endings["dead: "+letters[0]]++
		if letters[0] == "crashed" {
			c.checkCrashed(id)
		}
		if act == actPermanent && letters[0] != "permanent" && letters[0] != "crashed" && letters[0] != "exhausted" {
			c.violatef(id, "%s was buried as %s", act, letters[0])
		}
	case act == actDrop && dropped:
		c.report.endings["dropped"]++
	case act == actFailAlways || act == actPermanent || act == actPoison:
		c.violatef(id, "%s left no dead letter", act)
	case effects == 0:
		c.violatef(id, "lost: %s has no effect and no dead letter after %d runs", act, len(runs))
	default:
		c.report.endings["done"]++
	}
}

func span(ns int64) time.Duration { return time.Duration(ns).Round(time.Microsecond) }

const shown = 20

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%d runs in %s\n", r.runs, r.took.Round(time.Second))
	printCounts(w, "what went wrong", r.troubles)
	printCounts(w, "how tasks ended", r.endings)
	printCounts(w, "second effects, explained", r.repeats)
	printCounts(w, "attempts of tasks that were buried as crashed", r.crashed)
	fmt.Fprintf(w, "%d overlaps with a run whose worker stood still\n", r.stood)
	fmt.Fprintf(w, "%d violations\n", len(r.violations))
	for _, v := range r.violations[:min(shown, len(r.violations))] {
		fmt.Fprintln(w, "  ", v)
	}
}

func printCounts(w io.Writer, title string, counts map[string]int) {
	fmt.Fprintln(w, title+":")
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "  %6d  %s\n", counts[name], name)
	}
}
