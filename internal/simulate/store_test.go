package simulate_test

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
)

// fault is what goes wrong with a call.
type fault string

const (
	none      fault = ""
	refused   fault = "refused"        // before its effect
	lost      fault = "response lost"  // after its effect
	hangs     fault = "hangs"          // before its effect, until the caller gives up
	hangsDone fault = "hangs after it" // after its effect, until the caller gives up
	dies      fault = "the worker dies before it"
	diesAfter fault = "the worker dies after it"
	slow      fault = "slow" // has its effect later, even if the caller has given up
	panics    fault = "panics before it"
	panicsToo fault = "panics after it"
)

var errSimulated = errors.New("simulated")

// faultOf returns what goes wrong with the n-th call of its kind.
func (w *world) faultOf(op, work string, n int) fault {
	if w.draw(op, work, n, "fails") >= w.trouble {
		return none
	}
	hows := []fault{refused, lost, lost, hangs, hangsDone, slow, dies, diesAfter, panics, panicsToo}
	if op == "create" {
		hows = hows[:8] // the client's own calls do not panic
	}
	how := hows[int(float64(len(hows))*w.draw(op, work, n, "how"))]
	w.fault(op + " " + string(how))
	return how
}

func (w *world) fault(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults[name]++
}

// stalled returns how calls to the store fail at this time; none if they do not.
func (w *world) stalled() fault {
	for _, s := range w.stalls {
		if now := w.now(); s.from <= now && now < s.to {
			return s.how
		}
	}
	return none
}

// call makes one call of a process, with the fault that the seed gives it.
func (w *world) call(ctx context.Context, p *process, op, work string, apply func() error) error {
	n := 0
	if op == "renew" { // what it renews and how often it has depend on the order of goroutines
		n = int(w.now() / time.Second)
	} else {
		n = w.count(op, work, p.n)
	}
	if wait := w.frozenFor(p); wait > 0 && !w.pause(wait, ctx.Done(), p.died) {
		w.hit(work)
		return errors.Join(errSimulated, ctx.Err())
	}
	works := work
	if op == "renew" {
		work = ""
	}
	w.mu.Lock()
	cut := w.cut
	w.mu.Unlock()
	if !w.pause(w.drawTime(50*time.Microsecond, 3*time.Millisecond, op, work, p.n, n, "takes"), ctx.Done(), cut) {
		w.hit(works)
		return errors.Join(errSimulated, ctx.Err())
	}
	if p.dead.Load() {
		return errSimulated
	}
	how := w.stalled()
	if how == none {
		how = w.faultOf(op, work, n*100+p.n)
	}
	if how != none {
		w.hit(works)
		for work := range strings.FieldsSeq(works) {
			w.notef(work, "worker %d: %s: %s", p.n, op, how)
		}
	}
	if how == dies || how == diesAfter && op == "renew" {
		w.kill(p, time.Minute)
		return errSimulated
	}
	switch how {
	case refused:
		return errSimulated
	case panics:
		panic("simulated")
	case hangs:
		w.pause(time.Hour, ctx.Done(), p.died, cut)
		return errors.Join(errSimulated, ctx.Err())
	case slow:
		done := make(chan error, 1)
		w.open.Go(func() {
			w.pause(w.drawTime(time.Second, 20*time.Second, op, work, n, "slow"))
			done <- apply() // what was sent arrives, even if the caller has given up or died
		})
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := apply()
	if how == diesAfter {
		w.kill(p, time.Minute)
	}
	switch {
	case how == panicsToo:
		panic("simulated")
	case how == hangsDone:
		w.pause(time.Hour, ctx.Done(), p.died, cut)
		return errors.Join(errSimulated, ctx.Err())
	case how == lost || p.dead.Load():
		return errSimulated
	case !w.pause(w.drawTime(50*time.Microsecond, time.Millisecond, op, work, p.n, n, "returns"), p.died, cut):
		w.hit(works)
		return errSimulated
	}
	return err
}

// hit records a fault for these pieces of work, which may excuse what the checker
// finds.
func (w *world) hit(works string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for work := range strings.FieldsSeq(works) {
		w.of(work).hits++
	}
}

// storeAccess is the Store of one process.
type storeAccess struct {
	w *world
	p *process
}

func (s *storeAccess) work(key string) string {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.w.keys[key]
}

func (s *storeAccess) Claim(ctx context.Context, l handoff.Lease) (claim handoff.Claim, err error) {
	d, _ := ctx.Value(inDelivery{}).(*delivery)
	if d != nil {
		s.w.mu.Lock()
		s.w.keys[l.Key] = d.work
		s.p.works[d.work] = true
		d.lease = l
		s.w.mu.Unlock()
	}
	var got handoff.Claim
	err = s.w.call(ctx, s.p, "claim", s.work(l.Key), func() (err error) {
		got, err = s.w.store.Claim(context.Background(), l)
		if err == nil {
			if got.Status == handoff.ClaimAcquired && d != nil {
				s.w.claimed(d)
			}
			s.w.notef(s.work(l.Key), "worker %d: claim g%d r%d: %s, attempt %d", s.p.n, l.Generation, l.Redrives, statusName(got.Status), got.Attempt)
		}
		return err
	})
	if err == nil {
		claim = got
	}
	return claim, err
}

func statusName(s handoff.ClaimStatus) string {
	return map[handoff.ClaimStatus]string{
		handoff.ClaimAcquired: "acquired", handoff.ClaimBusy: "busy", handoff.ClaimDone: "done", handoff.ClaimSuperseded: "superseded",
		handoff.ClaimEnding: "ending", handoff.ClaimDead: "dead",
	}[s]
}

func (s *storeAccess) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	var held []bool
	works := make([]string, len(leases))
	for i, l := range leases {
		works[i] = s.work(l.Key)
	}
	err := s.w.call(ctx, s.p, "renew", strings.Join(works, " "), func() (err error) {
		held, err = s.w.store.Renew(context.Background(), leases)
		return err
	})
	if err != nil {
		return make([]bool, len(leases)), err
	}
	return held, nil
}

