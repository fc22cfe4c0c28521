package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// restTick is how often the program is asked whether it is at rest.
	restTick = 3 * time.Second
	// restBytes is what a program at rest allocates in that time at most:
	// somebody looks at a queue now and then.
	restBytes = 1 << 20
	// busyBytes is what it must have allocated since memory was last given
	// back for there to be anything to give.
	busyBytes = 16 << 20
	// headroomBytes of garbage, and as much again as is in use, may gather before
	// Go collects. With a few megabytes in use, which is all that most emulators
	// ever have, it would collect many times a second under load, for a quarter
	// of the CPU time of a create.
	headroomBytes = 128 << 20
	// restLong is the number of ticks after which the connections to workers
	// are closed as well.
	restLong = 2
)

// tendMemory has the collector run seldom under load, and at rest returns to
// the system what a burst of work has left behind: when the burst is over, and
// again when its connections are closed. Go collects as the heap grows, and at
// rest it does not grow: the emulator would stay as large as it ever was for
// minutes, most of it garbage, beside the programs that are being developed.
func tendMemory(ctx context.Context) {
	// Memory that is never touched is none of the machine's, and counts for the
	// collector's goal, which is twice what is in use. GOGC=400 would do the same
	// for the few megabytes, and far too much for a gigabyte.
	headroom := make([]byte, headroomBytes/2)
	defer runtime.KeepAlive(headroom)
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	tick := time.NewTicker(restTick)
	defer tick.Stop()
	metrics.Read(sample)
	last := sample[0].Value.Uint64()
	given := last
	for rests := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(sample)
		allocated := sample[0].Value.Uint64()
		if allocated-last > restBytes {
			rests = 0
		} else {
			rests++
		}
		last = allocated
		if allocated-given < busyBytes || rests != 1 && rests != restLong {
			continue
		}
		debug.FreeOSMemory()
		if rests == restLong {
			given = allocated
		}
	}
}
