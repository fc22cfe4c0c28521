package handoff

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/brillconsulting/handoff/internal/wire"
)

// settle turns the handler's error into an outcome and updates the Store.
func (d *delivery) settle(err error) {
	settled, err := d.settleMarked(d.resumed.replaced(err))
	if settled {
		return
	}
	outcome := OutcomeOf(err)
	if d.attemptFailed(outcome) && d.cutShort(outcome) {
		outcome = Interrupted
	}
	if !d.detach() || outcome == Lost {
		d.settleLost(outcome, err)
		return
	}
	switch outcome {
	case Done, Dropped, Duplicate:
		d.complete(d.finalLease(), outcome, err)
	case Snoozed, Retried, Continued:
		d.goOnLater(outcome, err)
	case Dead:
		d.bury([]Reason{ReasonPermanent}, err)
	case Busy, Interrupted:
		d.retry(outcome, err, false)
	default: // Failed, Throttled
		d.fail(outcome, err)
	}
}

// attemptFailed reports whether the outcome of the handler's error is that of a
// failed attempt, which counts.
func (d *delivery) attemptFailed(o Outcome) bool {
	switch o {
	case Failed, Throttled, Retried, Lost:
		return true
	case Continued:
		return !d.marker.progressed()
	}
	return false
}

// cutShort reports whether a shutdown ended the attempt, so that it does not count:
// one that would continue ends when the shutdown begins, any other when it gives up.
func (d *delivery) cutShort(o Outcome) bool {
	switch o {
	case Lost:
		return false
	case Continued:
		return d.router.isDraining()
	}
	return d.router.keeper.isInterrupted()
}

// detach replaces d.ctx by one that does not end with the request but with the
// lease: the Store must be updated even if the caller has closed the connection.
// It reports whether the lease was kept until now.
func (d *delivery) detach() (kept bool) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(d.result.ctx)) // it has no parent, so it needs no cancel
	d.ctx = ctx
	return d.router.keeper.settle(&d.lease, cancel)
}

// fail ends a failed attempt, which counts. After the last one it buries the task.
func (d *delivery) fail(outcome Outcome, err error) {
	if d.result.Info.LastAttempt() {
		d.bury([]Reason{ReasonExhausted}, err)
		return
	}
	d.retry(outcome, err, true)
}

// retry ends a run after which Cloud Tasks retries the task. If it will not,
// because a 2xx is already written, the task is buried.
func (d *delivery) retry(outcome Outcome, err error, counted bool) {
	if d.notRetried() {
		d.bury([]Reason{ReasonResponseSent}, err)
		return
	}
	d.release(outcome, err, counted)
}

// settleLost ends a run whose lease is no longer trusted. Until another delivery
// has claimed the work, work that is done can still be marked as done, so that it
// does not run again. Otherwise the newer claim decides.
func (d *delivery) settleLost(outcome Outcome, err error) {
	ctx, cancel := d.settleContext()
	defer cancel()
	d.result.LeaseLost = true
	complete := func() error { return d.router.config.Store.Complete(ctx, d.finalLease()) }
	over := err == nil || outcome == Dropped
	if over && guard("Store.Complete", complete) == nil {
		d.end(outcome, err)
		return
	}
	if outcome == Dead {
		d.bury([]Reason{ReasonPermanent}, errors.Join(ErrLeaseLost, err))
		return
	}
	last := d.result.Info.LastAttempt() // released and counted, it would be claimed beyond its limit
	if last && d.attemptFailed(outcome) {
		d.bury([]Reason{ReasonExhausted}, errors.Join(ErrLeaseLost, err))
		return
	}
	if !last || !over { // the last attempt is not given back once it succeeded: its lease runs out
		_ = guard("Store.Release", func() error { return d.router.config.Store.Release(ctx, d.lease.Lease, !last) }) // not held any more, or out of reach: then it runs out by itself
	}
	d.end(Lost, errors.Join(ErrLeaseLost, err))
}

func (d *delivery) settleContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(d.ctx, storeTimeout)
}

