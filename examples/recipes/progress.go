package recipes

import (
	"context"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/steps"
)

// Export writes the rows of an account to a file, which takes a while.
type Export struct{ Account string }

// Kind implements handoff.Payload.
func (Export) Kind() string { return "export" }

// Policy gives an attempt the 30 minutes that Cloud Tasks allows at most.
func (Export) Policy() handoff.Policy {
	return handoff.Policy{Queue: "exports", Deadline: 30 * time.Minute}
}

// RunExport returns the handler of Export. After each page it saves how far it has
// got. The next attempt goes on from there, on whichever worker. Near the deadline, and
// when its worker stops, Save returns steps.ErrContinue. By returning it, the handler
// continues the work in a new task.
func RunExport(write func(ctx context.Context, account string, page int) (more bool, err error)) func(context.Context, Export) error {
	return func(ctx context.Context, e Export) error {
		return steps.Each(ctx, "pages", func(ctx context.Context, c *steps.Cursor[int]) error {
			page := c.At() // 0 in the first attempt
			for more := true; more; {
				var err error
				if more, err = write(ctx, e.Account, page); err != nil {
					return err
				}
				page++
				if err := c.Save(ctx, page); err != nil {
					return err
				}
			}
			return nil
		})
	}
}
