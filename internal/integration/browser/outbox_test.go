package browser_test

import (
	"database/sql"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/internal/assert"
	"github.com/brillconsulting/handoff/internal/pgtest"
	"github.com/brillconsulting/handoff/sqlstore"
	_ "github.com/jackc/pgx/v5/stdlib"
)

type receipt struct{}

func (receipt) Kind() string { return "receipt" }

// TestOutbox lists, retries and drops rows that a relay has parked, since it could not
// read their drafts.
func TestOutbox(t *testing.T) {
	pool, err := sql.Open("pgx", pgtest.Start(t).URL())
	assert.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	db, err := sqlstore.New(pool, sqlstore.Config{Dialect: sqlstore.Postgres})
	assert.NoError(t, err)
	assert.NoError(t, db.Migrate(t.Context()))
	var outbox *sqlstore.Outbox
	w := setup(t, func(c *dashboard.Config) { outbox = db.Outbox(c.Client); c.Outbox = outbox })
	b := w.open()
	b.goTo("/outbox")
	b.see("Nothing waits in the outbox.")

	tx, err := pool.BeginTx(t.Context(), nil)
	assert.NoError(t, err)
	for range 2 {
		_, err = outbox.Enqueue(t.Context(), tx, receipt{}, handoff.OnQueue("emails"))
		assert.NoError(t, err)
	}
	assert.NoError(t, tx.Commit())
	execute := func(query string) {
		t.Helper()
		_, err := pool.ExecContext(t.Context(), query)
		assert.NoError(t, err)
	}
	execute(`CREATE TABLE drafts AS SELECT id, draft FROM handoff.outbox`)
	execute(`UPDATE handoff.outbox SET draft = '\x00'`)
	sent, err := outbox.Send(t.Context())
	assert.NoError(t, err)
	assert.Equal(t, sent, 0)
	b.see("receipt", "parked") // the page is live

	b.press("Show parked rows alone")
	b.see("Show all rows")
	execute(`UPDATE handoff.outbox o SET draft = d.draft FROM drafts d WHERE d.id = o.id`)
	b.click(`//button[@aria-label="Retry row 1"]`)
	b.see("The row is sent as soon as a relay finds it.", "waits")
	sent, err = outbox.Send(t.Context())
	assert.NoError(t, err)
	assert.Equal(t, sent, 1)
	assert.Equal(t, len(w.tasks.Tasks(emails)), 1)

	b.goTo("/outbox")
	b.press("Drop…")
	b.see("This deletes row 2")
	b.press("Cancel")
	b.see("parked")
	b.press("Drop…")
	b.press("Drop the row")
	b.see("Nothing waits in the outbox.")
	rows, err := outbox.List(t.Context(), 0, 10, false)
	assert.NoError(t, err)
	assert.Equal(t, len(rows), 0)
	assert.Equal(t, len(w.tasks.Tasks(emails)), 1)
}
