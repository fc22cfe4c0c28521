package engine

import "time"

// recent is what a queue did in the last minutes, second by second, for
// inspection. A queue that never dispatched has none.
type recent struct {
	seconds []second // by second modulo their number; nil before the first dispatch
}

const keptSeconds = 300

type second struct {
	unix int64
	Counts
}

// Counts are what happened in a time.
type Counts struct {
	Dispatched int32
	LagSum     time.Duration // by which the dispatches came after their schedule, together
	LagMax     time.Duration // the longest

	Succeeded  int32 // responses of 2xx
	Refused    int32 // other responses under 500
	Failed     int32 // responses of 500 and above
	Unanswered int32
}

func (r *recent) at(now int64) *Counts {
	if r.seconds == nil {
		r.seconds = make([]second, keptSeconds)
	}
	unix := now / int64(time.Second)
	s := &r.seconds[unix%keptSeconds]
	if s.unix != unix {
		*s = second{unix: unix}
	}
	return &s.Counts
}

func (r *recent) dispatched(due, now int64) {
	c := r.at(now)
	lag := max(0, time.Duration(now-due))
	c.Dispatched++
	c.LagSum += lag
	c.LagMax = max(c.LagMax, lag)
}

func (r *recent) ended(o Outcome, now int64) {
	c := r.at(now)
	switch {
	case o.Status == 0:
		c.Unanswered++
	case o.OK():
		c.Succeeded++
	case o.Status < 500:
		c.Refused++
	default:
		c.Failed++
	}
}

// responses counts the responses in the time before now, good and bad.
func (r *recent) responses(now int64, in time.Duration) (n int) {
	first := (now - int64(in)) / int64(time.Second)
	for _, s := range r.seconds {
		if s.unix > first {
			n += int(s.Succeeded + s.Refused + s.Failed)
		}
	}
	return n
}

// Second is what a queue did in one second.
type Second struct {
	At time.Time // its beginning
	Counts
}

// Activity returns what the queue did in the last five minutes, in the order
// of time, without the seconds in which it did nothing, and from when it is
// known.
func (q *Queue) Activity() (seconds []Second, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	first := now.Unix() - keptSeconds + 1
	for unix := first; unix <= now.Unix() && q.recent.seconds != nil; unix++ {
		if s := q.recent.seconds[unix%keptSeconds]; s.unix == unix {
			seconds = append(seconds, Second{At: time.Unix(unix, 0), Counts: s.Counts})
		}
	}
	since = time.Unix(0, q.born)
	if start := time.Unix(first, 0); since.Before(start) {
		since = start
	}
	return seconds, since
}
