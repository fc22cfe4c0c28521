package middleware

import "sync"

// cache keeps values that are expensive to build, such as attribute sets and span
// options. The zero cache is unlimited: use it only for keys of a closed set.
type cache[K comparable, V any] struct {
	limit int // max number of values; 0: unlimited

	mu    sync.RWMutex
	known map[K]V
}

// cacheLimit is far above the number of queues that a process serves. It bounds the
// memory if a caller invents queues.
const cacheLimit = 1000

// get returns the value of key, and builds it if the cache has none. It keeps a new
// value unless the cache is full.
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

// each calls fn with every value in the cache.
func (c *cache[K, V]) each(fn func(V)) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, v := range c.known {
		fn(v)
	}
}
