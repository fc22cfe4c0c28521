package dashboard

import (
	"sync"
	"time"
)

// memo caches values for a short time, so that many open pages cost as many calls
// as one. Callers that want a value while it is fetched wait for that fetch.
type memo[T any] struct {
	ttl time.Duration // 0: nothing is cached

	mu      sync.Mutex
	entries map[string]*entry[T]
}

type entry[T any] struct {
	mu    sync.Mutex // held while the value is fetched
	value T
	at    time.Time // zero: not fetched yet
}

// get returns the value of key. It calls fetch if the value is not cached. Errors
// are not cached.
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

// maxEntries is the number of entries at which the cache is emptied.
const maxEntries = 100

func (m *memo[T]) entry(key string) *entry[T] {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.entries[key]; a != nil {
		return a
	}
	if m.entries == nil || len(m.entries) >= maxEntries {
		m.entries = make(map[string]*entry[T])
	}
	a := new(entry[T])
	m.entries[key] = a
	return a
}

// forget empties the cache. It is called after a change.
func (m *memo[T]) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries = nil
}
