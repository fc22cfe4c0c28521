package engine

import "time"

// Stats is what v2beta3 tells of a queue at one moment (docs/cloud-tasks.md#5.1).
type Stats struct {
	Tasks         int       // waiting, running and to be retried
	Next          time.Time // when the first of those that wait is due; zero if none waits
	LastMinute    int       // responses of targets, good and bad
	Concurrent    int       // dispatches without a response yet
	EffectiveRate float64   // dispatches a second that are allowed now
}

// Stats returns the statistics of the queue now.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now().UnixNano()
	if q.throttle.recover(now) {
		q.resetBucket(now)
		q.start(now)
	}
	s := Stats{
		Tasks:         q.tasks.n,
		LastMinute:    q.recent.responses(now, time.Minute),
		Concurrent:    q.running,
		EffectiveRate: q.throttle.rate(q.settings.rate),
	}
	if t := q.agenda.first(); t != nil {
		s.Next = time.Unix(0, t.due)
	}
	return s
}
