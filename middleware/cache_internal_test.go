package middleware

import (
	"strconv"
	"sync"
	"testing"
)

// The cache is limited even if callers invent keys. Values beyond the limit are
// built again.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := cache[int, string]{limit: cacheLimit}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 2 * cacheLimit {
				if got := c.get(i, strconv.Itoa); got != strconv.Itoa(i) {
					t.Errorf("got %q for %d", got, i)
				}
			}
		})
	}
	group.Wait()
	if len(c.known) != cacheLimit {
		t.Errorf("the cache holds %d values, want at most %d", len(c.known), cacheLimit)
	}
	c.get(0, func(int) string {
		t.Error("a cached value was built again")
		return ""
	})
}
