package dashboard

import (
	"cmp"
	"context"
	"encoding/json"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/internal/fence"
	"github.com/brillconsulting/handoff/internal/wire"
	"github.com/brillconsulting/handoff/steps"
)

// stepsView is how far the work of a task has come.
type stepsView struct {
	Done     []string        // names of the finished steps, in order
	Step     string          // that runs, or runs next; empty if it has no position yet
	Running  bool            // an attempt holds the work
	Position json.RawMessage // nil: there is none, or it is hidden
}

// stepsOf returns the steps of a task's work, or nil if the fence knows of none. The
// position is a part of the payload, and hidden like it.
func (d *Dashboard) stepsOf(ctx context.Context, task *admin.Task, shown bool) (*stepsView, error) {
	if d.config.Store == nil || task == nil || task.HandoffID == "" {
		return nil, nil //nolint:nilnil // there are none
	}
	stamp, err := wire.ReadStamp(task.Header)
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // no router takes this task, so it has no record
	}
	record, err := d.config.Store.ShowKey(ctx, cmp.Or(stamp.Key, fence.IDKey(stamp.ID)))
	if err != nil || record.Memo == nil {
		return nil, err
	}
	progress, err := steps.ParseProgress(record.Memo)
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // the memo of another package
	}
	view := &stepsView{Done: progress.Done, Step: progress.Step, Running: record.State == "running"}
	if shown {
		view.Position = progress.Position
	}
	return view, nil
}
