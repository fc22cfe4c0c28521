package handoff

import (
	"context"
	"sync"
	"time"
)

// runContext is the context of a handler. It starts the timer of its deadline
// only when the handler uses Done, Err or Deadline, or derives a context. Many
// handlers return without that, and a timer for each delivery is expensive.
type runContext struct {
	parent   context.Context // ends with the caller, the lease or a shutdown
	delivery *delivery

	once  sync.Once
	timed context.Context
	stop  context.CancelFunc
}

type infoKey struct{}

func (c *runContext) ctx() context.Context {
	c.once.Do(func() {
		c.timed, c.stop = context.WithDeadline(c.parent, c.delivery.result.Info.Deadline)
	})
	return c.timed
}

// end stops the timer. If there is none yet, later calls use parent, which ends
// soon after the run.
func (c *runContext) end() {
	c.once.Do(func() { c.timed, c.stop = c.parent, func() {} })
	c.stop()
}

func (c *runContext) Deadline() (time.Time, bool) { return c.ctx().Deadline() }
func (c *runContext) Done() <-chan struct{}       { return c.ctx().Done() }
func (c *runContext) Err() error                  { return c.ctx().Err() }

func (c *runContext) Value(key any) any {
	if key == (infoKey{}) {
		return c.delivery
	}
	return c.ctx().Value(key)
}
