package handoff

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Store is the memory of the fence that keeps one piece of work from running
// twice. Use memstore.New within one process and redisstore.New across
// processes. Every method must be atomic for its key and safe for concurrent
// use, and must honour its context. An implementer proves itself with
// handofftest.TestStore.
//
// A Store keeps one record for a key:
//
//	absent ─▶ running ─▶ idle ─▶ running …
//	          running ─▶ done
//	          running ─▶ opened ─▶ running …        the next generation
//	          running ─▶ ending ─▶ done or dead     only a redrive opens the dead
//
// It counts attempts, hands out fencing tokens, and remembers the rank of the
// work: how often it was redriven, then its generation. The record never goes
// back to absent before its window ends, except by [KeyStore].FreeKey.
//
// What a claim finds, by the rank that it claims:
//
//	record        │ lower rank │ same rank                 │ higher generation │ higher redrive
//	absent        │ acquired   │ acquired                  │ acquired          │ acquired
//	running, held │ superseded │ busy; its owner: repeated │ busy              │ busy
//	running, over │ superseded │ acquired, crashed         │ first             │ first
//	idle          │ superseded │ acquired; its owner: busy │ first             │ first
//	opened        │ superseded │ acquired                  │ first             │ first
//	ending, held  │ busy; its owner, whatever the rank: repeated
//	ending, over  │ ending; its owner, once it has released the lease: busy
//	dead          │ dead; with its letter as Lease.Freed: first           │ first
//	done          │ done
//
// "Held" is a lease that still holds, "over" one that ran out or, of an ending,
// was released. "Repeated" is the owner's first answer again; it gets that too
// while its lease is over and nobody has taken it. "First" is acquired as attempt
// one of that rank: the lower one is closed. An opened record has the rank that
// it opened.
//
// A claim takes the lease, and holds it until it is released or completed, or
// until it ran out and another claim took it. So a late call by an owner whom
// nobody has replaced is welcome: it tells the truth about the work. A Store
// may also count such a lease as lost the moment it runs out.
//
// A Store that can tell at once that it will never work, because its client is
// nil for example, has a method Check() error, which [NewRouter] calls.
//
// Every method refuses a lease that [Lease.Validate] refuses, and does nothing
// with it. Any error other than [ErrLeaseLost] means that the Store could not say:
// the router answers [Unavailable] and does not run the handler.
type Store interface {
	// Claim begins an execution for l.Owner, holding l.Key for l.TTL, unless
	// another delivery holds it or the work is over. See the table above and
	// [ClaimStatus]. Repeated by the same owner while it still holds the
	// lease, it gives its first answer again, counts nothing and renews the
	// lease. Repeated by an owner that has released the lease, it is
	// ClaimBusy and changes nothing.
	//
	// An execution begun is an attempt. Attempts go on from the record's,
	// and start again from one where the table says first.
	Claim(ctx context.Context, l Lease) (Claim, error)

	// Renew extends leases to their TTL from now, all in one round trip where
	// it can. The answer has one entry a lease, in order: true if it is still
	// held, false if it is lost. With an error, those that are true are
	// renewed all the same, and nothing is known of the others.
	Renew(ctx context.Context, leases []Lease) ([]bool, error)

	// Keep keeps memo with unfinished work in place of the memo before, for
	// the claims to come; an empty one leaves none. It is kept until the work
	// is done or freed: through releases, lost leases, what a completion opens,
	// and a redrive. It returns ErrLeaseLost, and changes nothing, if the
	// owner does not hold the lease, and another error if memo is longer than
	// [MaxMemo].
	Keep(ctx context.Context, l Lease, memo []byte) error

	// End marks running work as ending, and keeps note with it until Complete:
	// what is left to do before the work is over, a burial for example. From
	// then on no claim is acquired. It returns ErrLeaseLost, and changes
	// nothing, if the owner does not hold the lease. Repeated, the last note
	// stays.
	End(ctx context.Context, l Lease, note []byte) error

	// Complete marks the work as done, as dead if l.Letter is set, or opens
	// its next generation if l.Opens says so, for l.Window. It returns
	// ErrLeaseLost, and changes nothing, if the owner does not hold the lease.
	// Repeated by the owner that completed it, it succeeds again and changes
	// no more than how long the record lives.
	Complete(ctx context.Context, l Lease) error

	// Release ends the lease and keeps the record. Unless counted, it is as if
	// the execution had never begun: the next claim gets its attempt, and its
	// Crashed, again, but a new token. An ending record stays ending and
	// keeps its attempts. It returns ErrLeaseLost, and changes nothing, if the
	// owner does not hold the lease. Repeated by the owner that released it,
	// it succeeds again.
	Release(ctx context.Context, l Lease, counted bool) error
}

// MaxMemo is the greatest length of a memo that a [Store] keeps, in bytes.
const MaxMemo = 4096

