package dashboard_test

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/sqlstore"
)

// rows is an outbox in memory. The tests of cmd/handoff show one in SQL.
type rows struct {
	mu    sync.Mutex
	rows  []sqlstore.Row
	calls []string
	err   error
}

func (o *rows) Stats(context.Context) (sqlstore.Stats, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var stats sqlstore.Stats
	for _, r := range o.rows {
		i := slices.IndexFunc(stats.Queues, func(q sqlstore.QueueStats) bool { return q.Queue == r.Queue })
		if i < 0 {
			i = len(stats.Queues)
			stats.Queues = append(stats.Queues, sqlstore.QueueStats{Queue: r.Queue, Oldest: r.Due})
		}
		if r.Parked != "" {
			stats.Queues[i].Parked++
		} else {
			stats.Queues[i].Waiting++
		}
	}
	return stats, o.err
}

func (o *rows) List(_ context.Context, after int64, limit int, parked bool) ([]sqlstore.Row, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []sqlstore.Row
	for _, r := range o.rows {
		if r.ID > after && (!parked || r.Parked != "") && len(found) < limit {
			found = append(found, r)
		}
	}
	return found, o.err
}

func (o *rows) Retry(_ context.Context, id int64) (bool, error) { return o.change("retry", id) }
func (o *rows) Drop(_ context.Context, id int64) (bool, error)  { return o.change("drop", id) }

func (o *rows) change(verb string, id int64) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, verb+" "+strconv.FormatInt(id, 10))
	_, found := slices.BinarySearchFunc(o.rows, id, func(r sqlstore.Row, id int64) int { return cmp.Compare(r.ID, id) })
	return found, o.err
}

func withOutbox(o *rows) func(*world, *dashboard.Config) {
	return func(_ *world, c *dashboard.Config) { c.Outbox = o }
}

func TestOutboxPage(t *testing.T) {
	t.Parallel()
	o := new(rows)
	for id := range int64(60) {
		o.rows = append(o.rows, sqlstore.Row{ID: id + 1, Queue: "emails", Kind: "welcome", Due: time.Now().Add(-time.Hour), Tries: 3})
	}
	o.rows[40].Parked, o.rows[41].Unknown = `<b>not a Draft</b>`, true
	w := setup(t, withOutbox(o))
	contains(t, w.get(board+"/"), `<a href="/ops/tasks/outbox">Outbox</a>`, "waiting for too long, or parked", "<b>59</b>", "1 h ago")
	body := w.get(board + "/outbox")
	contains(t, body, "welcome", "&lt;b&gt;not a Draft", "may exist", `href="?after=50"`, `aria-label="Retry row 1"`)
	lacks(t, body, `aria-label="Retry row 51"`, "First page")
	body = w.get(board + "/outbox?after=50")
	contains(t, body, `aria-label="Retry row 60"`, "First page")
	lacks(t, body, `rel="next"`)
	body = w.get(board + "/outbox?parked=1")
	contains(t, body, `aria-label="Retry row 41"`)
	lacks(t, body, `aria-label="Retry row 1"`)
}

func TestOutboxActions(t *testing.T) {
	t.Parallel()
	o := &rows{rows: []sqlstore.Row{{ID: 7, Queue: "emails"}}}
	w := setup(t, withOutbox(o))
	contains(t, w.get(board+"/outbox/drop?id=7"), "Drop the row", `value="7"`)
	status, body := w.post(board+"/outbox/retry", url.Values{"id": {"7"}})
	assert.Equal(t, status, http.StatusOK)
	contains(t, body, "as soon as a relay finds it")
	status, body = w.post(board+"/outbox/drop", url.Values{"id": {"7"}})
	assert.Equal(t, status, http.StatusOK)
	contains(t, body, "The row is deleted.")
	for id, want := range map[string]string{"8": "there is no such row", "x": "not a number"} {
		status, body = w.post(board+"/outbox/drop", url.Values{"id": {id}})
		assert.Equal(t, status, http.StatusUnprocessableEntity)
		contains(t, body, want)
	}
	assert.Equal(t, o.calls, []string{"retry 7", "drop 7", "drop 8"})
}

func TestOutboxTrouble(t *testing.T) {
	t.Parallel()
	w := setup(t, withOutbox(&rows{err: errors.New("the database is down")}))
	contains(t, w.get(board+"/"), "Outbox: the database is down", ">emails</a>")
	status, _ := w.try(board + "/outbox")
	assert.Equal(t, status, http.StatusBadGateway)

	none := setup(t)
	lacks(t, none.get(board+"/"), "/outbox")
	for _, path := range []string{"/outbox", "/outbox/drop?id=1"} {
		status, body := none.try(board + path)
		assert.Equal(t, status, http.StatusUnprocessableEntity)
		contains(t, body, "Config.Outbox")
	}

	o := &rows{rows: []sqlstore.Row{{ID: 7, Queue: "emails"}}}
	quiet := setup(t, withOutbox(o), func(_ *world, c *dashboard.Config) { c.ReadOnly = true })
	lacks(t, quiet.get(board+"/outbox"), "Retry", "Drop")
	lacks(t, quiet.get(board+"/outbox/drop?id=7"), "<button")
	status = quiet.forge(forged{"", http.Header{"Sec-Fetch-Site": {"same-origin"}}, true, "x"}, board+"/outbox/drop")
	assert.Status(t, status, http.StatusForbidden)
	assert.Equal(t, len(o.calls), 0)
}
