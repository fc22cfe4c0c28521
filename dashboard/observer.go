package dashboard

import (
	"context"
	"time"

	"github.com/brillconsulting/handoff/admin"
)

// Observer is a [Source] that has seen the dispatches, as an emulator has.
// Cloud Tasks tells of none but the first and the last of a task that has not
// ended. Its methods are as those of a Source.
type Observer interface {
	Source

	// Life returns what a task has lived through, also after its end.
	Life(ctx context.Context, task string) (Life, error)

	// Ended returns the tasks of a queue that ended last, the latest first, at
	// most limit of them.
	Ended(ctx context.Context, queue string, limit int) ([]Life, error)

	// Failing returns the tasks of a queue that wait for a retry, grouped by
	// kind and target, the most first.
	Failing(ctx context.Context, queue string) ([]Failing, error)

	// Activity returns what a queue has done lately.
	Activity(ctx context.Context, queue string) (Activity, error)
}

// Life is a task from its creation to its end.
type Life struct {
	Task      string // full name
	Target    string // URL that it is dispatched to
	CreatedAt time.Time
	EndedAt   time.Time // zero: it has not ended
	End       End       // empty: it has not ended
	Attempts  []Attempt // oldest first; the oldest of very many may be missing
	Earlier   int       // how many are missing

	// Request is the task as it was, with its body. It is nil if it is not kept
	// any more, and in what Observer.Ended returns.
	Request *admin.Task
}

// Failing are tasks of one kind that wait for a retry.
type Failing struct {
	Queue  string // full name
	Kind   string // empty: they are not handoff's
	Target string // URL that they are dispatched to
	Tasks  int
	Last   Attempt // the latest
}

// End is how a task ended.
type End string

// The ends of a task.
const (
	Succeeded End = "succeeded"
	GivenUp   End = "given up" // its attempts are used up
	Deleted   End = "deleted"  // by a call
	Purged    End = "purged"   // with its queue's other tasks
	TooOld    End = "too old"  // past the age limit of its queue
)

// Attempt is one dispatch of a task.
type Attempt struct {
	DueAt        time.Time
	DispatchedAt time.Time
	RespondedAt  time.Time // zero: no response, or none yet
	Status       int       // of HTTP; 0: no response, or none yet
	Failure      string    // why there was no response; empty while it runs
}

// OK says whether the attempt ended the task well.
func (a Attempt) OK() bool { return a.Status >= 200 && a.Status <= 299 }

// Running says whether a response is being waited for.
func (a Attempt) Running() bool { return a.Status == 0 && a.Failure == "" }

// Activity is what a queue did, second by second.
type Activity struct {
	Since   time.Time // nothing was observed before
	Seconds []Second  // in the order of time, without those in which nothing happened
}

// Second is what a queue did in one second.
type Second struct {
	At time.Time // its beginning

	Dispatched int
	LagSum     time.Duration // by which the dispatches came after their schedule, together
	LagMax     time.Duration // the longest

	Succeeded  int // answers of 2xx
	Refused    int // answers of 3xx and 4xx
	Failed     int // answers of 5xx
	Unanswered int // no answer in time, or none at all
}

// Ended is how many attempts ended.
func (s Second) Ended() int { return s.Succeeded + s.Refused + s.Failed + s.Unanswered }
