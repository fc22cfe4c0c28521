package dashboard

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// logPause is the minimum time between two lines with the same message.
const logPause = time.Second

// sparseLog logs each message at most once a second. It is for messages that
// unknown callers, or many open pages, can cause at any rate.
type sparseLog struct {
	logger *slog.Logger

	mu   sync.Mutex
	last map[string]logged // by message
}

type logged struct {
	at      time.Time
	skipped int // lines since then
}

func newSparseLog(logger *slog.Logger) *sparseLog {
	return &sparseLog{logger: logger, last: make(map[string]logged)}
}

// log logs a message, unless it was logged less than logPause ago. The line has
// the number of lines that were skipped before it. Messages must be constants,
// because each is kept in memory.
func (l *sparseLog) log(ctx context.Context, level slog.Level, message string, args ...any) {
	l.mu.Lock()
	last := l.last[message]
	if time.Since(last.at) < logPause {
		last.skipped++
		l.last[message] = last
		l.mu.Unlock()
		return
	}
	l.last[message] = logged{at: time.Now()}
	l.mu.Unlock()
	if last.skipped > 0 {
		args = append(args, "skipped", last.skipped)
	}
	l.logger.Log(ctx, level, message, args...)
}

// shortened limits how much text of an unknown caller is logged.
func shortened(text string) string {
	const limit = 200
	if len(text) <= limit {
		return text
	}
	return text[:limit] + "…"
}
