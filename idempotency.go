package handoff

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Store keeps the records of the fence, which lets a piece of work have one run
// at a time. Use memstore.New within one process and redisstore.New across
// processes. Every method must be atomic for its key and safe for concurrent
// use, and must honour its context. handofftest.TestStore tests an
// implementation.
//
// A Store keeps one record for each key:
//
//	absent ─▶ running ─▶ idle ─▶ running …
//	          running ─▶ done
//	          running ─▶ opened ─▶ running …        the next generation
//	          running ─▶ ending ─▶ done or dead     only a redrive opens the dead
//
// The record counts attempts and holds the latest fencing token and the rank of
// the work. Ranks compare by redrives, then by generation. A record becomes
// absent only when its window ends, or by [KeyStore].FreeKey.
//
// The result of a claim depends on the record and on the rank of the claim,
// compared with that of the record:
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
// A lease is "held" until its TTL passes, and then "over". The lease of an
// ending record is also over when it was released. "Repeated" means that the
// owner gets the result of its first claim again, even if its lease is over, as
// long as no other owner has claimed the key. "First" means acquired as the first attempt
// of the higher rank, which closes the lower rank. The rank of an opened record
// is that of the generation it opened.
//
// A lease belongs to its owner until it is released or completed, or until it
// ran out and another owner claimed the key. So a late call succeeds if no other
// owner has claimed the key. A Store may instead treat a lease as lost as soon as
// it runs out.
//
// A Store may have a method Check() error, which [NewRouter] calls. It returns
// an error if the Store can never work, because its client is nil for example.
//
// Every method returns an error, and changes nothing, for a lease that
// [Lease.Validate] refuses. An error other than [ErrLeaseLost] means that the
// result is not known. If Claim returns one, the delivery is [Unavailable] and the
// handler does not run.
type Store interface {
	// Claim begins an attempt for l.Owner and gives it the lease of l.Key for
	// l.TTL, unless another delivery holds it or the work is over. The table
	// above lists the results.
	//
	// A second claim by an owner that holds the lease returns the first result
	// again and renews the lease; it counts no attempt. A claim by an owner that
	// has released the lease returns ClaimBusy and changes nothing.
	//
	// The count of attempts continues that of the record, or starts at one where
	// the table has "first".
	Claim(ctx context.Context, l Lease) (Claim, error)

	// Renew extends leases to their TTL from now, in one round trip if
	// possible. The result has one entry for each lease, in order: true if the
	// lease is held and was renewed, false if it is lost. If the error is not
	// nil, true still means renewed, but false means that the result is not
	// known.
	Renew(ctx context.Context, leases []Lease) ([]bool, error)

	// Keep stores memo with unfinished work, for later claims to return. It
	// replaces the previous memo; an empty memo removes it. The memo stays until
	// the work is done or freed: releases, lost leases, openings and redrives
	// keep it. Keep returns ErrLeaseLost, and changes nothing, if the owner does
	// not hold the lease. It returns another error if memo is longer than
	// [MaxMemo].
	Keep(ctx context.Context, l Lease, memo []byte) error

	// End marks running work as ending and stores note until Complete. The note
	// says what is left to do before the work is over, such as a burial. No
	// later claim is acquired. End returns ErrLeaseLost, and changes nothing, if
	// the owner does not hold the lease. A second End replaces the note.
	End(ctx context.Context, l Lease, note []byte) error

	// Complete marks the work as dead if l.Letter is set, opens its next
	// generation if l.Opens is not OpensNothing, and marks it as done otherwise.
	// The record then lives for l.Window. Complete returns ErrLeaseLost, and
	// changes nothing, if the owner does not hold the lease. A second Complete
	// by the same owner returns nil and changes at most how long the record
	// lives.
	Complete(ctx context.Context, l Lease) error

	// Release ends the lease and keeps the record. If counted is false, the
	// attempt is not counted: the next claim returns the same Attempt and
	// Crashed, with a new token. An ending record stays ending and keeps its
	// attempts. Release returns ErrLeaseLost, and changes nothing, if the owner
	// does not hold the lease. A second Release by the same owner returns nil.
	Release(ctx context.Context, l Lease, counted bool) error
}

