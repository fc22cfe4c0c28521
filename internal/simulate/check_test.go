package simulate_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
)

// history is what happened to one piece of work.
type history struct {
	created    bool
	runs       []*run
	claims     []*claim
	marks      []mark
	letters    []handoff.DeadLetter
	redrives   int // tasks created by redriving its letters
	buriedAt   []time.Duration
	hits       int               // failed calls, and deaths of workers that had claims
	before     map[series]int    // number of attempts before a copy that continues their count
	from       map[series]series // and the series that they are in
	story      []string
	violations []string
}

// run is one execution of the handler.
type run struct {
	n       int
	p       *process
	ctx     context.Context
	info    handoff.Info
	start   time.Duration
	series  series
	owner   string
	effect  bool
	outcome string        // empty while it runs
	ended   time.Duration // when it had an outcome
	cause   error         // of the context, if the run was stopped
}

// claim is a claim that the store granted.
type claim struct {
	series series
	owner  string
	ran    bool // its handler began
	back   bool // it was given back
}

// series identifies the attempts that are counted together.
type series struct{ redrives, generation int }

func (d *delivery) series() series { return series{d.chain, d.lease.Generation} }

// next returns the series of the copy for later.
func (d *delivery) next() series { return series{d.chain, d.lease.Generation + 1} }

func (w *world) claimed(d *delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of(d.work).claims = append(w.of(d.work).claims, &claim{series: d.series(), owner: d.lease.Owner})
}

// gaveBack records that claims of an owner no longer count.
func (w *world) gaveBack(work string, l handoff.Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.of(work).claims {
		c.back = c.back || c.owner == l.Owner
	}
}

// mark is a completion that reached the store.
type mark struct {
	at     time.Duration
	opens  handoff.Opening
	letter string
}

func (w *world) of(work string) *history {
	h := w.ledger[work]
	if h == nil {
		h = &history{before: map[series]int{}, from: map[series]series{}}
		w.ledger[work] = h
	}
	return h
}

func (w *world) notef(work, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteLockedf(work, format, args...)
}

