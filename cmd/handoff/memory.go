package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// restTick is how often the program is asked whether it is at rest.
	restTick = 2 * time.Second
	// restTicks is how long it must have been: until the connections to workers,
	// which are closed after four seconds, have gone too.
	restTicks = 3
	// restBytes is what a program at rest allocates in a tick at most: a queue is
	// looked at now and then.
	restBytes = 1 << 20
	// busyBytes is what a burst of work allocates at least.
	busyBytes = 16 << 20
)

// returnMemory returns unused memory to the system after each burst of work,
// until ctx is done. Go collects garbage as the heap grows. At rest it does not
// grow, and for minutes the emulator would stay as large as it ever was.
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

// allocated is how many bytes the program has allocated since it began.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
