package sqlstore

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/brillconsulting/handoff"
)

// settlement is what becomes of the rows of a batch.
type settlement struct {
	created int
	buried  int
	unsure  int
	refused bool
	gone    []int64  // to delete
	later   [][4]any // ID, pause, unknown, lease
	parked  [][3]any // ID, why, unknown
}

// back leaves a row for later. unknown means that this send may have created its
// task.
func (s *settlement) back(row taken, unknown bool) {
	pause := min(minPause<<min(row.tries-1, 10), maxPause)
	s.later = append(s.later, [4]any{row.id, micros(pause), row.unknown || unknown, decimal(row.lease)})
}

// maxParkedText keeps the service's words short enough to be shown.
const maxParkedText = 500

func (s *settlement) park(row taken, why error) {
	text := strings.ToValidUTF8(strings.ReplaceAll(why.Error(), "\x00", ""), "")
	s.parked = append(s.parked, [3]any{row.id, text[:min(len(text), maxParkedText)], row.unknown})
}

// settle stores what became of the rows. If that fails, they are sent again when
// their leases are over.
func (o *Outbox) settle(ctx context.Context, fate *settlement) error {
	var errs []error
	for _, step := range []struct {
		statement string
		rows      any
		n         int
	}{
		{o.db.sql.sentOutbox, fate.gone, len(fate.gone)},
		{o.db.sql.backOutbox, fate.later, len(fate.later)},
		{o.db.sql.parkOutbox, fate.parked, len(fate.parked)},
	} {
		if step.n == 0 {
			continue
		}
		text, err := json.Marshal(step.rows)
		if err == nil {
			_, err = o.db.exec(ctx, step.statement, string(text))
		}
		errs = append(errs, o.db.explain(err))
	}
	if len(fate.parked) > 0 {
		o.db.log.ErrorContext(ctx, "sqlstore: rows of the outbox are parked, since no send of them can succeed", "rows", len(fate.parked))
	}
	if err := errors.Join(errs...); err != nil {
		return err // rows that are still there will be counted
	}
	o.relay.sent.Add(int64(fate.created))
	o.relay.buried.Add(int64(fate.buried))
	o.relay.unsure.Add(int64(fate.unsure))
	return nil
}

// bury makes a dead letter of a row that has expired, unless its task may exist.
func (o *Outbox) bury(ctx context.Context, row taken, fate *settlement) {
	receipt := row.draft.Receipt()
	attrs := []any{"kind", row.draft.Kind(), "queue", receipt.Queue, "id", receipt.ID}
	if row.unknown {
		o.db.log.ErrorContext(ctx, "sqlstore: a task has expired in the outbox, and it is not known whether it was created", attrs...)
		fate.gone = append(fate.gone, row.id)
		fate.unsure++
		return
	}
	letter, err := row.draft.Letter(handoff.ReasonExpired)
	if err == nil {
		err = o.db.DeadLetters().Put(ctx, letter)
	}
	if err != nil {
		o.db.log.ErrorContext(ctx, "sqlstore: an expired task of the outbox could not be kept as a dead letter", append(attrs, "error", err)...)
		fate.back(row, false)
		return
	}
	o.db.log.ErrorContext(ctx, "sqlstore: a task expired in the outbox and is a dead letter", attrs...)
	fate.gone = append(fate.gone, row.id)
	fate.buried++
}
