package memstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/brillconsulting/handoff"
)

// Store is a [handoff.KeyStore] in memory. The package comment says when to use
// it. It is safe for concurrent use.
//
// A Store removes records after their window ends, so its memory is bounded by the
// work of one window. It starts no goroutine and needs no closing. It measures
// leases and windows by the monotonic clock, or by the bubble's clock in
// testing/synctest.
type Store struct {
	mu      sync.Mutex
	records map[compact]record
	texts   map[compact]texts // only of records that have some
	start   time.Time         // times in records are durations since start
	sweepAt int               // number of records at which sweep removes expired ones
	token   int64             // the last fencing token of any key, so that the tokens of a key grow even after its record has expired
}

var _ handoff.KeyStore = (*Store)(nil)

const minSweep = 1024

// New returns an empty store.
func New() *Store {
	return &Store{
		records: make(map[compact]record),
		texts:   make(map[compact]texts),
		start:   time.Now(),
		sweepAt: minSweep,
	}
}

// Claim implements [handoff.Store].
func (s *Store) Claim(ctx context.Context, l handoff.Lease) (handoff.Claim, error) {
	if err := checkCall(ctx, l); err != nil {
		return handoff.Claim{}, fmt.Errorf("memstore: claim: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	at, key := now.Sub(s.start), compacted(l.Key)
	r, known := s.find(key, at)
	if !known {
		s.sweep(at)
		r.begin(l, now)
		r.token = s.nextToken(now)
		r.hold(l, at)
		s.records[key] = r
		return acquired(r, texts{}), nil
	}
	switch status := s.claim(&r, l, key, now); status {
	case handoff.ClaimDone, handoff.ClaimSuperseded:
		return handoff.Claim{Status: status}, nil
	case handoff.ClaimDead:
		return handoff.Claim{Status: status, Letter: s.texts[key].letter}, nil
	case handoff.ClaimBusy:
		c := handoff.Claim{Status: status}
		if r.leased {
			c.Left = r.leaseEnd - at
		}
		return c, nil
	}
	r.hold(l, at)
	s.records[key] = r
	return acquired(r, s.texts[key]), nil
}

// claim changes r by the table of [handoff.Store] and returns the status.
func (s *Store) claim(r *record, l handoff.Lease, key compact, now time.Time) handoff.ClaimStatus {
	newer := rankOf(l).compare(r.rank)
	mine, held := r.owner == compacted(l.Owner), r.held(now.Sub(s.start))
	switch {
	case r.phase == phaseDone:
		return handoff.ClaimDone
	case r.phase == phaseDead:
		t := s.texts[key]
		switch {
		case l.Redrives > r.rank.redrives:
			s.keep(key, texts{memo: t.memo})
		case l.Freed == t.letter:
			s.keep(key, texts{})
		default:
			return handoff.ClaimDead
		}
		r.begin(l, now)
	case r.phase == phaseEnding:
		if mine && r.leased {
			return handoff.ClaimEnding // a repeat
		}
		if mine || held {
			return handoff.ClaimBusy
		}
	case newer < 0:
		return handoff.ClaimSuperseded
	case newer == 0 && mine && r.leased:
		return handoff.ClaimAcquired // a repeat
	case newer == 0 && mine && r.phase == phaseIdle, held:
		return handoff.ClaimBusy
	case newer > 0:
		r.begin(l, now)
	default:
		if r.phase == phaseOpened && r.attempt == 0 {
			r.first = now.UnixMicro()
		}
		r.crashed = r.crashed || r.phase == phaseRunning
		r.phase = phaseRunning
		r.attempt++
	}
	r.token = s.nextToken(now)
	if r.phase == phaseEnding {
		return handoff.ClaimEnding
	}
	return handoff.ClaimAcquired
}

// acquired returns the Claim of an acquired lease.
func acquired(r record, t texts) handoff.Claim {
	c := handoff.Claim{Status: handoff.ClaimAcquired, Attempt: r.attempt, Token: r.token, First: time.UnixMicro(r.first)}
	if r.phase == phaseEnding {
		c.Status, c.Note = handoff.ClaimEnding, bytes.Clone(t.note)
	} else {
		c.Crashed, c.Memo = r.crashed, bytes.Clone(t.memo)
	}
	return c
}

// Renew implements [handoff.Store].
func (s *Store) Renew(ctx context.Context, leases []handoff.Lease) ([]bool, error) {
	if err := checkCall(ctx, leases...); err != nil {
		return nil, fmt.Errorf("memstore: renew: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Since(s.start)
	held := make([]bool, len(leases))
	for i, l := range leases {
		key := compacted(l.Key)
		if r, known := s.find(key, at); known && r.heldBy(l.Owner) {
			r.hold(l, at)
			s.records[key] = r
			held[i] = true
		}
	}
	return held, nil
}

// Keep implements [handoff.Store].
func (s *Store) Keep(ctx context.Context, l handoff.Lease, memo []byte) error {
	if len(memo) > handoff.MaxMemo {
		return fmt.Errorf("memstore: keep: the memo has %d bytes, must be %d at most", len(memo), handoff.MaxMemo)
	}
	return s.change(ctx, "keep", l, func(e entry) (entry, error) {
		if !e.heldBy(l.Owner) {
			return e, handoff.ErrLeaseLost
		}
		e.memo = nil
		if len(memo) > 0 {
			e.memo = bytes.Clone(memo)
		}
		return e, nil
	})
}

// End implements [handoff.Store].
func (s *Store) End(ctx context.Context, l handoff.Lease, note []byte) error {
	return s.change(ctx, "end", l, func(e entry) (entry, error) {
		if !e.heldBy(l.Owner) {
			return e, handoff.ErrLeaseLost
		}
		e.phase, e.note = phaseEnding, bytes.Clone(note)
		return e, nil
	})
}

// Complete implements [handoff.Store].
func (s *Store) Complete(ctx context.Context, l handoff.Lease) error {
	return s.change(ctx, "complete", l, func(e entry) (entry, error) {
		if e.phase >= phaseOpened && e.owner == compacted(l.Owner) {
			return e, nil // a repeat
		}
		if !e.heldBy(l.Owner) {
			return e, handoff.ErrLeaseLost
		}
		e.leased, e.note = false, nil
		switch {
		case l.Letter != "":
			e.phase, e.letter = phaseDead, l.Letter
		case l.Opens == handoff.OpensNothing:
			e.phase, e.memo = phaseDone, nil
		default:
			e.open(l.Opens)
		}
		return e, nil
	})
}

// Release implements [handoff.Store].
func (s *Store) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	return s.change(ctx, "release", l, func(e entry) (entry, error) {
		switch {
		case e.phase >= phaseOpened || e.owner != compacted(l.Owner):
			return e, handoff.ErrLeaseLost
		case e.phase == phaseRunning:
			e.phase = phaseIdle
			if counted {
				e.crashed = false
			} else {
				e.attempt--
			}
		}
		e.leased = false
		return e, nil
	})
}

// change applies fn to the entry of a key that is known, and extends its life to
// the window.
func (s *Store) change(ctx context.Context, verb string, l handoff.Lease, fn func(entry) (entry, error)) error {
	err := checkCall(ctx, l)
	if err == nil {
		err = s.changeEntry(l, fn)
	}
	if err != nil {
		return fmt.Errorf("memstore: %s: %w", verb, err)
	}
	return nil
}

func (s *Store) changeEntry(l handoff.Lease, fn func(entry) (entry, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, key := time.Since(s.start), compacted(l.Key)
	r, known := s.find(key, at)
	if !known {
		return handoff.ErrLeaseLost
	}
	e, err := fn(entry{r, s.texts[key]})
	if err != nil {
		return err
	}
	e.expires = later(at, l.Window)
	s.records[key] = e.record
	s.keep(key, e.texts)
	return nil
}

// ShowKey implements [handoff.KeyStore].
func (s *Store) ShowKey(ctx context.Context, key string) (handoff.KeyRecord, error) {
	if err := checkKey(ctx, key); err != nil {
		return handoff.KeyRecord{}, fmt.Errorf("memstore: show key: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	at := now.Sub(s.start)
	r, known := s.find(compacted(key), at)
	if !known {
		return handoff.KeyRecord{State: "absent"}, nil
	}
	t := s.texts[compacted(key)]
	shown := handoff.KeyRecord{
		State: r.phase.String(), Owner: r.owner.String(), Redrives: r.rank.redrives, Generation: r.rank.generation,
		Attempt: r.attempt, Token: r.token, First: time.UnixMicro(r.first), Letter: t.letter, Memo: bytes.Clone(t.memo),
		Expires: now.Add(r.expires - at),
	}
	if r.held(at) {
		shown.Held = now.Add(r.leaseEnd - at)
	}
	return shown, nil
}

// FreeKey implements [handoff.KeyStore].
func (s *Store) FreeKey(ctx context.Context, key string) error {
	if err := checkKey(ctx, key); err != nil {
		return fmt.Errorf("memstore: free key: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, k := time.Since(s.start), compacted(key)
	if r, known := s.find(k, at); known && r.held(at) {
		return fmt.Errorf("memstore: free key: %w for %s", handoff.ErrKeyHeld, r.leaseEnd-at)
	}
	s.forget(k)
	return nil
}

func (s *Store) nextToken(now time.Time) int64 {
	s.token = max(s.token+1, now.UnixMicro())
	return s.token
}

// find returns the record of a key. It removes a record whose window has ended.
func (s *Store) find(key compact, at time.Duration) (r record, known bool) {
	r, known = s.records[key]
	if known && at >= r.expires {
		s.forget(key)
		return record{}, false
	}
	return r, known
}

func (s *Store) forget(key compact) {
	delete(s.records, key)
	delete(s.texts, key)
}

func (s *Store) keep(key compact, t texts) {
	if t.memo == nil && t.note == nil && t.letter == "" {
		delete(s.texts, key)
	} else {
		s.texts[key] = t
	}
}

// sweep removes expired records once there are twice as many records as after the
// last sweep, so that its cost per new record is constant.
func (s *Store) sweep(at time.Duration) {
	if len(s.records) < s.sweepAt {
		return
	}
	for key, r := range s.records {
		if at >= r.expires {
			s.forget(key)
		}
	}
	s.sweepAt = max(minSweep, 2*len(s.records))
}

func checkCall(ctx context.Context, leases ...handoff.Lease) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, l := range leases {
		if err := l.Validate(); err != nil {
			return err
		}
	}
	return nil
}

func checkKey(ctx context.Context, key string) error {
	if key == "" {
		return errEmptyKey
	}
	return ctx.Err()
}

var errEmptyKey = errors.New("the key is empty")
