package dashboard

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/brillconsulting/handoff"
)

// redrives holds the redrive, or the deletion of letters, that was started last.
// There is one at a time: two would race for the same letters.
type redrives struct {
	mu     sync.Mutex
	now    progress
	began  bool
	cancel context.CancelFunc
}

// progress is the progress of a redrive or a deletion.
type progress struct {
	Filter   letterFilter // of work on all letters that match
	Deletes  bool         // letters are deleted, not redriven
	Selected bool         // the letters were selected one by one
	Counted  bool         // Total is known
	Total    int
	Done     int // letters that were redriven or deleted
	Gone     int // letters that did not exist any more
	Failed   int
	LastErr  string
	BeganAt  time.Time
	EndedAt  time.Time // zero while it runs
	Stopped  bool      // it was stopped before its end
	Unlisted bool      // the letters could not be listed, so none was changed
}

// Handled returns how many letters it has finished with.
func (p progress) Handled() int { return p.Done + p.Gone + p.Failed }

// UnderWay reports whether it is running.
func (p progress) UnderWay() bool { return p.EndedAt.IsZero() }

// progress returns a copy, or nil if none was started.
func (j *redrives) progress() *progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.began {
		return nil
	}
	now := j.now
	return &now
}

func (j *redrives) begin(p progress, cancel context.CancelFunc) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.began && j.now.UnderWay() {
		return false
	}
	j.now, j.began, j.cancel = p, true, cancel
	return true
}

func (j *redrives) note(change func(*progress)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(&j.now)
}

// stop stops it, and reports whether one was running.
func (j *redrives) stop() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.began || !j.now.UnderWay() {
		return false
	}
	j.cancel()
	return true
}

const redrivers = 8 // letters that are changed at the same time

// startRedrive redrives the letters with these IDs or, without IDs, all that match
// the filter now. It outlives the request: it ends when all are done, when it is
// stopped, or when the Dashboard is closed.
func (d *Dashboard) startRedrive(f letterFilter, ids []string) error {
	return d.startOnLetters(progress{Filter: f, Selected: ids != nil}, ids, func(ctx context.Context, id string) error {
		_, err := d.config.Client.Redrive(ctx, d.config.DeadLetters, id)
		return err
	})
}

// startDelete is like startRedrive, but deletes all letters that match the filter.
func (d *Dashboard) startDelete(f letterFilter) error {
	return d.startOnLetters(progress{Filter: f, Deletes: true}, nil, d.config.DeadLetters.Delete)
}

// startOnLetters starts a redrive or a deletion of the letters with these IDs or,
// without IDs, of all that match p.Filter.
func (d *Dashboard) startOnLetters(p progress, ids []string, do func(ctx context.Context, id string) error) error {
	ctx, cancel := context.WithCancel(d.ctx)
	p.Counted, p.Total, p.BeganAt = ids != nil, len(ids), time.Now()
	if !d.redrive.begin(p, cancel) {
		cancel()
		return &refusal{"A redrive is under way, or letters are being deleted: wait for the end, or stop it."}
	}
	d.work.Go(func() {
		defer cancel()
		d.runOnLetters(ctx, p.Filter, ids, do)
	})
	return nil
}

func (d *Dashboard) runOnLetters(ctx context.Context, f letterFilter, ids []string, do func(ctx context.Context, id string) error) {
	var listErr error
	if ids == nil {
		ids, listErr = matching(ctx, d.config.DeadLetters, f)
		d.redrive.note(func(p *progress) { p.Counted, p.Total = listErr == nil, len(ids) })
	}
	if listErr == nil {
		d.forEachLetter(ctx, ids, do)
	}
	d.redrive.note(func(p *progress) {
		p.EndedAt = time.Now()
		switch {
		case p.Counted && p.Handled() == p.Total:
		case ctx.Err() != nil:
			p.Stopped = true
		case listErr != nil:
			p.Unlisted, p.LastErr = true, listErr.Error()
		}
	})
}

// forEachLetter calls do for each letter, redrivers at a time. When ctx is done it
// waits for the running calls and makes no more.
func (d *Dashboard) forEachLetter(ctx context.Context, ids []string, do func(ctx context.Context, id string) error) {
	work := make(chan string)
	var workers sync.WaitGroup
	for range min(redrivers, len(ids)) {
		workers.Go(func() {
			for id := range work {
				// A call that runs is not cancelled: a stop is between two letters.
				d.doLetter(context.WithoutCancel(ctx), id, do)
			}
		})
	}
	for _, id := range ids {
		if ctx.Err() != nil {
			break
		}
		select {
		case work <- id:
		case <-ctx.Done():
		}
	}
	close(work)
	workers.Wait()
}

func (d *Dashboard) doLetter(ctx context.Context, id string, do func(ctx context.Context, id string) error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := do(ctx, id)
	d.redrive.note(func(p *progress) {
		switch {
		case err == nil:
			p.Done++
		case errors.Is(err, handoff.ErrNoDeadLetter):
			p.Gone++
		default:
			p.Failed++
			p.LastErr = err.Error()
		}
	})
}

// matching lists all letters that match, before the first is redriven. Otherwise a
// letter that dies again meanwhile would be redriven for ever.
func matching(ctx context.Context, store handoff.DeadLetterStore, f letterFilter) ([]string, error) {
	ids := []string{}
	for cursor := ""; ; {
		page, err := store.List(ctx, handoff.DeadLetterQuery{Kind: f.Kind, Cursor: cursor, Limit: lettersPage})
		if err != nil {
			return ids, err
		}
		for _, l := range page.Letters {
			if f.matches(l) {
				ids = append(ids, l.ID)
			}
		}
		if cursor = page.Next; cursor == "" {
			return ids, nil
		}
	}
}

// redriveAsk is the data of the page that asks before all matching letters are
// redriven or deleted.
type redriveAsk struct {
	Filter  letterFilter
	Matches int
	Deletes bool
}

func (d *Dashboard) askRedrive(r *http.Request) (view, error) {
	if d.config.Client == nil {
		return view{}, errNoClient
	}
	f := letterFilterOf(r.URL.Query())
	ids, err := matching(r.Context(), d.config.DeadLetters, f)
	return view{name: "redrive", title: "Redrive dead letters", nav: "dead", data: redriveAsk{Filter: f, Matches: len(ids)}}, err
}

func (d *Dashboard) askDeleteLetters(r *http.Request) (view, error) {
	if d.config.DeadLetters == nil {
		return view{}, errNoLetters
	}
	f := letterFilterOf(r.URL.Query())
	ids, err := matching(r.Context(), d.config.DeadLetters, f)
	return view{name: "redrive", title: "Delete dead letters", nav: "dead", data: redriveAsk{f, len(ids), true}}, err
}

func (d *Dashboard) showRedrive(*http.Request) (view, error) {
	v := view{name: "progress", title: "Redrive", nav: "dead"}
	p := d.redrive.progress()
	if p != nil && p.UnderWay() {
		v.live, v.refresh = true, time.Second
	}
	v.data = p
	return v, nil
}
