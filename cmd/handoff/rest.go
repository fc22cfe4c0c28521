package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// restTime is how long the program must have been at rest for memory to
	// be given back.
	restTime = 3 * time.Second
	// atRest and busy are how much is allocated in that time at most by a
	// program at rest, and in all at least by one that has something to give.
	atRest = 1 << 20
	busy   = 16 << 20
)

// giveBackMemory returns what a burst of work has left behind to the system,
// once after each. Go collects as the heap grows, and at rest it does not grow:
// the emulator would stay as large as it ever was for minutes, most of it
// garbage, beside the programs that are being developed.
func giveBackMemory(ctx context.Context) {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	tick := time.NewTicker(restTime)
	defer tick.Stop()
	var last, given uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(sample)
		allocated := sample[0].Value.Uint64()
		if allocated-last < atRest && allocated-given > busy {
			debug.FreeOSMemory()
			given = allocated
		}
		last = allocated
	}
}
