package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/brillconsulting/handoff/internal/wire"
)

// DeadLetter is a task that will not run again by itself, kept whole.
type DeadLetter struct {
	ID        string // of the letter: one for each piece of work and generation
	Task      string // task ID of the last delivery
	Queue     string // queue ID
	Kind      string // empty for a task without one
	HandoffID string // empty for a foreign task
	Key       string // fence key of keyed work, a hash; empty otherwise
	Target    string // URL that the task was delivered to
	Method    string // of that request

	// ServiceAccount and Audience are those of the token that was verified;
	// empty without one.
	ServiceAccount, Audience string

	Header      map[string][]string // the task's own headers, without credentials and without the service's
	Payload     []byte              // as the producer wrote it, inflated
	Reasons     []Reason            // every one that applied, the decisive one first
	Attempts    int                 // executions begun
	MaxAttempts int                 // of the work, -1 for no limit; 0: not known
	FirstAt     time.Time           // when it was first claimed
	BuriedAt    time.Time           // when it was buried
	LastErr     string              // text of the last error; the handler's own words
	Snoozes     int
	Redrives    int // how often it had been redriven before it died

	RedrivenAt time.Time // when its work was enqueued again, by DeadLetterStore.MarkRedriven; zero: it waits
}

// Withheld returns the names of the headers, such as Authorization, that the
// producer put on the task and that the letter does not hold, because they are
// credentials. [Client.Redrive] needs them given anew.
func (l DeadLetter) Withheld() []string {
	stamp, err := wire.ReadStamp(l.Header)
	if err != nil {
		return nil
	}
	return wire.Withheld(l.Header, stamp)
}

// DeadLetterStore keeps what will not run again. Use memstore.NewDeadLetters in
// one process and redisstore.NewDeadLetters across processes. Every method
// must be safe for concurrent use and honour its context. An implementer
// proves itself with handofftest.TestDeadLetterStore, and may have a method
// Check() error as a [Store] has.
type DeadLetterStore interface {
	// Put keeps a letter durably before it returns nil: a store that is full
	// makes room by removing others, the redriven and the oldest first, or
	// returns an error. A letter with the same ID is replaced. Its RedrivenAt
	// is ignored: a letter of the same BuriedAt, as of a burial that is
	// repeated, keeps the mark of the one that it replaces, any other waits.
	Put(ctx context.Context, letter DeadLetter) error

	// List returns letters newest first (by BuriedAt, then ID, byte by byte).
	// A page may hold fewer than asked for, since it is bounded in bytes, too:
	// it is the last if its Next is empty.
	List(ctx context.Context, query DeadLetterQuery) (DeadLetterPage, error)

	// Get returns one letter, or ErrNoDeadLetter.
	Get(ctx context.Context, id string) (DeadLetter, error)

	// Delete removes one letter. One that is not there is no error.
	Delete(ctx context.Context, id string) error

	// MarkRedriven notes that the work of a letter was enqueued again. The
	// letter is kept as long as before, but neither counted nor listed unless
	// asked for. Marked again, it keeps the first time. A letter that is not
	// there, or was buried at another time than buriedAt, since the work has
	// died again meanwhile, is left alone; that is no error.
	MarkRedriven(ctx context.Context, id string, buriedAt time.Time) error

	// CountByKind returns how many letters wait of each kind: as many as List
	// lists.
	CountByKind(ctx context.Context) (map[string]int, error)

	// Retention is how long a letter is kept after Put. Work that is dead is
	// remembered as long.
	Retention() time.Duration
}

// DeadLetterQuery says which letters to list.
type DeadLetterQuery struct {
	Kind   string // only of this kind; empty: all
	Cursor string // DeadLetterPage.Next of the page before; empty: the newest
	Limit  int    // at most this many; default 100, at most 1000

	Redriven   bool // those that were redriven, in place of those that wait
	NoPayloads bool // leave out payloads, which may be large
}

const (
	defaultLetterLimit = 100
	maxLetterLimit     = 1000
)

// PageSize returns Limit or its default, or says what is wrong with it. It is
// for implementers of [DeadLetterStore].
func (q DeadLetterQuery) PageSize() (int, error) {
	if q.Limit < 0 || q.Limit > maxLetterLimit {
		return 0, fmt.Errorf("handoff: DeadLetterQuery.Limit is %d; it must be 1 to %d, or 0 for %d", q.Limit, maxLetterLimit, defaultLetterLimit)
	}
	return cmp.Or(q.Limit, defaultLetterLimit), nil
}

// DeadLetterPage is one page of letters.
type DeadLetterPage struct {
	Letters []DeadLetter
	Next    string // cursor of the next page; empty: this is the last
}

// ErrNoDeadLetter is returned for a letter that is not in the store.
var ErrNoDeadLetter = errors.New("handoff: no such dead letter")
