// Package steps splits a handler into steps, so that long work goes on where it
// stopped: after an error, a crash or a deploy, and beyond the deadline of one
// attempt.
//
//	handoff.Handle(router, func(ctx context.Context, p Import) error {
//		sum, err := steps.Do(ctx, "download", func(ctx context.Context) (string, error) {
//			return fetch(ctx, p.URL)
//		})
//		if err != nil {
//			return err
//		}
//		return steps.Each(ctx, "rows", func(ctx context.Context, c *steps.Cursor[int64]) error {
//			for part := range read(p.File, sum, c.At()) {
//				if err := write(ctx, part); err != nil {
//					return err
//				}
//				if err := c.Save(ctx, part.Last); err != nil {
//					return err // it may be time to continue in another task
//				}
//			}
//			return nil
//		})
//	})
//
// The results of finished steps and the position of the running step are kept in
// the Store, in the memo of the work's record: at most [handoff.MaxMemo] bytes in
// all. A later attempt returns those results without running the steps again, and
// begins with the first step that did not finish. A step that was running when its worker died
// runs again, from its last position.
//
// If little time is left, or the router is shutting down, no further step begins:
// [Do], [Each] and [Cursor.Save] return [ErrContinue]. The handler returns that
// error, and the work continues at once in a new task.
//
// Steps are replayed in their order and by their names. A handler that runs a step
// whose name is not the next saved one gets an error before the step runs, because
// a step that was renamed, moved or removed would otherwise run again. Such an
// attempt fails and counts; deploying the previous version mends it. To change
// the steps of work that is under way, give the kind a new name, or add steps after
// the last one only.
//
// Steps need a [handoff.RouterConfig] with a Store and a Client.
package steps
