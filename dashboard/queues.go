package dashboard

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/sqlstore"
)

// queuesView is the data of the page of all queues.
type queuesView struct {
	Groups  []queueGroup
	Watched bool // each row has a chart of its last minute
	Tasks   int64

	Failing []Failing // tasks that wait for a retry, the largest group first

	Dead        []count // dead letters of each kind, the largest first
	DeadTrouble string  // why they could not be counted

	Outbox        []sqlstore.QueueStats // of stuck
	OutboxTrouble string                // why they could not be counted
}

// Letters returns the number of dead letters.
func (v queuesView) Letters() int {
	n := 0
	for _, c := range v.Dead {
		n += c.N
	}
	return n
}

// queueGroup holds the queues of one location.
type queueGroup struct {
	Project, Location string
	Rows              []queueRow
}

type queueRow struct {
	admin.Queue
	Chart *chart // nil: nothing was observed
}

const rowSpan = time.Minute

func (d *Dashboard) showQueues(r *http.Request) (view, error) {
	queues, err := d.source.Queues(r.Context())
	if err != nil {
		return view{}, err
	}
	data := queuesView{Watched: d.watcher != nil}
	now := time.Now()
	for _, q := range queues {
		row := queueRow{Queue: q}
		if d.watcher != nil {
			// No chart: the queue was deleted meanwhile.
			if a, err := d.watcher.Activity(r.Context(), q.Name); err == nil {
				row.Chart = sparkline(a, now, rowSpan)
			}
			failing, err := d.watcher.Failing(r.Context(), q.Name)
			if err != nil {
				return view{}, err
			}
			data.Failing = append(data.Failing, failing...)
		}
		if q.Stats != nil {
			data.Tasks += q.Stats.Tasks
		}
		n := queueNameOf(q.Name)
		if last := len(data.Groups) - 1; last >= 0 && data.Groups[last].Project == n.Project && data.Groups[last].Location == n.Location {
			data.Groups[last].Rows = append(data.Groups[last].Rows, row)
			continue
		}
		data.Groups = append(data.Groups, queueGroup{n.Project, n.Location, []queueRow{row}})
	}
	slices.SortStableFunc(data.Failing, func(a, b Failing) int { return b.Tasks - a.Tasks })
	if d.config.DeadLetters != nil {
		if data.Dead, err = d.countDead(r.Context()); err != nil {
			// The page is useful without them.
			data.DeadTrouble = d.failure(r, err).data.(problem).say()
		}
	}
	if d.config.Outbox != nil {
		if data.Outbox, err = d.stuck(r.Context(), now); err != nil {
			data.OutboxTrouble = d.failure(r, err).data.(problem).say()
		}
	}
	return view{name: "queues", title: "Queues", nav: "queues", live: true, data: data}, nil
}

// queueName holds the parts of a queue's full name.
type queueName struct{ Project, Location, ID string }

func queueNameOf(name string) queueName {
	project, rest, _ := strings.Cut(strings.TrimPrefix(name, "projects/"), "/locations/")
	location, id, _ := strings.Cut(rest, "/queues/")
	return queueName{project, location, id}
}
