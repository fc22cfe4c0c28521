package handoff

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// Store is the memory of the fence that keeps one piece of work from running
// twice. Use [NewMemoryStore] within one process and redisstore.New across
// processes. Every method must be atomic for its key and safe for concurrent
// use, and must honour its context. An implementer proves itself with
// handofftest.TestStore.
//
// A Store keeps one record for a key:
//
//	absent ─▶ running ─▶ idle ─▶ running … ─▶ burying ─▶ done
//	                                    └───────────────▶ done
//
// It counts attempts, hands out fencing tokens, and remembers the highest
// generation. The record never goes back to absent before its window ends.
//
// A claim takes the lease, and holds it until it is released or completed, or
// until it ran out and another claim took it. So a late call by an owner whom
// nobody has replaced is welcome: it tells the truth about the work. A Store
// may also count such a lease as lost the moment it runs out.
//
// Every method refuses a lease that [Lease.Validate] refuses, and does nothing
// with it. Any error other than [ErrLeaseLost] means that the Store could not say:
// the router answers [Unavailable] and does not run the handler.
type Store interface {
	// Claim begins an execution for l.Owner, holding l.Key for l.TTL, unless
	// another delivery holds it or the work is over. See [ClaimStatus] for
	// the answers. Repeated by the same owner while it still holds the lease,
	// it gives its first answer again, counts nothing and renews the lease.
	//
	// A claim of a lower generation than the record's is ClaimDone. One of a
	// higher generation finds the work begun afresh, whatever became of the
	// older one: attempts start again from one, the fencing token goes on
	// growing; a running lease is still ClaimBusy.
	Claim(ctx context.Context, l Lease) (Claim, error)

	// Renew extends leases to their TTL from now, all in one round trip where
	// it can. The answer has one entry a lease, in order: true if it is still
	// held, false if it is lost. With an error, those that are true are
	// renewed all the same, and nothing is known of the others.
	Renew(ctx context.Context, leases []Lease) ([]bool, error)

	// Complete marks the work as done for l.Window. It returns ErrLeaseLost,
	// and changes nothing, if the owner does not hold the lease. Repeated by
	// the owner that completed it, it succeeds again.
	Complete(ctx context.Context, l Lease) error

	// Release ends the lease and keeps the record. Unless counted, it is as if
	// the execution had never begun: the next claim gets its attempt, and its
	// Crashed, again, but a new token. A burying record stays burying and
	// keeps its attempts. It returns ErrLeaseLost, and changes nothing, if the
	// owner does not hold the lease. Repeated by the owner that released it,
	// it succeeds again.
	Release(ctx context.Context, l Lease, counted bool) error

	// Bury marks a running record as burying and keeps note with it until
	// Complete. From then on no claim of this generation is acquired. It
	// returns ErrLeaseLost, and changes nothing, if the owner does not hold
	// the lease. Repeated, the last note stays.
	Bury(ctx context.Context, l Lease, note []byte) error
}

// Lease is one delivery's hold on a key.
type Lease struct {
	Key        string        // fence key: 22 characters of URL-safe base64 from this package, any but the empty string from others
	Owner      string        // random, made for this one delivery; not empty
	Generation int           // how often the work was snoozed
	TTL        time.Duration // how long a claim or renewal holds, over zero
	Window     time.Duration // how long the record lives after the latest change; never under TTL
}

// Validate returns everything that is wrong with the lease, or nil. It is for
// implementers of [Store].
func (l Lease) Validate() error {
	if l.Key != "" && l.Owner != "" && l.Generation >= 0 && l.TTL > 0 && l.Window >= l.TTL {
		return nil
	}
	var errs []error
	if l.Key == "" {
		errs = append(errs, errors.New("handoff: Lease.Key is empty: every piece of work needs its own"))
	}
	if l.Owner == "" {
		errs = append(errs, errors.New("handoff: Lease.Owner is empty: every delivery needs its own"))
	}
	if l.Generation < 0 {
		errs = append(errs, fmt.Errorf("handoff: Lease.Generation is %d, must be 0 or more", l.Generation))
	}
	if l.TTL <= 0 {
		errs = append(errs, fmt.Errorf("handoff: Lease.TTL is %v, must be over 0", l.TTL))
	}
	if l.Window < l.TTL {
		errs = append(errs, fmt.Errorf("handoff: Lease.Window is %v, must be the TTL of %v or more", l.Window, l.TTL))
	}
	return errors.Join(errs...)
}

