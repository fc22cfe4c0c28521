package emulatorsource

import (
	"context"

	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/emulator"
)

// Life implements [dashboard.Observer].
func (s *Source) Life(ctx context.Context, task string) (dashboard.Life, error) {
	life, ok := s.srv.Life(task)
	if _, full := placeOf(task); !ok || !full {
		return dashboard.Life{}, missing(task)
	}
	return lifeOf(life), ctx.Err()
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

// ends are the emulator's words for an end, in the dashboard's.
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
	for _, a := range l.Dispatches {
		failure := a.Err
		if a.Timeout {
			failure = "none by the dispatch deadline"
		}
		life.Attempts = append(life.Attempts, dashboard.Attempt{
			DueAt:        a.Schedule,
			DispatchedAt: a.Dispatch,
			RespondedAt:  a.Response,
			Status:       a.Status,
			Failure:      failure,
		})
	}
	return life
}
