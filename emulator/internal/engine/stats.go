package engine

import "time"

// Stats is what v2beta3 tells of a queue at one moment (reference §5.1).
type Stats struct {
	Tasks         int       // waiting, running and to be retried
	Next          time.Time // when the first of those that wait is due; zero if none waits
	LastMinute    int       // answers of targets, good and bad
	Concurrent    int       // attempts without an answer yet
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
		LastMinute:    q.replies.sum(now),
		Concurrent:    q.running,
		EffectiveRate: q.throttle.rate(q.settings.rate),
	}
	if t := q.agenda.first(); t != nil {
		s.Next = time.Unix(0, t.due)
	}
	return s
}

// replies counts the answers of the last minute, second by second.
type replies struct {
	counts [60]uint32 // by second modulo 60
	newest int64      // the last second that is counted, Unix
}

func (r *replies) add(now int64) {
	r.forget(now)
	r.counts[r.newest%60]++
}

func (r *replies) sum(now int64) int {
	r.forget(now)
	n := 0
	for _, c := range r.counts {
		n += int(c)
	}
	return n
}

// forget makes room for the seconds that have begun since the last one.
func (r *replies) forget(now int64) {
	second := now / int64(time.Second)
	for s := max(r.newest, second-60) + 1; s <= second; s++ {
		r.counts[s%60] = 0
	}
	r.newest = max(r.newest, second)
}
