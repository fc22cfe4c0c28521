package memstore_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/memstore"
)

// TestStoreIsBounded tests that the store's memory depends on the work of one
// window, not on all work since the start.
func TestStoreIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		before := heap()
		for i := range 100_000 {
			l := handoff.Lease{Key: fmt.Sprint(i), Owner: "a", TTL: time.Second, Window: time.Hour}
			_, err := store.Claim(context.Background(), l)
			assert.NoError(t, err)
			if i%100 == 0 {
				assert.NoError(t, store.End(context.Background(), l, make([]byte, 1000)))
			}
			time.Sleep(10 * time.Second) // 360 records fit in a window
		}
		if grown := heap() - before; grown > 4<<20 {
			t.Errorf("after 100,000 claims, 360 of them in a window, the heap has grown by %d kB", grown>>10)
		}
		runtime.KeepAlive(store)
	})
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
