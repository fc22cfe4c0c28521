package handoff

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// refusalLog logs why deliveries were refused, at most once a second for each
// reason: a flood of requests must not flood the log.
type refusalLog struct {
	logger *slog.Logger
	mu     sync.Mutex
	last   map[Reason]refusal
}

type refusal struct {
	at     time.Time
	hidden int // refusals since at that were not logged
}

const refusalPause = time.Second

// add logs one refusal, with the number of those since the last line of this
// reason that were not logged. Reasons are of a closed set.
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
