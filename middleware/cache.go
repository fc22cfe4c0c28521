package middleware

import "sync"

// cache remembers what costs more to build than to use: attribute sets, span
// options. The zero cache remembers everything, as it may where the keys are
// of a closed set.
type cache[K comparable, V any] struct {
	limit int // how many are remembered; 0: all

	mu    sync.RWMutex
	known map[K]V
}

// cacheLimit is far above the number of queues that a process serves, and
// bounds the memory where somebody makes them up.
const cacheLimit = 1000

// get returns the value of a key, built if it is new. While there is room, it
// is the same value every time.
func (c *cache[K, V]) get(key K, build func(K) V) V {
	c.mu.RLock()
	v, ok := c.known[key]
	c.mu.RUnlock()
	if ok {
		return v
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok = c.known[key]; ok {
		return v
	}
	v = build(key)
	if c.known == nil {
		c.known = make(map[K]V)
	}
	if c.limit == 0 || len(c.known) < c.limit {
		c.known[key] = v
	}
	return v
}

// each calls fn with every value that is remembered.
func (c *cache[K, V]) each(fn func(V)) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, v := range c.known {
		fn(v)
	}
}