// ClaimStatus is what a Store answers to a claim.
type ClaimStatus int

// The answers to a claim.
const (
	ClaimAcquired ClaimStatus = iota + 1 // run it
	ClaimBusy                            // another owner holds the lease
	ClaimDone                            // it completed, was buried, or a newer generation exists
	ClaimBurying                         // its burial was cut short: finish it with Note, do not run it
)

// Claim is the answer to a claim.
type Claim struct {
	Status  ClaimStatus
	Attempt int           // acquired: executions begun, this one included; burying: executions begun when it was buried
	Token   int64         // acquired or burying: the fencing token, growing with every claim of the key: max(last + 1, Unix time in µs)
	First   time.Time     // acquired or burying: when the first execution of this generation was claimed, to the µs
	Crashed bool          // acquired: the execution before ended by its lease running out
	Note    []byte        // burying: what Bury kept
	Left    time.Duration // busy: how long the lease still holds
}

// The fence remembers work this long, at least (reference §8.3 for the day
// that a task name may stay reserved).
const (
	keyedWindow   = 24 * time.Hour
	unkeyedMargin = time.Hour // beyond the expiry of a task
	foreignWindow = time.Hour
	noTTLWindow   = 24 * time.Hour // slides with every attempt
)

// fenceKey hashes parts into the 128 bits that name a piece of work in a
// Store. The domain and the length before each part keep ("a","bc") and
// ("ab","c"), or a key and an ID that read alike, apart.
func fenceKey(domain string, parts ...string) string {
	sum := digest(domain, parts...)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func digest(domain string, parts ...string) [sha256.Size]byte {
	var buf [512]byte
	b := append(buf[:0], domain...)
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}

// MemoryStore is a [Store] in the memory of one process, for tests, for local
// development, and for a service that runs as a single process and may forget
// what was done when it restarts. It is safe for concurrent use.
//
// Records go when their window ends; memory is bounded by the work of one
// window. It starts no goroutine and needs no closing. Leases and windows are
// measured by the monotonic clock, and by the bubble's inside testing/synctest.
type MemoryStore struct {
	mu      sync.Mutex
	records map[compact]record
	notes   map[compact][]byte // of records that are burying
	start   time.Time          // what the instants in records count from
	sweepAt int                // number of records at which the expired ones are removed
	token   int64              // the last fencing token of all keys, so that tokens grow across windows too
}

var _ Store = (*MemoryStore)(nil)

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
	leaseEnd   time.Duration // this and expires count from MemoryStore.start
	expires    time.Duration
}

// compact is a string of up to 31 bytes behind its length, or the digest of a
// longer one.
type compact [32]byte

func compacted(s string) (c compact) {
	if len(s) < len(c) {
		c[0] = byte(len(s))
		copy(c[1:], s)
		return c
	}
	c = sha256.Sum256([]byte(s))
	c[0] = 0xff
	return c
}

const minSweep = 1024

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{
		records: make(map[compact]record),
		notes:   make(map[compact][]byte),
		start:   time.Now(),
		sweepAt: minSweep,
	}
}

