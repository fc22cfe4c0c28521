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
// A Store that can tell at once that it will never work, because its client is
// nil for example, has a method Check() error, which [NewRouter] calls.
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

// The fence remembers work this long, at least (docs/cloud-tasks.md#8.3 for the day
// that a task name may stay reserved).
const (
	keyedWindow   = 24 * time.Hour
	unkeyedMargin = time.Hour // beyond the expiry of a task
	foreignWindow = time.Hour
	noTTLWindow   = 24 * time.Hour // slides with every attempt
)
