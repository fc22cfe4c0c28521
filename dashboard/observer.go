package dashboard

import (
	"context"
	"time"

	"github.com/brillconsulting/handoff/admin"
)

// Observer is a [Source] that has seen every dispatch, such as one of an emulator.
// (Cloud Tasks keeps only the first and the last dispatch of a task, until it
// ends.) The rules for the methods of a Source apply.
type Observer interface {
	Source

	// Life returns the history of a task, also after its end.
	Life(ctx context.Context, task string) (Life, error)

	// Ended returns at most limit tasks of a queue that have ended, the latest
	// first.
	Ended(ctx context.Context, queue string, limit int) ([]Life, error)

	// Failing returns the tasks of a queue that wait for a retry, grouped by
	// kind and target, the largest group first.
	Failing(ctx context.Context, queue string) ([]Failing, error)

	// Activity returns what a queue did in the last minutes.
	Activity(ctx context.Context, queue string) (Activity, error)
}

// Life is the history of a task, from its creation to its end.
type Life struct {
	Task      string // full name
	Target    string // URL that it is dispatched to
	CreatedAt time.Time
	EndedAt   time.Time // zero if it has not ended
	End       End       // empty if it has not ended
	Attempts  []Attempt // oldest first; the oldest of very many may be missing
	Earlier   int       // how many are missing

	// Request is the task with its body. It is nil if the source has dropped it,
	// and in the results of Observer.Ended.
	Request *admin.Task
}

// Failing is a group of tasks of one kind and target that wait for a retry.
type Failing struct {
	Queue  string // full name
	Kind   string // empty for tasks that handoff did not create
	Target string // URL that they are dispatched to
	Tasks  int
	Last   Attempt // the latest
}

// End is how a task ended.
type End string

// The ends of a task.
const (
	Succeeded End = "succeeded"
	GivenUp   End = "given up" // it was dispatched as often as its queue allows
	Deleted   End = "deleted"  // a caller deleted it
	Purged    End = "purged"   // its queue was purged
	TooOld    End = "too old"  // it reached the age limit of its queue
)

// Attempt is one dispatch of a task.
type Attempt struct {
	DueAt        time.Time
	DispatchedAt time.Time
	RespondedAt  time.Time // zero: no response, or none yet
	Status       int       // of HTTP; 0: no response, or none yet
	Failure      string    // why there was no response; empty while it runs
}

// OK reports whether the response was a 2xx, which ends the task.
func (a Attempt) OK() bool { return a.Status >= 200 && a.Status <= 299 }

// Running reports whether the response has not arrived yet.
func (a Attempt) Running() bool { return a.Status == 0 && a.Failure == "" }

// Activity is what a queue did, second by second.
type Activity struct {
	Since   time.Time // when the observation began
	Seconds []Second  // in order of time; seconds in which nothing happened may be missing
}

// Second is what a queue did in one second.
type Second struct {
	At time.Time // its beginning

	Dispatched int
	LagSum     time.Duration // sum of how late each dispatch was
	LagMax     time.Duration // how late the latest one was

	Succeeded  int // responses of 2xx
	Refused    int // responses of 3xx and 4xx
	Failed     int // responses of 5xx
	Unanswered int // dispatches without a response in time
}

// Ended returns the number of dispatches that ended.
func (s Second) Ended() int { return s.Succeeded + s.Refused + s.Failed + s.Unanswered }