func (s *storeAccess) Complete(ctx context.Context, l handoff.Lease) error {
	work := s.work(l.Key)
	return s.w.call(ctx, s.p, "complete", work, func() error {
		err := s.w.store.Complete(context.Background(), l)
		if err == nil {
			s.w.marked(ctx, work, l)
		}
		return err
	})
}

func (s *storeAccess) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	work := s.work(l.Key)
	return s.w.call(ctx, s.p, "release", work, func() error {
		err := s.w.store.Release(context.Background(), l, counted)
		if err == nil && !counted {
			s.w.gaveBack(work, l)
		}
		s.w.notef(work, "worker %d: release, counted %v: %v", s.p.n, counted, err)
		return err
	})
}

func (s *storeAccess) End(ctx context.Context, l handoff.Lease, note []byte) error {
	work := s.work(l.Key)
	return s.w.call(ctx, s.p, "end", work, func() error {
		err := s.w.store.End(context.Background(), l, note)
		s.w.notef(work, "worker %d: end: %v", s.p.n, err)
		return err
	})
}

func (s *storeAccess) Keep(ctx context.Context, l handoff.Lease, memo []byte) error {
	return s.w.call(ctx, s.p, "keep", s.work(l.Key), func() error { return s.w.store.Keep(context.Background(), l, memo) })
}

// letterAccess is the DeadLetterStore of one process.
type letterAccess struct {
	w *world
	p *process
}

func (s *letterAccess) Put(ctx context.Context, letter handoff.DeadLetter) error {
	work := workOf(letter)
	return s.w.call(ctx, s.p, "letter", work, func() error {
		if s.w.sabotage == dropLetters {
			return nil
		}
		err := s.w.letters.Put(context.Background(), letter)
		if err == nil {
			s.w.buried(work, letter)
		}
		return err
	})
}

func (s *letterAccess) Get(ctx context.Context, id string) (letter handoff.DeadLetter, err error) {
	var got handoff.DeadLetter
	err = s.w.call(ctx, s.p, "get letter", "", func() (err error) {
		got, err = s.w.letters.Get(context.Background(), id)
		return err
	})
	if err == nil {
		letter = got
	}
	return letter, err
}

func (s *letterAccess) List(ctx context.Context, q handoff.DeadLetterQuery) (handoff.DeadLetterPage, error) {
	return s.w.letters.List(ctx, q)
}
func (s *letterAccess) Delete(ctx context.Context, id string) error {
	return s.w.letters.Delete(ctx, id)
}
func (s *letterAccess) MarkRedriven(ctx context.Context, id string, at time.Time) error {
	return s.w.letters.MarkRedriven(ctx, id, at)
}
func (s *letterAccess) CountByKind(ctx context.Context) (map[string]int, error) {
	return s.w.letters.CountByKind(ctx)
}
func (s *letterAccess) Retention() time.Duration { return s.w.letters.Retention() }
