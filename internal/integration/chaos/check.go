package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
)

// report is what the checker found.
type report struct {
	violations []string
	story      []string       // of the work of the first one
	endings    map[string]int // how tasks ended
	works      map[string]int // pieces of work, by origin
	runsOf     map[string]int // runs, by origin
	excused    map[string]int // second effects and overlaps that are excused, by origin
	repeats    map[string]int // second effects, by what explains them
	stood      int            // overlaps of a run whose worker stood still and could not be told
	redriven   int            // letters
	crashed    map[string]int // attempts of tasks that were buried as crashed, by how they ended
	runs       int
	troubles   map[string]int
	took       time.Duration
}

// execution is one run of a handler.
type execution struct {
	run, task        string
	pid              int
	red, gen, att    int
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

// rank orders executions as the fence does: redrives count before generations.
func (x *execution) rank() int { return rank(x.red, x.gen) }

func rank(redrives, generation int) int { return redrives<<16 | generation }

// check holds the ledger against what is promised. It looks at one piece of
// work after the other; letters are those in the store at the end.
func check(events []event, letters map[string][]handoff.DeadLetter) *report {
	c := &checker{
		report: &report{
			endings: map[string]int{}, works: map[string]int{}, runsOf: map[string]int{}, excused: map[string]int{},
			repeats: map[string]int{}, crashed: map[string]int{},
		},
		acts: map[string]string{}, origins: map[string]string{}, exits: map[int]int64{}, stops: map[int][]stop{},
		work: map[string]map[string]*execution{}, done: map[string][]event{}, redrives: map[string][]event{},
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
	c.checkLong(events)
	return c.report
}

type checker struct {
	report   *report
	acts     map[string]string                // work → act
	origins  map[string]string                // work → how it was enqueued
	exits    map[int]int64                    // process → when it was gone
	stops    map[int][]stop                   // process → when it stood still
	work     map[string]map[string]*execution // work → delivery → execution
	done     map[string][]event               // work → marks and letters, in order
	redrives map[string][]event               // work → redrives, in order
}

func (c *checker) violatef(id, format string, args ...any) {
	c.report.violations = append(c.report.violations, id+": "+fmt.Sprintf(format, args...))
}

func (c *checker) read(e event) {
	switch e.What {
	case evEnqueued:
		c.acts[e.ID], c.origins[e.ID] = e.Out, e.Origin
		return
	case evRedrive, evRedriven:
		c.redrives[e.ID] = append(c.redrives[e.ID], e)
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
	c.readRun(e)
}

func (c *checker) readRun(e event) {
	if c.work[e.ID] == nil {
		c.work[e.ID] = map[string]*execution{}
	}
	x := c.work[e.ID][e.Run]
	if x == nil {
		x = &execution{run: e.Run, task: e.Task, pid: e.PID, red: e.Red, gen: e.Gen, start: never}
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
		if e.Out != markBuried { // its letter closes it
			c.done[e.ID] = append(c.done[e.ID], e)
		}
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

func (c *checker) checkWork(id, act string, letters []handoff.DeadLetter) {
	var runs []*execution
	for _, x := range c.work[id] {
		if x.start != never {
			runs = append(runs, x)
		}
	}
	slices.SortFunc(runs, func(a, b *execution) int { return int(a.start - b.start) })
	c.report.runs += len(runs)
	c.report.works[c.origin(id, nil)]++
	for _, x := range runs {
		c.report.runsOf[c.origin(id, x)]++
	}
	c.checkOverlaps(id, runs)
	c.checkTokens(id, runs)
	c.checkAttempts(id, runs)
	c.checkAfterTheEnd(id, runs)
	c.checkEffects(id, runs)
	c.checkTasks(id, runs)
	c.checkRedrives(id, runs, letters)
	c.checkForeign(id, runs)
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
				c.report.excused[c.origin(id, newer)]++
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
		if i == 0 || runs[i-1].rank() != x.rank() {
			continue
		}
		if before := runs[i-1]; before.counted && x.att <= before.att {
			c.violatef(id, "run %s is attempt %d, after attempt %d counted", x.run, x.att, before.att)
		}
	}
}

// After a mark that opened the next generation, only that one and later ones run;
// after the work was marked as done or its letter was taken, only a redrive.
func (c *checker) checkAfterTheEnd(id string, runs []*execution) {
	for _, over := range c.done[id] {
		closed := rank(over.Red, over.Gen)
		if over.Out != markOpened {
			closed = rank(over.Red+1, 0) - 1
		}
		for _, x := range runs {
			if x.start > over.T && x.rank() <= closed && x.run != over.Run {
				c.violatef(id, "run %s of generation %d, redrive %d began %s after %s", x.run, x.gen, x.red, span(x.start-over.T), over.What)
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
				c.report.excused[c.origin(id, x)]++
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
func (c *checker) checkEnding(id, act string, runs []*execution, letters []handoff.DeadLetter) {
	if len(letters) > 1 {
		c.violatef(id, "%d dead letters", len(letters))
	}
	mended := len(c.redrives[id]) > 0 && act != actPoison
	buries := act == actFailAlways || act == actPermanent || act == actPoison || act == actSnooze && c.origins[id] == originForeign
	effects, dropped := 0, false
	for _, x := range runs {
		effects += len(x.effects)
		dropped = dropped || x.out == "dropped"
	}
	switch {
	case len(letters) > 0:
		reason := letters[0].Reasons[0]
		c.report.endings["dead: "+string(reason)]++
		if reason == handoff.ReasonCrashed {
			c.checkCrashed(id)
		}
		if act == actPermanent && reason != handoff.ReasonPermanent && reason != handoff.ReasonCrashed && reason != handoff.ReasonExhausted {
			c.violatef(id, "%s was buried as %s", act, reason)
		}
	case act == actDrop && dropped:
		c.report.endings["dropped"]++
	case buries && !mended:
		c.violatef(id, "%s left no dead letter", act)
	case effects == 0:
		c.violatef(id, "lost: %s has no effect and no dead letter after %d runs", act, len(runs))
	default:
		c.report.endings["done"]++
	}
}

// tell keeps what happened to the first work of a violation, and to the workers that
// had it.
func (r *report) tell(events []event) {
	if len(r.violations) == 0 {
		return
	}
	id, _, _ := strings.Cut(r.violations[0], ":")
	had := map[int]bool{}
	for _, e := range events {
		if e.ID == id || e.ID == "" && had[e.PID] {
			had[e.PID] = true
			r.story = append(r.story, fmt.Sprintf("%12s %+v", span(e.T-events[0].T), e))
		}
	}
}

func span(ns int64) time.Duration { return time.Duration(ns).Round(time.Microsecond) }

const shown = 20

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%d runs in %s\n", r.runs, r.took.Round(time.Second))
	printCounts(w, "what went wrong", r.troubles)
	printCounts(w, "pieces of work", r.works)
	printCounts(w, "how they ended", r.endings)
	printCounts(w, "runs", r.runsOf)
	printCounts(w, "runs that are excused", r.excused)
	printCounts(w, "second effects, explained", r.repeats)
	printCounts(w, "attempts of tasks that were buried as crashed", r.crashed)
	if len(r.works) > 0 { // SQL counts neither
		fmt.Fprintf(w, "%d letters were redriven\n%d overlaps with a run whose worker stood still\n", r.redriven, r.stood)
	}
	fmt.Fprintf(w, "%d violations\n", len(r.violations))
	for _, v := range r.violations[:min(shown, len(r.violations))] {
		fmt.Fprintln(w, "  ", v)
	}
	for _, line := range r.story {
		fmt.Fprintln(w, line)
	}
}

func printCounts(w io.Writer, title string, counts map[string]int) {
	if len(counts) == 0 {
		return
	}
	fmt.Fprintln(w, title+":")
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "  %6d  %s\n", counts[name], name)
	}
}
