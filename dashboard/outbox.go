package dashboard

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/brillconsulting/handoff/sqlstore"
)

// Outbox has the tasks that were enqueued in a transaction and wait to be sent. A
// [sqlstore.Outbox] is one, even without a client. Its methods must be safe for
// concurrent use.
type Outbox interface {
	// Stats counts the rows that wait.
	Stats(ctx context.Context) (sqlstore.Stats, error)

	// List returns the rows after an ID, in the order of their IDs.
	List(ctx context.Context, after int64, limit int, parked bool) ([]sqlstore.Row, error)

	// Retry makes a row due now, and Drop deletes it. Both report whether the
	// row existed.
	Retry(ctx context.Context, id int64) (bool, error)
	Drop(ctx context.Context, id int64) (bool, error)
}

// rowsShown is how many rows are on a page of the outbox.
const rowsShown = 50

// outboxView is the data of the outbox's page.
type outboxView struct {
	Queues []sqlstore.QueueStats
	Rows   []sqlstore.Row
	Parked bool  // only parked rows
	First  bool  // this is the first page
	Next   int64 // the last row's ID; 0: there is no next page
}

// Empty reports whether the outbox has no rows.
func (v outboxView) Empty() bool { return len(v.Queues) == 0 }

var errNoOutbox = &refusal{"This dashboard has no outbox (Config.Outbox)."}

// outboxStatsAge is how old the counts of the outbox may be, since counting reads
// all of its rows.
const outboxStatsAge = 5 * time.Second

func (d *Dashboard) countOutbox(ctx context.Context) ([]sqlstore.QueueStats, error) {
	return d.waiting.get("", func() ([]sqlstore.QueueStats, error) {
		stats, err := d.config.Outbox.Stats(ctx)
		return stats.Queues, err
	})
}

// longWait is how long a row may wait before the start page shows its queue. A
// relay polls every second.
const longWait = time.Minute

// stuck returns the queues with rows that wait for longer than longWait or are
// parked.
func (d *Dashboard) stuck(ctx context.Context, now time.Time) ([]sqlstore.QueueStats, error) {
	all, err := d.countOutbox(ctx)
	var stuck []sqlstore.QueueStats
	for _, q := range all {
		if q.Parked > 0 || !q.Oldest.IsZero() && now.Sub(q.Oldest) > longWait {
			stuck = append(stuck, q)
		}
	}
	return stuck, err
}

func (d *Dashboard) showOutbox(r *http.Request) (view, error) {
	if d.config.Outbox == nil {
		return view{}, errNoOutbox
	}
	values := r.URL.Query()
	after, err := strconv.ParseInt(values.Get("after"), 10, 64)
	data := outboxView{Parked: values.Get("parked") != "", First: err != nil}
	if data.Queues, err = d.countOutbox(r.Context()); err != nil {
		return view{}, err
	}
	if data.Rows, err = d.config.Outbox.List(r.Context(), after, rowsShown, data.Parked); err != nil {
		return view{}, err
	}
	if len(data.Rows) == rowsShown {
		data.Next = data.Rows[rowsShown-1].ID
	}
	return view{name: "outbox", title: "Outbox", nav: "outbox", live: true, data: data}, nil
}

func (d *Dashboard) askDrop(r *http.Request) (view, error) {
	id, err := d.rowOf(r.URL.Query().Get("id"))
	return view{name: "drop", title: "Drop a row", nav: "outbox", data: id}, err
}

func (d *Dashboard) retryRow(r *http.Request) (string, error) {
	return d.changeRow(r, "retried", Outbox.Retry)
}

func (d *Dashboard) dropRow(r *http.Request) (string, error) {
	return d.changeRow(r, "dropped", Outbox.Drop)
}

func (d *Dashboard) changeRow(r *http.Request, done string, do func(Outbox, context.Context, int64) (bool, error)) (string, error) {
	id, err := d.rowOf(r.PostForm.Get("id"))
	if err != nil {
		return "", err
	}
	found, err := do(d.config.Outbox, r.Context(), id)
	if err == nil && !found {
		err = &refusal{"Nothing was changed: there is no such row. It may have been sent meanwhile."}
	}
	d.waiting.forget()
	return "/outbox?done=" + done, err
}

// rowOf returns the ID of the row in the path.
func (d *Dashboard) rowOf(text string) (int64, error) {
	if d.config.Outbox == nil {
		return 0, errNoOutbox
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, &refusal{"Nothing was changed: the ID of the row is not a number."}
	}
	return id, nil
}