// Lease is one delivery's hold on a key.
type Lease struct {
	Key        string        // fence key: 22 characters of URL-safe base64 from this package, any but the empty string from others
	Owner      string        // random, made for this one delivery; not empty
	Redrives   int           // how often the work was redriven
	Generation int           // how often it was snoozed or continued since; Redrives ranks before it
	TTL        time.Duration // how long a claim or renewal holds, over zero
	Window     time.Duration // how long the record lives after this call, unless a later one changes it; never under TTL

	Opens  Opening // Complete: what it opens
	Letter string  // Complete: the work is dead, and this is the ID of its letter; with OpensNothing only
	Freed  string  // Claim: the ID of a letter that is known to be gone, so that work which is dead by it begins afresh
}

// Opening is what a completion opens.
type Opening int

// The openings.
const (
	OpensNothing   Opening = iota // every generation is closed
	OpensNext                     // the next generation; its attempts count from one, as after [Snooze]
	OpensContinued                // the next generation; its attempts go on
)

// Validate returns everything that is wrong with the lease, or nil. It is for
// implementers of [Store].
func (l Lease) Validate() error {
	if l.Key != "" && l.Owner != "" && l.Generation >= 0 && l.Redrives >= 0 && l.TTL > 0 && l.Window >= l.TTL &&
		(l.Opens == OpensNothing || l.opensRightly()) {
		return nil
	}
	var errs []error
	if l.Key == "" {
		errs = append(errs, errors.New("handoff: Lease.Key is empty: every piece of work needs its own"))
	}
	if l.Owner == "" {
		errs = append(errs, errors.New("handoff: Lease.Owner is empty: every delivery needs its own"))
	}
	if l.Redrives < 0 {
		errs = append(errs, fmt.Errorf("handoff: Lease.Redrives is %d, must be 0 or more", l.Redrives))
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
	if !l.opensRightly() {
		errs = append(errs, fmt.Errorf("handoff: Lease.Opens is %d and Lease.Letter is %q, must be an Opening, and OpensNothing with a letter", l.Opens, l.Letter))
	}
	return errors.Join(errs...)
}

func (l Lease) opensRightly() bool {
	return l.Opens == OpensNothing || l.Letter == "" && (l.Opens == OpensNext || l.Opens == OpensContinued)
}

// ClaimStatus is what a Store answers to a claim.
type ClaimStatus int

// The answers to a claim.
const (
	ClaimAcquired   ClaimStatus = iota + 1 // run it
	ClaimBusy                              // another owner holds the lease, or this one has released it
	ClaimDone                              // it is done, whatever the generation
	ClaimSuperseded                        // a later generation or redrive of this work exists
	ClaimEnding                            // its ending was cut short: finish it by Note, do not run it
	ClaimDead                              // it is dead, and held by Letter
)

// Claim is the answer to a claim.
type Claim struct {
	Status  ClaimStatus
	Attempt int           // acquired: executions begun, this one included; ending: executions begun when it was ended
	Token   int64         // acquired or ending: the fencing token, growing with every claim of the key: max(last + 1, Unix time in µs)
	First   time.Time     // acquired or ending: when the first of these attempts was claimed, to the µs
	Crashed bool          // acquired: the execution before ended by its lease running out
	Memo    []byte        // acquired: what Keep kept; nil for none
	Note    []byte        // ending: what End kept
	Letter  string        // dead: the Lease.Letter of its completion
	Left    time.Duration // busy: how long the lease still holds; 0 for an owner that has released it
}

// KeyStore is a [Store] that shows and frees single keys, for operators. Both
// stores of this module are. handofftest.TestStore tests a Store that is one.
type KeyStore interface {
	Store

	// ShowKey returns the record of a key. Without one its State is "absent".
	ShowKey(ctx context.Context, key string) (KeyRecord, error)

	// FreeKey removes the record of a key, whatever its state: the work may
	// run again. It returns ErrKeyHeld, and changes nothing, while a lease
	// holds: the work may be running. A key without a record is no error.
	FreeKey(ctx context.Context, key string) error
}

// KeyRecord is what a [KeyStore] knows of a key. What it does not keep, as most
// of what is done, is zero.
type KeyRecord struct {
	State      string // absent, running, idle, ending, opened, done or dead
	Owner      string // who holds the lease or held it last, as the store keeps it: this may be a digest of [Lease].Owner
	Redrives   int
	Generation int
	Attempt    int       // executions begun
	Token      int64     // the latest fencing token
	First      time.Time // when the first of these attempts was claimed
	Held       time.Time // until when the lease holds; zero for none
	Letter     string    // dead: the ID of the letter that holds it
	Memo       []byte    // what Keep kept
	Expires    time.Time // when the record is forgotten
}

// ErrKeyHeld is returned for a key that cannot be freed, because its work may
// be running.
var ErrKeyHeld = errors.New("handoff: the key is held by a lease")
