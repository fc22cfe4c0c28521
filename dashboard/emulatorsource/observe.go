package emulatorsource

import (
	"context"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/emulator"
)

// Life implements [dashboard.Observer].
func (s *Source) Life(ctx context.Context, task string) (dashboard.Life, error) {
	life, ok := s.srv.Life(task)
	if _, full := placeOf(task); !ok || !full {
		return dashboard.Life{}, missing(task)
	}
	told := lifeOf(life)
	if life.Task != nil {
		request := admin.TaskOf(life.Task)
		told.Request = &request
	}
	return told, ctx.Err()
}

// Failing implements [dashboard.Observer].
func (s *Source) Failing(ctx context.Context, queue string) ([]dashboard.Failing, error) {
	var all []dashboard.Failing
	for _, f := range s.srv.Failing(queue) {
		all = append(all, dashboard.Failing{
			Queue: queue, Kind: admin.TaskOf(f.Last.Task).Kind, Target: f.Target, Tasks: f.Tasks,
			Last: dispatchOf(f.Last.Dispatches[len(f.Last.Dispatches)-1]),
		})
	}
	return all, ctx.Err()
}

// Ended implements [dashboard.Observer].
func (s *Source) Ended(ctx context.Context, queue string, limit int) ([]dashboard.Life, error) {
	var ended []dashboard.Life
	for _, life := range s.srv.Ended(queue, limit) {
		ended = append(ended, lifeOf(life))
	}
	return ended, ctx.Err()
}

// Activity implements [dashboard.Observer].
func (s *Source) Activity(ctx context.Context, queue string) (dashboard.Activity, error) {
	seen, ok := s.srv.Activity(queue)
	if _, full := placeOf(queue); !ok || !full {
		return dashboard.Activity{}, missing(queue)
	}
	a := dashboard.Activity{Since: seen.Since, Seconds: make([]dashboard.Second, len(seen.Seconds))}
	for i, second := range seen.Seconds {
		a.Seconds[i] = dashboard.Second(second)
	}
	return a, ctx.Err()
}

// ends maps the emulator's ends to the dashboard's.
var ends = map[emulator.End]dashboard.End{
	emulator.Succeeded: dashboard.Succeeded,
	emulator.GivenUp:   dashboard.GivenUp,
	emulator.Deleted:   dashboard.Deleted,
	emulator.Purged:    dashboard.Purged,
	emulator.TooOld:    dashboard.TooOld,
}

func lifeOf(l emulator.Life) dashboard.Life {
	life := dashboard.Life{
		Task:      l.Name,
		Target:    l.Target,
		CreatedAt: l.Created,
		EndedAt:   l.Ended,
		End:       ends[l.End],
		Earlier:   l.DispatchCount - len(l.Dispatches),
	}
	for _, d := range l.Dispatches {
		life.Attempts = append(life.Attempts, dispatchOf(d))
	}
	return life
}

func dispatchOf(d emulator.Dispatch) dashboard.Attempt {
	failure := d.Err
	if d.Timeout {
		failure = "none by the dispatch deadline"
	}
	return dashboard.Attempt{DueAt: d.Schedule, DispatchedAt: d.Dispatch, RespondedAt: d.Response, Status: d.Status, Failure: failure}
}