// complete calls Store.Complete with l and ends the delivery. If the Store cannot
// be reached until the lease or the dispatch deadline is over, the response is
// still that of done work: any other would certainly run it again.
func (d *delivery) complete(l Lease, outcome Outcome, err error) {
	complete := func(ctx context.Context) error { return d.router.config.Store.Complete(ctx, l) }
	switch cerr := d.insist("Store.Complete", complete); {
	case cerr == nil:
		d.end(outcome, err)
	case errors.Is(cerr, ErrLeaseLost):
		d.end(Lost, errors.Join(cerr, err))
	default:
		d.end(outcome, err)
		d.log(slog.LevelError, "handoff: done, but the Store could not be told; another delivery of this task would run again", "error", cerr)
	}
}

const (
	markPause    = 50 * time.Millisecond // doubles after each try
	maxMarkPause = 2 * time.Second
)

// insist repeats a call of the Store until it succeeds, the lease is lost, or the
// dispatch deadline is over. The timeout of each try is storeTimeout.
func (d *delivery) insist(entry string, call func(ctx context.Context) error) error {
	ends := d.result.Received.Add(d.deadline())
	for pause := markPause; ; pause = min(2*pause, maxMarkPause) {
		ctx, cancel := d.ctx, func() {}
		if !d.router.keeper.ask(&d.lease) {
			ctx, cancel = d.settleContext()
		}
		err := guard(entry, func() error { return call(ctx) })
		cancel()
		kept := d.router.keeper.returned(&d.lease)
		if err == nil || errors.Is(err, ErrLeaseLost) || !kept || time.Now().Add(pause).After(ends) {
			return err
		}
		time.Sleep(pause)
		if d.ctx.Err() != nil {
			d.detach()
		}
	}
}

// release releases the claim, so that Cloud Tasks can retry the task.
func (d *delivery) release(outcome Outcome, err error, counted bool) {
	ctx, cancel := d.settleContext()
	defer cancel()
	rerr := guard("Store.Release", func() error { return d.router.config.Store.Release(ctx, d.lease.Lease, counted) })
	switch {
	case rerr == nil:
	case errors.Is(rerr, ErrLeaseLost):
		outcome, err = Lost, errors.Join(rerr, err)
	default:
		// Retries are Busy until the lease runs out. Then the attempt
		// counts as crashed.
		d.log(slog.LevelWarn, "handoff: claim could not be released", "error", rerr)
	}
	d.end(outcome, err)
}

// burial is the note that the Store keeps while a task is being buried. If the
// worker dies, the delivery that finishes the burial writes the same letter.
type burial struct {
	Letter   string    `json:"l"`
	Task     string    `json:"k"` // ID of the task that died
	Redrives int       `json:"d,omitempty"`
	Snoozes  int       `json:"s,omitempty"`
	Reasons  []Reason  `json:"r"`
	LastErr  string    `json:"e,omitempty"`
	Attempts int       `json:"n"`
	First    time.Time `json:"f"`
	At       time.Time `json:"t"`
}

// bury buries the task in three steps: mark the work as ending, put the letter,
// complete. After a crash at any step, the next delivery continues from there.
func (d *delivery) bury(reasons []Reason, err error) {
	d.setReasons(reasons)
	if d.router.config.DeadLetters == nil && !mayVanish(reasons) {
		d.release(Failed, fmt.Errorf("%w (retried, not buried: RouterConfig.DeadLetters is not set)", err), false)
		return
	}
	note := d.burial(reasons, errorText(err), d.result.Info.Attempt)
	text, _ := json.Marshal(note) //nolint:errchkjson // plain fields and the present time
	berr := d.insist("Store.End", func(ctx context.Context) error { return d.router.config.Store.End(ctx, d.lease.Lease, text) })
	switch {
	case errors.Is(berr, ErrLeaseLost):
		d.end(Lost, errors.Join(berr, err))
		return
	case berr != nil:
		d.unnoted(errors.Join(berr, err))
		return
	}
	d.putLetter(note, err)
}

// unnoted ends a delivery whose burial could not be noted in the Store. An attempt
// that began counts. The lease of the last attempt is not released: once it has
// run out, the next claim is over the limit, and its delivery buries the task.
func (d *delivery) unnoted(err error) {
	err = fmt.Errorf("handoff: burial could not be noted: %w", err)
	began := !d.result.Started.IsZero()
	if began && d.result.Info.LastAttempt() {
		d.end(Unavailable, err)
		return
	}
	d.release(Unavailable, err, began)
}

// mayVanish reports whether a task may be deleted without a dead-letter store. It
// may not if the only reasons are about the payload, which another version of the
// worker may decode.
func mayVanish(reasons []Reason) bool {
	for _, r := range reasons {
		if r != ReasonUndecodable && r != ReasonInvalid {
			return true
		}
	}
	return false
}

