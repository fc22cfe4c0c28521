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
	switch u := w.draw(j.Work, r.n, "outcome"); {
	case u < 0.50:
		w.effect(r)
		w.end(r, "done", nil)
		return nil
	case u < 0.70:
		w.end(r, "failed", nil)
		return errFailed
	case u < 0.75:
		w.end(r, "permanent", nil)
		return handoff.Permanent(errFailed)
	case u < 0.78:
		w.end(r, "dropped", nil)
		return handoff.Drop(errFailed)
	case u < 0.82:
		w.end(r, "panicked", nil)
		panic("simulated")
	case u < 0.83:
		w.end(r, "exited", nil)
		runtime.Goexit()
	case u < 0.86:
		w.end(r, "died", nil)
		w.kill(p, w.drawTime(0, time.Minute, j.Work, r.n, "gone"))
		return errFailed
	case u < 0.89:
		w.end(r, "busy", nil)
		return handoff.ErrBusy
	case info.Snoozes < 3 && j.How != "foreign":
		lengths := []time.Duration{10 * time.Second, 10 * time.Minute, 40 * time.Minute, 30 * time.Hour, 72 * time.Hour}
		d := lengths[int(float64(len(lengths))*w.draw(j.Work, r.n, "snooze"))]
		w.end(r, "snoozed", nil)
		return handoff.Snooze(d)
	}
	w.effect(r)
	w.end(r, "done", nil)
	return nil
}
