package recipes

import (
	"context"
	"strconv"
	"time"

	"github.com/brillconsulting/handoff"
)

// Export writes the rows of an account to a file, which takes a while.
type Export struct{ Account string }

// Kind implements handoff.Payload.
func (Export) Kind() string { return "export" }

// Policy gives an attempt the 30 minutes that Cloud Tasks allows at most.
func (Export) Policy() handoff.Policy {
	return handoff.Policy{Queue: "exports", Deadline: 30 * time.Minute}
}

// RunExport returns the handler of Export. After each page it keeps how far it has
// got. The next attempt goes on from there, on whichever worker.
func RunExport(write func(ctx context.Context, account string, page int) (more bool, err error)) func(context.Context, Export) error {
	return func(ctx context.Context, e Export) error {
		held, _ := handoff.HeldFromContext(ctx)
		page, _ := strconv.Atoi(string(held.Memo())) // 0 in the first attempt
		for more := true; more; page++ {
			var err error
			if more, err = write(ctx, e.Account, page); err != nil {
				return err
			}
			if err := held.Keep(ctx, []byte(strconv.Itoa(page+1))); err != nil {
				return err
			}
		}
		return nil
	}
}