// finishBurial finishes a burial that another delivery began.
func (d *delivery) finishBurial() {
	var note burial
	if err := json.Unmarshal(d.claim.Note, &note); err != nil || len(note.Reasons) == 0 {
		note = d.burial([]Reason{ReasonCrashed}, "", d.claim.Attempt)
	}
	d.result.Info.Attempt = note.Attempts
	d.setReasons(note.Reasons)
	var err error
	if note.LastErr != "" {
		err = errors.New(note.LastErr)
	}
	d.putLetter(note, err)
	if d.result.Outcome == Dead && (note.Task != d.result.Info.Task || note.Redrives < d.stamp.Redrives) {
		// The letter is of another task of the same work. The claim of this
		// task's next delivery decides what happens to it.
		d.end(Busy, err)
		d.logDied(note.Reasons, err)
	}
}

// burial returns the note of a burial that begins now.
func (d *delivery) burial(reasons []Reason, lastErr string, attempts int) burial {
	return burial{
		Letter: d.letterID(), Task: d.result.Info.Task, Redrives: d.stamp.Redrives, Snoozes: d.result.Info.Snoozes,
		Reasons: reasons, LastErr: lastErr, Attempts: attempts, First: d.claim.First, At: time.Now().Truncate(time.Microsecond),
	}
}

func (d *delivery) putLetter(note burial, err error) {
	letter := d.letter(note)
	ctx, cancel := d.settleContext()
	defer cancel()
	if store := d.router.config.DeadLetters; store != nil {
		if perr := d.put(ctx, store, letter); perr != nil {
			d.setReasons([]Reason{ReasonDeadLetterStore})
			d.release(Unavailable, fmt.Errorf("handoff: dead letter: %w", perr), false) // stays ending
			return
		}
	}
	l := d.lease.Lease
	l.Letter, l.Window = letter.ID, d.deadWindow()
	defer func() { // deferred, because OnDead may call runtime.Goexit
		if d.complete(l, Dead, err); d.result.Outcome != Dead {
			d.logDied(note.Reasons, err)
		}
	}()
	if onDead := d.router.config.OnDead; onDead != nil {
		if perr := guard("RouterConfig.OnDead", func() error { onDead(ctx, letter); return nil }); perr != nil {
			d.log(slog.LevelError, "handoff: a hook panicked", "error", perr)
		}
	}
}

// put stores the letter, unless the delivery that began the burial has stored it.
// That delivery may have been of another task, whose payload must not be replaced.
func (d *delivery) put(ctx context.Context, store DeadLetterStore, letter DeadLetter) error {
	return guard("DeadLetterStore.Put", func() error {
		if d.claim.Status == ClaimEnding {
			kept, err := store.Get(ctx, letter.ID)
			if err == nil && kept.BuriedAt.Equal(letter.BuriedAt) {
				return nil
			}
			if err != nil && !errors.Is(err, ErrNoDeadLetter) {
				return err
			}
		}
		return store.Put(ctx, letter)
	})
}

func (d *delivery) letter(note burial) DeadLetter {
	req, info := d.req, &d.result.Info
	header := wire.LetterHeader(req.Header, d.stamp)
	if coding := req.Header["Content-Encoding"]; d.bodyAsSent {
		header["Content-Encoding"] = slices.Clone(coding)
	}
	return DeadLetter{
		ID:        note.Letter,
		HandoffID: info.ID,
		Task:      info.Task,
		Queue:     info.Queue,
		Kind:      info.Kind,
		Key:       d.key,
		Target:    wire.TargetURL(req, info.Caller.Audience),
		Method:    req.Method,
		Header:    header,

		ServiceAccount: info.Caller.Email,
		Audience:       info.Caller.Audience,

		Payload:     append([]byte(nil), d.body...),
		Reasons:     note.Reasons,
		Attempts:    note.Attempts,
		MaxAttempts: info.MaxAttempts,
		FirstAt:     note.First,
		BuriedAt:    note.At,
		LastErr:     note.LastErr,
		Snoozes:     note.Snoozes,
		Redrives:    note.Redrives,
	}
}

// maxErrorText is the maximum length of a letter's LastErr, in bytes.
const maxErrorText = 2048

func errorText(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if len(text) > maxErrorText {
		text = text[:maxErrorText]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