// MaxMemo is the maximum length of a memo that a [Store] keeps, in bytes.
const MaxMemo = 4096

// Lease is one delivery's hold on a key.
type Lease struct {
	Key        string        // fence key, not empty; from this package, 22 characters of URL-safe base64
	Owner      string        // random, made for this one delivery; not empty
	Redrives   int           // how often the work was redriven
	Generation int           // how often it was copied for later or continued since the last redrive
	TTL        time.Duration // how long a claim or renewal holds; positive
	Window     time.Duration // how long the record lives after this call, unless a later call changes it; at least TTL

	Opens  Opening // for Complete: what it opens
	Letter string  // for Complete: ID of the letter that the work was buried in; only with OpensNothing
	Freed  string  // for Claim: ID of a letter that was deleted, so that work buried in it starts again
}

// Opening is what [Store].Complete opens.
type Opening int

// The openings.
const (
	OpensNothing   Opening = iota // no generation can run any more
	OpensNext                     // the next generation; its attempts count from one, as after [Snooze]
	OpensContinued                // the next generation; its attempts continue the count, as after [RetryIn]
	OpensUncounted                // as OpensContinued, but the attempt that completes does not count, as after [BusyFor]
)

// Validate returns an error that lists every problem of the lease, or nil. It is
// for implementations of [Store].
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
	return l.Opens == OpensNothing || l.Letter == "" && l.Opens >= OpensNext && l.Opens <= OpensUncounted
}

// ClaimStatus is how a claim ended.
type ClaimStatus int

// The statuses of a claim.
const (
	ClaimAcquired   ClaimStatus = iota + 1 // the owner has the lease and runs the work
	ClaimBusy                              // another owner holds the lease, or this owner has released it
	ClaimDone                              // the work is done, in any generation
	ClaimSuperseded                        // a later generation or redrive of this work exists
	ClaimEnding                            // the owner has the lease; it must do what Note says and not run the work
	ClaimDead                              // the work was buried in Letter
)

// Claim is the result of [Store].Claim. The comment of a field names the statuses
// that have it.
type Claim struct {
	Status  ClaimStatus
	Attempt int           // acquired: attempts begun, with this one; ending: attempts begun before End
	Token   int64         // acquired or ending: the fencing token, max(last + 1, Unix time in µs), so it grows with every claim of the key
	First   time.Time     // acquired or ending: when the first of these attempts was claimed, in µs
	Crashed bool          // acquired: the lease of the previous attempt ran out
	Memo    []byte        // acquired: the memo of Keep; nil for none
	Note    []byte        // ending: the note of End
	Letter  string        // dead: the Lease.Letter of Complete
	Left    time.Duration // busy: how long the lease still holds; 0 for an owner that has released it
}

// KeyStore is a [Store] that shows and frees single keys, for operators. All
// stores of this module are KeyStores. handofftest.TestStore tests these methods
// too.
type KeyStore interface {
	Store

	// ShowKey returns the record of a key. If there is none, its State is
	// "absent".
	ShowKey(ctx context.Context, key string) (KeyRecord, error)

	// FreeKey removes the record of a key, in any state, so that the work may
	// run again. It returns ErrKeyHeld, and changes nothing, while the lease is
	// held, because the work may be running. It returns nil if there is no
	// record.
	FreeKey(ctx context.Context, key string) error
}

// KeyRecord is the record of a key in a [KeyStore]. A field that the store does
// not keep is zero, as most are for done work.
type KeyRecord struct {
	State      string // absent, running, idle, ending, opened, done or dead
	Owner      string // owner of the current or last lease, as stored; it may be a digest of [Lease].Owner
	Redrives   int
	Generation int
	Attempt    int       // attempts begun
	Token      int64     // the latest fencing token
	First      time.Time // when the first of these attempts was claimed
	Held       time.Time // when the lease runs out; zero for none
	Letter     string    // dead: the ID of the letter
	Memo       []byte    // the memo of Keep
	Expires    time.Time // when the store removes the record
}

// ErrKeyHeld is returned by FreeKey while a lease is held, because the work may
// be running.
var ErrKeyHeld = errors.New("handoff: the key is held by a lease")
