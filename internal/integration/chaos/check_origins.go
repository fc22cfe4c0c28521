package main

import "github.com/brillconsulting/handoff"

// Origins of work, as events name them.
const (
	originShared  = "shared"  // several tasks have its key, some of them not made by handoff
	originForeign = "foreign" // one task, not made by handoff

	// redriven is that of runs after a redrive, whatever their work is.
	redriven = "redriven"
)

// origin names what x is counted as, or the work itself without x.
func (c *checker) origin(id string, x *execution) string {
	switch {
	case x != nil && x.red > 0:
		return redriven
	case c.origins[id] == "":
		return "ours"
	}
	return c.origins[id]
}

// Deliveries of one generation are of one task, however often its copy or its redrive
// was made. Only a key may have several tasks, until it is redriven.
func (c *checker) checkTasks(id string, runs []*execution) {
	tasks := map[int]string{}
	for _, x := range runs {
		if x.red == 0 && c.origins[id] == originShared {
			continue
		}
		if first := tasks[x.rank()]; first != "" && first != x.task {
			c.violatef(id, "run %s of generation %d, redrive %d is of task %s, another one of task %s", x.run, x.gen, x.red, x.task, first)
		}
		tasks[x.rank()] = x.task
	}
}

// A redriven task runs only after its letter was redriven. A redrive that succeeded has
// marked its letter, and its work has run again or died again.
func (c *checker) checkRedrives(id string, runs []*execution, letters []handoff.DeadLetter) {
	begun, marked, waiting := map[int]int64{}, map[int]bool{}, map[int]bool{}
	ran := 0
	for _, letter := range letters {
		waiting[letter.Redrives] = true
		ran = max(ran, letter.Redrives)
	}
	for _, x := range runs {
		ran = max(ran, x.red)
	}
	for _, e := range c.redrives[id] {
		if _, known := begun[e.Red]; !known {
			begun[e.Red] = e.T
		}
		if e.What != evRedriven {
			continue
		}
		if !marked[e.Red] {
			c.report.redriven++
		}
		marked[e.Red] = true
		if waiting[e.Red] {
			c.violatef(id, "its letter was redriven, and is not marked")
		}
		if ran <= e.Red {
			c.violatef(id, "its letter was redriven, and it did not run again")
		}
	}
	for _, x := range runs {
		if at, known := begun[x.red-1]; x.red > 0 && (!known || at > x.start) {
			c.violatef(id, "run %s is of redrive %d, which nobody asked for", x.run, x.red)
		}
	}
}

// A task that handoff did not create has no copy for later.
func (c *checker) checkForeign(id string, runs []*execution) {
	for _, x := range runs {
		if c.origins[id] == originForeign && x.red == 0 && x.gen > 0 {
			c.violatef(id, "run %s is of generation %d of a foreign task", x.run, x.gen)
		}
	}
}
