package dashboard

import (
	"errors"
	"sync"
	"time"
)

// ErrBudget is returned by a [Source] that has used up the calls that it may make
// for now. The caller may try again some seconds later.
var ErrBudget = errors.New("dashboard: the list calls of this minute are used up")

// budget limits the list calls a minute. It fills evenly, so that open pages,
// which refresh themselves, cannot use up a minute in its first second and leave
// none for a person who clicks.
type budget struct {
	perMinute float64 // 0: no limit

	mu   sync.Mutex
	left float64
	at   time.Time
}

func newBudget(perMinute int) *budget {
	return &budget{perMinute: float64(perMinute), left: float64(perMinute), at: time.Now()}
}

// take takes one call from the budget, or returns ErrBudget.
func (b *budget) take() error {
	if b.perMinute == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.left = min(b.perMinute, b.left+now.Sub(b.at).Minutes()*b.perMinute)
	b.at = now
	if b.left < 1 {
		return ErrBudget
	}
	b.left--
	return nil
}
