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

// TestStoreIsBounded: a month of work takes the memory of a few windows.
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
			time.Sleep(10 * time.Second) // 360 records are alive at a time
		}
		if grown := heap() - before; grown > 4<<20 {
			t.Errorf("100,000 claims of 360 in a window took %d kB", grown>>10)
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
