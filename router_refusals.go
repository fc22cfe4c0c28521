package handoff

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// refusalLog logs why deliveries were refused, at most once a second for each
// reason, so that many requests do not fill the log.
type refusalLog struct {
	logger *slog.Logger
	mu     sync.Mutex
	last   map[Reason]refusal
}

type refusal struct {
	at     time.Time
	hidden int // refusals after at, which were not logged
}

const refusalPause = time.Second

// add logs one refusal, with the number of refusals for the same reason that were
// not logged before. last stays small, because there are few reasons.
func (l *refusalLog) add(ctx context.Context, outcome Outcome, reason Reason, err error) {
	if hidden, due := l.due(reason); due {
		l.logger.WarnContext(ctx, "handoff: delivery refused",
			"outcome", outcome.String(), "reason", string(reason), "error", err, "unlogged", hidden)
	}
}

func (l *refusalLog) due(reason Reason) (hidden int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	last, seen := l.last[reason]
	if seen && now.Sub(last.at) < refusalPause {
		last.hidden++
		l.last[reason] = last
		return 0, false
	}
	l.last[reason] = refusal{at: now}
	return last.hidden, true
}
