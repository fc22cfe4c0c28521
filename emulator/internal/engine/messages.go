package engine

import (
	"container/list"
	"sync"
)

// messages keeps the messages of finished tasks, those of the tasks that ended
// last, up to a number of bytes for all queues together.
type messages struct {
	limit int

	mu    sync.Mutex // may be locked while a queue is
	order list.List  // of *message, the oldest first
	bytes int
}

// message is the message of one finished task.
type message struct {
	encoded []byte        // nil if it is not kept any more
	at      *list.Element // nil too
}

// keptBytes is the limit for an engine, and keptOverhead what a message takes
// besides its bytes.
const (
	keptBytes    = 16 << 20
	keptOverhead = 128
)

func (m *messages) keep(encoded []byte) *message {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := &message{encoded: encoded}
	kept.at = m.order.PushBack(kept)
	m.bytes += len(encoded) + keptOverhead
	for m.bytes > m.limit {
		m.remove(m.order.Front().Value.(*message))
	}
	return kept
}

func (m *messages) drop(kept *message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if kept.at != nil {
		m.remove(kept)
	}
}

func (m *messages) remove(kept *message) {
	m.order.Remove(kept.at)
	m.bytes -= len(kept.encoded) + keptOverhead
	kept.encoded, kept.at = nil, nil
}

// read returns the message, nil if it is not kept any more.
func (m *messages) read(kept *message) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return kept.encoded
}
