// Package refusals logs why deliveries were refused.
package refusals

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Log logs refusals, at most once a second for each reason: whoever floods the
// endpoint must not flood the log. It is safe for concurrent use.
type Log struct {
	logger *slog.Logger
	mu     sync.Mutex
	last   map[string]refusal
}

type refusal struct {
	at     time.Time
	hidden int // refusals since at that were not logged
}

const pause = time.Second

// New returns a Log. Reasons must come from a closed set: each is remembered.
func New(logger *slog.Logger) *Log {
	return &Log{logger: logger, last: make(map[string]refusal)}
}

// Refused logs one refusal, with the number of those since the last line of
// this reason that were not logged.
func (l *Log) Refused(ctx context.Context, outcome, reason string, err error) {
	if hidden, due := l.due(reason); due {
		l.logger.WarnContext(ctx, "handoff: delivery refused",
			"outcome", outcome, "reason", reason, "error", err, "unlogged", hidden)
	}
}

func (l *Log) due(reason string) (hidden int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	last, seen := l.last[reason]
	if seen && now.Sub(last.at) < pause {
		last.hidden++
		l.last[reason] = last
		return 0, false
	}
	l.last[reason] = refusal{at: now}
	return last.hidden, true
}
