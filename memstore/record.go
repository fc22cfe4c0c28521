package memstore

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"time"

	"github.com/brillconsulting/handoff"
)

type phase uint8

const (
	phaseRunning phase = iota
	phaseIdle
	phaseEnding
	phaseOpened
	phaseDead
	phaseDone
)

func (p phase) String() string {
	return [...]string{"running", "idle", "ending", "opened", "dead", "done"}[p]
}

// record and compact hold no pointers, so that the garbage collector does not scan
// the records of a whole window.
type record struct {
	phase    phase
	crashed  bool    // the lease of the previous execution expired
	leased   bool    // the lease was not released
	owner    compact // of the lease, or of the last one
	rank     rank
	attempt  int
	token    int64
	first    int64         // Unix time in µs
	leaseEnd time.Duration // since Store.start, as expires is
	expires  time.Duration
}

// texts holds the fields of a record that have no fixed size.
type texts struct {
	memo, note []byte
	letter     string
}

// entry is what a Store keeps of a key.
type entry struct {
	record
	texts
}

// rank orders the claims of a key: by redrives, then by generation.
type rank struct{ redrives, generation int }

func (r rank) compare(other rank) int {
	return cmp.Or(cmp.Compare(r.redrives, other.redrives), cmp.Compare(r.generation, other.generation))
}

func rankOf(l handoff.Lease) rank { return rank{l.Redrives, l.Generation} }

func (r *record) heldBy(owner string) bool { return r.leased && r.owner == compacted(owner) }

func (r *record) held(at time.Duration) bool { return r.leased && at < r.leaseEnd }

// hold gives the lease to l.
func (r *record) hold(l handoff.Lease, at time.Duration) {
	r.owner, r.leased = compacted(l.Owner), true
	r.leaseEnd, r.expires = later(at, l.TTL), later(at, l.Window)
}

// begin makes r the first attempt of l's rank.
func (r *record) begin(l handoff.Lease, now time.Time) {
	r.phase, r.rank, r.attempt, r.crashed, r.first = phaseRunning, rankOf(l), 1, false, now.UnixMicro()
}

// open makes r wait for the next generation.
func (r *record) open(opens handoff.Opening) {
	r.phase, r.crashed = phaseOpened, false
	r.rank.generation++
	switch opens {
	case handoff.OpensNext:
		r.attempt = 0
	case handoff.OpensUncounted:
		r.attempt--
	}
}

// later returns at+d, or the largest Duration if that overflows: the longest lease
// must not end in the past.
func later(at, d time.Duration) time.Duration { return at + min(d, math.MaxInt64-at) }

// compact holds the length of a string, then the string itself if it has at most
// 23 bytes, as the router's keys and owners do. For a longer string it holds 0xff
// and 23 bytes of its digest.
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

func (c compact) String() string {
	if n := int(c[0]); n < len(c) {
		return string(c[1 : 1+n])
	}
	return hex.EncodeToString(c[1:])
}
