package main

// stop is a time during which a process stood still.
type stop struct{ from, to int64 }

// told is how long a process that goes on may take to notice that its leases are
// lost: all of its goroutines run at once then, on a busy machine.
const told = int64(lease)

// stood reports whether a process stood still at a time, or has just gone on, so
// that its handlers could not be told that their leases are lost.
func (c *checker) stood(pid int, at int64) bool {
	for _, s := range c.stops[pid] {
		if s.from <= at && (s.to == never || at < s.to+told) {
			return true
		}
	}
	return false
}

// checkCrashed explains a letter that blames a crash. The attempts that were used up
// ended with their worker, failed and counted, or were claims that could not be
// released, or whose response was lost. The last cannot be seen from here, because no
// worker knows of them.
func (c *checker) checkCrashed(id string) {
	last := 0
	for _, x := range c.work[id] {
		last = max(last, x.rank())
	}
	seen := map[int]string{}
	for _, x := range c.work[id] {
		_, gone := c.exits[x.pid]
		switch {
		case !x.claimed || x.rank() != last:
		case x.counted:
			seen[x.att] = "failed, and counted"
		case gone && x.end == 0:
			seen[x.att] = "ended with their worker"
		case seen[x.att] == "":
			seen[x.att] = "could not be released"
		}
	}
	deaths := 0
	for attempt := 1; attempt <= maxAttempts; attempt++ {
		how := seen[attempt]
		if how == "" {
			how = "claimed, and the response was lost"
		}
		if how != "failed, and counted" {
			deaths++
		}
		c.report.crashed[how]++
	}
	if deaths == 0 {
		c.violatef(id, "buried as crashed, and all of its attempts failed")
	}
}

// checkExcuses bounds what is excused: second effects and overlaps by the claims that
// a death, a stop or a lost connection can have interrupted. Each origin has its bound,
// so that what is rare does not hide behind what is not.
func (c *checker) checkExcuses() {
	for origin, n := range c.report.excused {
		if runs := c.report.runsOf[origin]; n > 20+runs/10 {
			c.violatef("all", "%d of %d runs of %s are excused", n, runs, origin)
		}
	}
}
