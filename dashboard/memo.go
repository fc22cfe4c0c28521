package dashboard

import (
	"sync"
	"time"
)

// memo remembers answers for a short while, so that many who watch one page
// cost as many calls as one. An answer being fetched is waited for by all who
// want the same.
type memo[T any] struct {
	ttl time.Duration // 0: nothing is remembered

	mu      sync.Mutex
	entries map[string]*entry[T]
}

type entry[T any] struct {
	mu    sync.Mutex // held while it is being fetched
	value T
	at    time.Time // zero: not fetched yet
}

// get returns the answer for key, by fetch if it is not remembered. Errors are
// not remembered.
func (m *memo[T]) get(key string, fetch func() (T, error)) (T, error) {
	if m.ttl == 0 {
		return fetch()
	}
	a := m.entry(key)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.at.IsZero() && time.Since(a.at) < m.ttl {
		return a.value, nil
	}
	value, err := fetch()
	if err == nil {
		a.value, a.at = value, time.Now()
	}
	return value, err
}

// mostEntries bounds what is remembered; the rest is asked for again.
const mostEntries = 100

func (m *memo[T]) entry(key string) *entry[T] {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.entries[key]; a != nil {
		return a
	}
	if m.entries == nil || len(m.entries) >= mostEntries {
		m.entries = make(map[string]*entry[T])
	}
	a := new(entry[T])
	m.entries[key] = a
	return a
}

// forget is for after a change: the next look is a fresh one.
func (m *memo[T]) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries = nil
}
