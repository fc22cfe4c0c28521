package handoff

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// refusals logs why deliveries were refused, at most once a second for each
// reason: whoever floods the endpoint must not flood the log.
type refusals struct {
	logger *slog.Logger
	mu     sync.Mutex
	last   map[Reason]refusal
}

type refusal struct {
	at     time.Time
	hidden int // refusals since at that were not logged
}

const refusalPause = time.Second

func newRefusals(logger *slog.Logger) *refusals {
	return &refusals{logger: logger, last: make(map[Reason]refusal)}
}

func (r *refusals) log(ctx context.Context, o Outcome, reason Reason, err error) {
	if hidden, due := r.due(reason); due {
		r.logger.WarnContext(ctx, "handoff: delivery refused",
			"outcome", o, "reason", string(reason), "error", err, "unlogged", hidden)
	}
}

func (r *refusals) due(reason Reason) (hidden int, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	last, seen := r.last[reason]
	if seen && now.Sub(last.at) < refusalPause {
		last.hidden++
		r.last[reason] = last
		return 0, false
	}
	r.last[reason] = refusal{at: now}
	return last.hidden, true
}
