package simulate_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"time"

	"github.com/brillconsulting/handoff"
)

// job is the payload.
type job struct {
	Work string        `json:"work"`
	Max  int           `json:"max"`
	TTL  time.Duration `json:"ttl"`
	How  string        `json:"how"`
}

func (job) Kind() string { return "job" }

// explodes is a payload that panics when it is decoded.
const explodes = "panics when it is decoded"

func (j *job) UnmarshalJSON(text []byte) error {
	type plain job
	if err := json.Unmarshal(text, (*plain)(j)); err != nil {
		return err
	}
	if j.How == explodes {
		panic("simulated")
	}
	return nil
}

func (j job) Policy() handoff.Policy {
	return handoff.Policy{TTL: j.TTL, Retry: handoff.Retry{MaxAttempts: j.Max, MinBackoff: 2 * time.Second, MaxBackoff: time.Hour}}
}

var errFailed = errors.New("failed")

// handle is the handler. What the n-th execution of a piece of work does depends
// only on the seed.
func (w *world) handle(ctx context.Context, p *process, j job) error {
	info := handoff.InfoFromContext(ctx)
	r := w.begin(ctx, p, j, info)
	took := []time.Duration{10 * time.Millisecond, time.Second, 20 * time.Second, 2 * time.Minute, 6 * time.Minute}[int(5*w.draw(j.Work, r.n, "length"))]
	took = w.drawTime(took/2, took, j.Work, r.n, "took")
	listens := w.draw(j.Work, r.n, "listens") < 0.7
	ended := ctx.Done()
	if !listens {
		ended = nil
	}
	if !w.pause(took, ended, p.died) {
		if p.dead.Load() {
			w.end(r, "died", nil)
			return errFailed
		}
		w.end(r, "stopped", context.Cause(ctx))
		return ctx.Err()
	}
	if p.dead.Load() {
		w.end(r, "died", nil)
		return errFailed
	}
	moved := false
	if j.How != "foreign" && w.draw(j.Work, "in steps") < 0.5 {
		var err error
		if moved, err = w.inSteps(ctx, p, r, j.Work); err != nil {
			w.endOf(ctx, p, r, err)
			return err
		}
	}
	return w.outcome(ctx, p, r, j, moved)
}

// outcome ends a run. moved is whether it made progress in its steps.
func (w *world) outcome(ctx context.Context, p *process, r *run, j job, moved bool) error {
	wait := []time.Duration{10 * time.Second, 10 * time.Minute, 40 * time.Minute}[int(3*w.draw(j.Work, r.n, "wait"))]
	switch u := w.draw(j.Work, r.n, "outcome"); {
	case u < 0.46:
		w.effect(r)
		w.end(r, "done", nil)
		return nil
	case u < 0.64:
		w.end(r, "failed", nil)
		return errFailed
	case u < 0.68:
		w.end(r, "permanent", nil)
		return handoff.Permanent(errFailed)
	case u < 0.71:
		w.end(r, "dropped", nil)
		return handoff.Drop(errFailed)
	case u < 0.75:
		w.end(r, "panicked", nil)
		panic("simulated")
	case u < 0.76:
		w.end(r, "exited", nil)
		runtime.Goexit()
	case u < 0.79:
		w.end(r, "died", nil)
		w.kill(p, w.drawTime(0, time.Minute, j.Work, r.n, "gone"))
		return errFailed
	case u < 0.82:
		w.end(r, "busy", nil)
		return handoff.ErrBusy
	case u < 0.87:
		w.end(r, "retried", nil)
		return handoff.RetryIn(errFailed, wait)
	case u < 0.90:
		w.end(r, "busy", nil)
		return handoff.BusyFor(wait)
	case u < 0.93:
		return w.goOn(ctx, r, moved)
	case r.info.Snoozes < 3 && j.How != "foreign":
		lengths := []time.Duration{10 * time.Second, 10 * time.Minute, 40 * time.Minute, 30 * time.Hour, 72 * time.Hour}
		d := lengths[int(float64(len(lengths))*w.draw(j.Work, r.n, "snooze"))]
		w.end(r, "snoozed", nil)
		return handoff.Snooze(d)
	}
	w.effect(r)
	w.end(r, "done", nil)
	return nil
}

// goOn ends a run that continues. One without progress counts, unless a shutdown
// ended it.
func (w *world) goOn(ctx context.Context, r *run, moved bool) error {
	held, _ := handoff.HeldFromContext(ctx)
	outcome := "failed"
	if moved || held.Late() {
		outcome = "continued"
	}
	w.end(r, outcome, nil)
	return handoff.Continue()
}