func (w *world) noteLockedf(work, format string, args ...any) {
	h := w.of(work)
	h.story = append(h.story, fmt.Sprintf("%14v  ", w.now().Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

func (w *world) violatef(work, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violateLockedf(work, format, args...)
}

func (w *world) violateLockedf(work, format string, args ...any) {
	h := w.of(work)
	text := fmt.Sprintf(format, args...)
	h.violations = append(h.violations, text)
	w.noteLockedf(work, "VIOLATION: %s", text)
}

// created records a task that exists.
func (w *world) created(work string, reply any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of(work).created = true
	if task, ok := reply.(*cloudtaskspb.Task); ok {
		w.works[task.GetName()] = work
	}
}

func (w *world) buried(work string, letter handoff.DeadLetter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.of(work)
	h.letters, h.buriedAt = append(h.letters, letter), append(h.buriedAt, w.now())
	w.noteLockedf(work, "letter: %v after %d attempts", letter.Reasons, letter.Attempts)
	if h.over(w.now()) {
		w.violateLockedf(work, "buried after it was marked as done")
	}
	w.checkLetter(work, h, letter)
}

// copied records a copy for later that the delivery of ctx has created.
func (w *world) copied(ctx context.Context) {
	d, ok := ctx.Value(inDelivery{}).(*delivery)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	h, next := w.of(d.work), d.next()
	for _, r := range h.runs {
		if r.owner == d.lease.Owner && (r.outcome == "retried" || r.outcome == "busy") {
			h.before[next], h.from[next] = counted(h, r), r.series
		}
	}
}

func (w *world) marked(ctx context.Context, work string, l handoff.Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.of(work)
	if d, ok := ctx.Value(inDelivery{}).(*delivery); ok && l.Opens > handoff.OpensNext {
		h.from[d.next()] = d.series()
	}
	h.marks = append(h.marks, mark{w.now(), l.Opens, l.Letter})
	w.noteLockedf(work, "marked: %s", markName(l))
}

func markName(l handoff.Lease) string {
	switch {
	case l.Letter != "":
		return "dead"
	case l.Opens != handoff.OpensNothing:
		return "next generation"
	}
	return "done"
}

// begin records a run, and checks what must hold when a handler begins.
func (w *world) begin(ctx context.Context, p *process, j job, info handoff.Info) *run {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.of(j.Work)
	d, _ := ctx.Value(inDelivery{}).(*delivery)
	r := &run{n: len(h.runs), p: p, ctx: ctx, info: info, start: w.now(), series: d.series(), owner: d.lease.Owner}
	for _, c := range h.claims {
		c.ran = c.ran || c.owner == r.owner
	}
	w.noteLockedf(j.Work, "worker %d: run %d begins, attempt %d of %d, snoozes %d", p.n, r.n, info.Attempt, info.MaxAttempts, info.Snoozes)
	for _, before := range h.runs {
		if before.outcome == "" && before.ctx.Err() == nil && !before.p.dead.Load() {
			w.violateLockedf(j.Work, "run %d begins while run %d runs and believes that it holds the lease", r.n, before.n)
		}
		if before.info.FencingToken >= info.FencingToken {
			w.violateLockedf(j.Work, "the token of run %d is not above that of run %d", r.n, before.n)
		}
	}
	if h.over(r.start) {
		w.violateLockedf(j.Work, "run %d begins after the work was marked as done", r.n)
	}
	if expires := info.ExpiresAt; !expires.IsZero() && time.Now().After(expires) {
		w.violateLockedf(j.Work, "run %d begins after the task expired at %v", r.n, expires.Sub(w.begun))
	}
	h.runs = append(h.runs, r)
	if n := counted(h, r); n > info.MaxAttempts {
		w.violateLockedf(j.Work, "run %d is attempt %d of %d", r.n, n, info.MaxAttempts)
	}
	if r.series.redrives == 0 && info.MaxAttempts != j.Max {
		w.violateLockedf(j.Work, "run %d has a limit of %d, not %d", r.n, info.MaxAttempts, j.Max)
	}
	return r
}

// over reports whether the work was marked as done before the given time.
func (h *history) over(at time.Duration) bool {
	return slices.ContainsFunc(h.marks, func(m mark) bool { return m.opens == handoff.OpensNothing && m.letter == "" && m.at < at })
}

// counted returns how many executions of the generation and redrive of r count
// as attempts, r included: all but those that ended as busy or snoozed, and those
// that a shutdown interrupted. Those before a copy that continues their count are
// included.
func counted(h *history, r *run) (n int) {
	n = h.before[r.series]
	for _, other := range h.runs {
		if other.series != r.series || slices.Contains([]string{"busy", "snoozed", "continued"}, other.outcome) || other.outcome == "stopped" && other.cause == handoff.ErrInterrupted {
			continue
		}
		n++
	}
	return n
}

func (w *world) effect(r *run) { r.effect = true }

func (w *world) end(r *run, outcome string, cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.outcome, r.cause, r.ended = outcome, cause, w.now()
	for work, h := range w.ledger {
		if slices.Contains(h.runs, r) {
			w.noteLockedf(work, "worker %d: run %d %s %v", r.p.n, r.n, outcome, cause)
		}
	}
}

// checkLetter checks the reason of a letter against what really happened.
func (w *world) checkLetter(work string, h *history, l handoff.DeadLetter) {
	reason := l.Reasons[len(l.Reasons)-1]
	last := func(outcomes ...string) bool {
		return slices.ContainsFunc(h.runs, func(r *run) bool { return slices.Contains(outcomes, r.outcome) })
	}
	switch reason {
	case handoff.ReasonPermanent:
		if !last("permanent") {
			w.violateLockedf(work, "buried as permanent, and no run said so")
		}
	case handoff.ReasonExhausted, handoff.ReasonCrashed:
		w.checkAttempts(work, h, reason)
	case handoff.ReasonExpired:
		if ttl := w.jobs[work].TTL; ttl > 0 && w.now() < ttl-2*time.Minute {
			w.violateLockedf(work, "buried as expired before its TTL of %v was over", ttl)
		}
	case handoff.ReasonUndecodable:
		if w.jobs[work].How != explodes {
			w.violateLockedf(work, "buried as undecodable")
		}
	default:
		w.violateLockedf(work, "buried as %s", reason)
	}
}

// checkAttempts checks a burial against the attempts that began. A claim that its
// worker could neither use nor give back counts too: the worker died, or the store
// was unreachable until the lease ended.
func (w *world) checkAttempts(work string, h *history, reason handoff.Reason) {
	last := h.claims[len(h.claims)-1] // the burial's own claim, if the limit was already reached
	all := []series{last.series}      // the series that are counted together
	for s, more := h.from[last.series]; more; s, more = h.from[s] {
		all = append(all, s)
	}
	runs, unrun := 0, 0
	for _, r := range h.runs {
		if slices.Contains(all, r.series) {
			runs++
		}
	}
	for _, c := range h.claims {
		if slices.Contains(all, c.series) && !c.ran && !c.back && c != last {
			unrun++
		}
	}
	if runs == 0 {
		w.faults["excuse: buried as crashed without a run, since claims were lost"]++
	}
	if runs < w.jobs[work].Max && unrun > 0 {
		w.faults["excuse: buried after fewer attempts, since claims were lost"]++
	}
	if unrun > h.hits {
		w.violateLockedf(work, "%d claims were lost, and only %d calls failed", unrun, h.hits)
	}
	if runs+unrun < w.jobs[work].Max {
		w.violateLockedf(work, "buried as %s after %d runs and %d lost claims of %d attempts", reason, runs, unrun, w.jobs[work].Max)
	}
}

// check checks each piece of work against docs/guarantees.md, after everything has
// ended.
func (w *world) check(ctx context.Context) {
	page, err := w.letters.List(ctx, handoff.DeadLetterQuery{Limit: 100})
	if err != nil {
		panic(err)
	}
	w.checkDeletions()
	kept := map[string]int{}
	for _, l := range page.Letters {
		kept[workOf(l)]++
	}
	for work, h := range w.ledger {
		if work == "" || !h.created {
			continue
		}
		finished := slices.ContainsFunc(h.runs, func(r *run) bool { return r.outcome == "done" || r.outcome == "dropped" })
		effects := 0
		for _, r := range h.runs {
			if r.effect {
				effects++
			}
		}
		if effects > 1 {
			w.faults["excuse: a second effect, since the mark of the first never arrived"]++
		}
		if effects-1 > h.hits {
			w.violatef(work, "%d effects, and only %d calls failed", effects, h.hits)
		}
		switch {
		case !finished && kept[work] == 0:
			w.violatef(work, "lost: no run succeeded, and there is no letter")
		case kept[work] > 1:
			w.violatef(work, "%d letters", kept[work])
		}
	}
}

// checkDeletions checks each task that the emulator deleted: by then its work must
// have succeeded, or have a letter or another task.
func (w *world) checkDeletions() {
	lives := append(w.tasks.Ended("q", 1000), w.tasks.Ended("q2", 1000)...)
	if len(lives) != len(w.works) {
		w.violatef("w0", "%d tasks were created, and %d deleted", len(w.works), len(lives))
	}
	for _, life := range lives {
		work := w.works[life.Name]
		h, at := w.of(work), life.Ended.Sub(w.begun)
		w.faults["tasks deleted by the service"]++
		if life.End != emulator.Succeeded {
			w.violatef(work, "%s was deleted: %s", life.Name, life.End)
		}
		succeeded := slices.ContainsFunc(h.runs, func(r *run) bool { return (r.outcome == "done" || r.outcome == "dropped") && r.ended <= at })
		buried := slices.ContainsFunc(h.buriedAt, func(b time.Duration) bool { return b <= at })
		another := slices.ContainsFunc(lives, func(other emulator.Life) bool {
			return other.Name != life.Name && w.works[other.Name] == work && !other.Created.After(life.Ended) && other.Ended.After(life.Ended)
		})
		if !succeeded && !buried && !another {
			w.violatef(work, "%s was deleted at %v, before its work had ended", life.Name, at)
		}
	}
}

// violations returns the violations of all work, each with its story.
func (w *world) violations() (found []string) {
	for work, h := range w.ledger {
		if len(h.violations) > 0 {
			found = append(found, fmt.Sprintf("seed %d, work %s: %s\n%s", w.seed, work, strings.Join(h.violations, "; "), strings.Join(h.story, "\n")))
		}
	}
	slices.Sort(found)
	return found
}
