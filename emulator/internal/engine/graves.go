package engine

import "slices"

// graves remembers the tasks that are gone, for as long as their names
// stay reserved (docs/cloud-tasks.md#8.3). A grave is a hash and a time. They lie in
// generations, so that old ones are dropped a map at a time and nothing has
// to run while the queue is idle.
type graves struct {
	generations []generation // oldest first
}

type generation struct {
	gone   map[uint64]int64 // hash of the task ID: Unix nanoseconds of its end
	opened int64
	newest int64
}

// Eight generations to a window: at most an eighth of what is remembered
// has expired already.
const generationsPerWindow = 8

func (g *graves) bury(hash uint64, now, window int64) {
	if window <= 0 {
		return
	}
	g.sweep(now, window)
	last := len(g.generations) - 1
	if last < 0 || now-g.generations[last].opened >= window/generationsPerWindow {
		g.generations = append(g.generations, generation{gone: make(map[uint64]int64), opened: now})
		last++
	}
	g.generations[last].gone[hash] = now
	g.generations[last].newest = now
}

// holds reports whether a task of this hash ended less than the window ago.
func (g *graves) holds(hash uint64, now, window int64) bool {
	for _, old := range slices.Backward(g.generations) {
		if ended, ok := old.gone[hash]; ok {
			return now-ended < window
		}
	}
	return false
}

func (g *graves) sweep(now, window int64) {
	old := 0
	for old < len(g.generations) && now-g.generations[old].newest >= window {
		old++
	}
	if old > 0 {
		g.generations = append(g.generations[:0:0], g.generations[old:]...)
	}
}
