package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/brillconsulting/handoff/internal/wire"
)

// DeadLetter is a task that was buried: everything that is needed to inspect it
// and to run it again by [Client.Redrive].
type DeadLetter struct {
	ID        string // of the letter; work that is buried again replaces its letter
	Task      string // task ID of the last delivery
	Queue     string // queue ID
	Kind      string // empty for a task without one
	HandoffID string // empty for a foreign task
	Key       string // fence key of keyed work, a hash; empty otherwise
	Target    string // URL that the task was delivered to
	Method    string // HTTP method of the delivery

	// ServiceAccount and Audience are those of the verified token. They are
	// empty if there was none.
	ServiceAccount, Audience string

	Header      map[string][]string // the task's own headers, without credentials and without the service's
	Payload     []byte              // as the producer wrote it, decompressed
	Reasons     []Reason            // why it was buried, the decisive reason first
	Attempts    int                 // attempts begun
	MaxAttempts int                 // Unlimited, or 0 if it is not known
	FirstAt     time.Time           // when the first of these attempts was claimed
	BuriedAt    time.Time           // when it was buried
	LastErr     string              // text of the last error, as the handler returned it
	Snoozes     int                 // how often it was snoozed
	Redrives    int                 // how often it was redriven before it was buried

	RedrivenAt time.Time // when its work was enqueued again; zero if it was not
}

// Withheld returns the names of the headers that the producer set on the task
// and that the letter does not hold because they are credentials, such as
// Authorization. [Client.Redrive] needs new values for them.
func (l DeadLetter) Withheld() []string {
	stamp, err := wire.ReadStamp(l.Header)
	if err != nil {
		return nil
	}
	return wire.Withheld(l.Header, stamp)
}

// DeadLetterStore keeps dead letters. Use memstore.NewDeadLetters in one process
// and redisstore.NewDeadLetters across processes. Every method must be safe for
// concurrent use and honour its context. handofftest.TestDeadLetterStore tests
// an implementation. An implementation may have a method Check() error, which
// [NewRouter] calls, as for a [Store].
type DeadLetterStore interface {
	// Put returns nil only when the letter is stored durably. A full store
	// returns an error, or removes other letters: first those that were
	// redriven, then the oldest. Put replaces a letter with the same ID. It
	// ignores letter.RedrivenAt: if the replaced letter has the same BuriedAt,
	// because a burial is repeated, its RedrivenAt stays; otherwise it is zero.
	Put(ctx context.Context, letter DeadLetter) error

	// List returns letters newest first, ordered by BuriedAt, then by the
	// bytes of ID. A page is also limited in bytes, so it may hold fewer
	// letters than asked for. The last page has an empty Next.
	List(ctx context.Context, query DeadLetterQuery) (DeadLetterPage, error)

	// Get returns the letter with this ID, or ErrNoDeadLetter.
	Get(ctx context.Context, id string) (DeadLetter, error)

	// Delete removes the letter with this ID. It returns nil if there is none.
	Delete(ctx context.Context, id string) error

	// MarkRedriven sets RedrivenAt of a letter whose work was enqueued again.
	// The letter is kept as long as before. It is not counted any more, and
	// listed only by DeadLetterQuery.Redriven. A letter that is marked already
	// keeps its RedrivenAt. MarkRedriven changes nothing and returns nil if
	// there is no such letter, or if its BuriedAt is not buriedAt because the
	// work was buried again meanwhile.
	MarkRedriven(ctx context.Context, id string, buriedAt time.Time) error

	// CountByKind returns the number of letters of each kind that were not
	// redriven.
	CountByKind(ctx context.Context) (map[string]int, error)

	// Retention returns how long a letter is kept after Put. The mark of dead
	// work in the router's [Store] lives as long, except for tasks that handoff
	// did not create.
	Retention() time.Duration
}

// DeadLetterQuery selects the letters that [DeadLetterStore].List returns.
type DeadLetterQuery struct {
	Kind   string // only letters of this kind; empty for all
	Cursor string // DeadLetterPage.Next of the page before; empty for the first page
	Limit  int    // letters per page; default 100, max 1000

	Redriven   bool // list letters that were redriven instead of those that were not
	NoPayloads bool // leave out payloads, which may be large
}

const (
	defaultLetterLimit = 100
	maxLetterLimit     = 1000
)

// PageSize returns Limit or its default, or an error if Limit is out of range. It
// is for implementations of [DeadLetterStore].
func (q DeadLetterQuery) PageSize() (int, error) {
	if q.Limit < 0 || q.Limit > maxLetterLimit {
		return 0, fmt.Errorf("handoff: DeadLetterQuery.Limit is %d; it must be 1 to %d, or 0 for %d", q.Limit, maxLetterLimit, defaultLetterLimit)
	}
	return cmp.Or(q.Limit, defaultLetterLimit), nil
}

// DeadLetterPage is one page of letters.
type DeadLetterPage struct {
	Letters []DeadLetter
	Next    string // cursor of the next page; empty on the last page
}

// ErrNoDeadLetter is returned for a letter that is not in the store.
var ErrNoDeadLetter = errors.New("handoff: no such dead letter")
