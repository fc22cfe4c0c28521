package engine

import (
	"container/list"
	"sync"
)

// messages keeps the messages of finished tasks, up to limit bytes for all queues
// together. It drops the oldest first.
type messages struct {
	limit int

	mu    sync.Mutex // may be locked while a queue's mutex is held
	order list.List  // of *message, the oldest first
	bytes int
}

// message is the message of one finished task.
type message struct {
	encoded []byte        // nil once it is dropped
	at      *list.Element // nil once it is dropped
}

// keptBytes is the limit of an engine. keptOverhead is the memory that a message
// takes beyond its bytes.
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

// read returns the message, or nil once it is dropped.
func (m *messages) read(kept *message) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return kept.encoded
}