// Claim implements [Store].
func (s *MemoryStore) Claim(ctx context.Context, l Lease) (Claim, error) {
	if err := checkCall(ctx, l); err != nil {
		return Claim{}, fmt.Errorf("handoff: claim: %w", err)
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
		return Claim{Status: ClaimDone}, nil
	case r.heldBy(l.Owner) && l.Generation == r.generation:
		// A repeat: the first answer stands.
	case r.leased && at < r.leaseEnd:
		return Claim{Status: ClaimBusy, Left: r.leaseEnd - at}, nil
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

	c := Claim{Status: ClaimAcquired, Attempt: r.attempt, Token: r.token, First: time.UnixMicro(r.first), Crashed: r.crashed}
	if r.phase == phaseBurying {
		c.Status, c.Crashed, c.Note = ClaimBurying, false, slices.Clone(s.notes[key])
	}
	return c, nil
}

// Renew implements [Store].
func (s *MemoryStore) Renew(ctx context.Context, leases []Lease) ([]bool, error) {
	if err := checkCall(ctx, leases...); err != nil {
		return nil, fmt.Errorf("handoff: renew: %w", err)
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

// Complete implements [Store].
func (s *MemoryStore) Complete(ctx context.Context, l Lease) error {
	return s.change(ctx, "complete", l, func(r *record) error {
		repeat := r.phase == phaseDone && r.owner == compacted(l.Owner)
		if !r.heldBy(l.Owner) && !repeat {
			return ErrLeaseLost
		}
		r.phase, r.leased = phaseDone, false
		return nil
	})
}

// Release implements [Store].
func (s *MemoryStore) Release(ctx context.Context, l Lease, counted bool) error {
	return s.change(ctx, "release", l, func(r *record) error {
		switch {
		case r.phase == phaseDone || r.owner != compacted(l.Owner):
			return ErrLeaseLost
		case r.phase == phaseRunning:
			r.phase = phaseIdle
			if counted {
				r.crashed = false
			} else {
				r.attempt--
			}
		}
		r.leased = false
		return nil
	})
}

// Bury implements [Store].
func (s *MemoryStore) Bury(ctx context.Context, l Lease, note []byte) error {
	return s.change(ctx, "bury", l, func(r *record) error {
		if !r.heldBy(l.Owner) {
			return ErrLeaseLost
		}
		r.phase = phaseBurying
		s.notes[compacted(l.Key)] = slices.Clone(note)
		return nil
	})
}

// change applies fn to a record that is there and lets it live for the window.
func (s *MemoryStore) change(ctx context.Context, verb string, l Lease, fn func(*record) error) error {
	err := checkCall(ctx, l)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		at, key := time.Since(s.start), compacted(l.Key)
		err = ErrLeaseLost
		if r, known := s.find(key, at); known {
			if err = fn(&r); err == nil {
				r.expires = later(at, l.Window)
				s.records[key] = r
				if r.phase != phaseBurying {
					delete(s.notes, key)
				}
			}
		}
	}
	if err != nil {
		return fmt.Errorf("handoff: %s: %w", verb, err)
	}
	return nil
}

// begin returns the record of the first execution of a generation.
func (s *MemoryStore) begin(l Lease, now time.Time) record {
	return record{generation: l.Generation, attempt: 1, token: s.nextToken(now), first: now.UnixMicro()}
}

func (s *MemoryStore) nextToken(now time.Time) int64 {
	s.token = max(s.token+1, now.UnixMicro())
	return s.token
}

// find returns the record of a key unless its window has ended.
func (s *MemoryStore) find(key compact, at time.Duration) (r record, known bool) {
	r, known = s.records[key]
	return r, known && at < r.expires
}

// sweep removes the expired records whenever there are twice as many as were
// left by the last time, which costs each new one a constant share.
func (s *MemoryStore) sweep(at time.Duration) {
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

func (r *record) hold(l Lease, at time.Duration) {
	r.leaseEnd, r.expires = later(at, l.TTL), later(at, l.Window)
}

// later is at + d without overflow: a lease for ever must not end in the past.
func later(at, d time.Duration) time.Duration { return at + min(d, math.MaxInt64-at) }

func checkCall(ctx context.Context, leases ...Lease) error {
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
