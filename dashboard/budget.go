package dashboard

import (
	"errors"
	"sync"
	"time"
)

// ErrBudget says that a [Source] keeps within the calls that it may make: what
// was asked for can be had a little later.
var ErrBudget = errors.New("dashboard: the list calls of this minute are used up")

// budget is how many list calls may be made a minute. It fills evenly, so that
// pages which are being watched cannot use up a minute in its first second
// and leave none for a person who clicks.
type budget struct {
	perMinute float64 // 0: no limit

	mu   sync.Mutex
	left float64
	at   time.Time
}

func newBudget(perMinute int) *budget {
	return &budget{perMinute: float64(perMinute), left: float64(perMinute), at: time.Now()}
}

// take uses up one call, or returns ErrBudget.
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
