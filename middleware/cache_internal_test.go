package middleware

import (
	"strconv"
	"sync"
	"testing"
)

// However many keys somebody makes up, what is remembered has a limit, and
// what is not remembered is built again.
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
		t.Errorf("%d keys are remembered, the limit is %d", len(c.known), cacheLimit)
	}
	c.get(0, func(int) string {
		t.Error("a key that was remembered is built again")
		return ""
	})
}
