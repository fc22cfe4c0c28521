package middleware

import "sync"

// cache remembers what costs more to build than to use: attribute sets, span
// options. The zero cache is ready for use.
type cache[K comparable, V any] struct {
	mu    sync.RWMutex
	known map[K]V
}

// cacheLimit is far above the number of kinds and queues that a process has,
// and bounds the memory where somebody makes them up.
const cacheLimit = 1000

// get returns the value of a key, built if it is new. What build returns for
// the same key must be of the same worth every time.
func (c *cache[K, V]) get(key K, build func(K) V) V {
	c.mu.RLock()
	v, ok := c.known[key]
	c.mu.RUnlock()
	if ok {
		return v
	}
	v = build(key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = make(map[K]V)
	}
	if len(c.known) < cacheLimit {
		c.known[key] = v
	}
	return v
}
