package handoff

import (
	"context"
	"sync"
	"time"
)

// runContext is the context that a handler runs under. The timer of its
// deadline is set once somebody asks for its end, or makes a context from it:
// many tasks are done before anybody does.
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

// end stops the timer, or keeps it from being set any more: after the run,
// parent ends soon.
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
