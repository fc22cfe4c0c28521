//go:build !linux

package engine

import "time"

// timerLag is nothing where the runtime's timers are exact enough.
const timerLag = time.Duration(0)

func sleepExactly(time.Duration) {}
