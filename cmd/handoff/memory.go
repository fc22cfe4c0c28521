package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// restTick is how often the program checks whether it is idle.
	restTick = 2 * time.Second
	// restTicks is for how many ticks it must have been idle. Idle connections to
	// workers are closed after four seconds, so their memory is unused by then too.
	restTicks = 3
	// restBytes is the most that an idle program allocates in a tick.
	restBytes = 1 << 20
	// busyBytes is the least that a burst of work allocates.
	busyBytes = 16 << 20
)

// returnMemory returns unused memory to the system after each burst of work,
// until ctx ends. Go collects garbage when the heap grows. In an idle program it
// does not grow, so its memory would stay at the peak for minutes.
func returnMemory(ctx context.Context) {
	tick := time.NewTicker(restTick)
	defer tick.Stop()
	last := allocated()
	returned := last
	for rest := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := allocated()
		if rest++; now-last > restBytes {
			rest = 0
		}
		last = now
		if rest >= restTicks && now-returned >= busyBytes {
			debug.FreeOSMemory()
			returned = now
		}
	}
}

// allocated returns how many bytes the program has allocated since its start.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
