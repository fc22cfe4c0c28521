package memstore

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/brillconsulting/handoff"
)

// Store is a [handoff.Store] in the memory of one process, for tests, for local
// development, and for a service that runs as a single process and may forget
// what was done when it restarts. It is safe for concurrent use.
//
// Records go when their window ends; memory is bounded by the work of one
// window. It starts no goroutine and needs no closing. Leases and windows are
// measured by the monotonic clock, and by the bubble's inside testing/synctest.
type Store struct {
	mu      sync.Mutex
	records map[compact]record
	notes   map[compact][]byte // of records that are burying
	start   time.Time          // what the instants in records count from
	sweepAt int                // number of records at which the expired ones are removed
	token   int64              // the last fencing token of all keys, so that tokens grow across windows too
}

var _ handoff.Store = (*Store)(nil)

type phase uint8

const (
	phaseRunning phase = iota
	phaseIdle
	phaseBurying
	phaseDone
)

// record holds no pointer, and neither does its key: a window's worth of
// records would otherwise be walked by every garbage collection.
type record struct {
	phase      phase
	crashed    bool    // the execution before the one that attempt counts ran out of its lease
	leased     bool    // the lease was not given up
	owner      compact // who holds the lease, or held it last
	generation int
	attempt    int
	token      int64
	first      int64         // Unix time in µs
	leaseEnd   time.Duration // this and expires count from Store.start
	expires    time.Duration
}

// compact is a string of up to 23 bytes behind its length, as the router's keys
// and owners are, or as much of the digest of a longer one.
type compact [24]byte

func compacted(s string) (c compact) {
	c[0] = 0xff
	if len(s) < len(c) {
		c[0] = byte(len(s))
		copy(c[1:], s)
		return c
	}
	sum := sha256.Sum256([]byte(s))
	copy(c[1:], sum[:])
	return c
}

const minSweep = 1024

// New returns an empty store.
func New() *Store {
	return &Store{
		records: make(map[compact]record),
		notes:   make(map[compact][]byte),
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
	switch {
	case !known:
		s.sweep(at)
		r = s.begin(l, now)
	case l.Generation < r.generation, l.Generation == r.generation && r.phase == phaseDone:
		return handoff.Claim{Status: handoff.ClaimDone}, nil
	case r.heldBy(l.Owner) && l.Generation == r.generation:
		// A repeat: the first answer stands.
	case r.leased && at < r.leaseEnd:
		return handoff.Claim{Status: handoff.ClaimBusy, Left: r.leaseEnd - at}, nil
	case l.Generation > r.generation:
		r = s.begin(l, now)
	case r.phase == phaseBurying:
		r.token = s.nextToken(now)
	default:
		r.crashed = r.crashed || r.phase == phaseRunning
		r.phase = phaseRunning
		r.attempt++
		r.token = s.nextToken(now)
	}
	r.owner, r.leased = compacted(l.Owner), true
	r.hold(l, at)
	s.records[key] = r

	c := handoff.Claim{Status: handoff.ClaimAcquired, Attempt: r.attempt, Token: r.token, First: time.UnixMicro(r.first), Crashed: r.crashed}
	if r.phase == phaseBurying {
		c.Status, c.Crashed, c.Note = handoff.ClaimBurying, false, slices.Clone(s.notes[key])
	}
	return c, nil
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

// Complete implements [handoff.Store].
func (s *Store) Complete(ctx context.Context, l handoff.Lease) error {
	return s.change(ctx, "complete", l, func(r record) (record, error) {
		repeat := r.phase == phaseDone && r.owner == compacted(l.Owner)
		if !r.heldBy(l.Owner) && !repeat {
			return r, handoff.ErrLeaseLost
		}
		r.phase, r.leased = phaseDone, false
		return r, nil
	})
}

// Release implements [handoff.Store].
func (s *Store) Release(ctx context.Context, l handoff.Lease, counted bool) error {
	return s.change(ctx, "release", l, func(r record) (record, error) {
		switch {
		case r.phase == phaseDone || r.owner != compacted(l.Owner):
			return r, handoff.ErrLeaseLost
		case r.phase == phaseRunning:
			r.phase = phaseIdle
			if counted {
				r.crashed = false
			} else {
				r.attempt--
			}
		}
		r.leased = false
		return r, nil
	})
}

// Bury implements [handoff.Store].
func (s *Store) Bury(ctx context.Context, l handoff.Lease, note []byte) error {
	return s.change(ctx, "bury", l, func(r record) (record, error) {
		if !r.heldBy(l.Owner) {
			return r, handoff.ErrLeaseLost
		}
		r.phase = phaseBurying
		s.notes[compacted(l.Key)] = slices.Clone(note)
		return r, nil
	})
}

// change applies fn to a record that is there and lets it live for the window.
func (s *Store) change(ctx context.Context, verb string, l handoff.Lease, fn func(record) (record, error)) error {
	err := checkCall(ctx, l)
	if err == nil {
		err = s.changeRecord(l, fn)
	}
	if err != nil {
		return fmt.Errorf("memstore: %s: %w", verb, err)
	}
	return nil
}

func (s *Store) changeRecord(l handoff.Lease, fn func(record) (record, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, key := time.Since(s.start), compacted(l.Key)
	r, known := s.find(key, at)
	if !known {
		return handoff.ErrLeaseLost
	}
	r, err := fn(r)
	if err != nil {
		return err
	}
	r.expires = later(at, l.Window)
	s.records[key] = r
	if r.phase != phaseBurying {
		delete(s.notes, key)
	}
	return nil
}

// begin returns the record of the first execution of a generation.
func (s *Store) begin(l handoff.Lease, now time.Time) record {
	return record{generation: l.Generation, attempt: 1, token: s.nextToken(now), first: now.UnixMicro()}
}

func (s *Store) nextToken(now time.Time) int64 {
	s.token = max(s.token+1, now.UnixMicro())
	return s.token
}

// find returns the record of a key unless its window has ended.
func (s *Store) find(key compact, at time.Duration) (r record, known bool) {
	r, known = s.records[key]
	return r, known && at < r.expires
}

// sweep removes the expired records whenever there are twice as many as were
// left by the last time, which costs each new one a constant share.
func (s *Store) sweep(at time.Duration) {
	if len(s.records) < s.sweepAt {
		return
	}
	for key, r := range s.records {
		if at >= r.expires {
			delete(s.records, key)
			delete(s.notes, key)
		}
	}
	s.sweepAt = max(minSweep, 2*len(s.records))
}

func (r *record) heldBy(owner string) bool { return r.leased && r.owner == compacted(owner) }

func (r *record) hold(l handoff.Lease, at time.Duration) {
	r.leaseEnd, r.expires = later(at, l.TTL), later(at, l.Window)
}

// later is at + d without overflow: a lease for ever must not end in the past.
func later(at, d time.Duration) time.Duration { return at + min(d, math.MaxInt64-at) }

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
