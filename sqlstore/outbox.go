package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/brillconsulting/handoff"
)

// Outbox enqueues tasks in transactions, and sends them once those have
// committed. A task exists if and only if its transaction commits. It is safe for
// concurrent use; get it from [DB.Outbox].
//
// A row of the outbox is the whole task: its ID, key, schedule and headers are
// fixed in the transaction, so that a row that is sent twice is one piece of
// work. Rows are deleted when it is certain that their tasks exist.
type Outbox struct {
	db     *DB
	client *handoff.Client
	relay  *relay
}

// Outbox returns the outbox of this database. The client makes the drafts, and
// sends them where Run, Send or Handler is called; elsewhere it may be
// [handoff.ClientConfig].DraftOnly.
func (db *DB) Outbox(client *handoff.Client) *Outbox {
	return &Outbox{db: db, client: client, relay: newRelay()}
}

// Enqueue makes a task that carries p a part of the transaction. Options and
// errors are those of [handoff.Client.Enqueue], but the task may be due further
// ahead than the service's 30 days. The receipt has no Name yet, unless the
// payload has a key. Call [Outbox.Nudge] after the commit to have it sent at once.
func (o *Outbox) Enqueue(ctx context.Context, tx Execer, p handoff.Payload, opts ...handoff.Option) (handoff.Receipt, error) {
	d, err := o.client.Draft(p, opts...)
	if err != nil {
		return handoff.Receipt{}, err
	}
	return o.insertOne(ctx, tx, d)
}

// EnqueueRequest is [Outbox.Enqueue] for a task that is not typed.
func (o *Outbox) EnqueueRequest(ctx context.Context, tx Execer, r handoff.Request, opts ...handoff.Option) (handoff.Receipt, error) {
	d, err := o.client.DraftRequest(r, opts...)
	if err != nil {
		return handoff.Receipt{}, err
	}
	return o.insertOne(ctx, tx, d)
}

func (o *Outbox) insertOne(ctx context.Context, tx Execer, d handoff.Draft) (handoff.Receipt, error) {
	if err := o.insert(ctx, tx, []handoff.Draft{d}); err != nil {
		return handoff.Receipt{}, fmt.Errorf("sqlstore: enqueue: %w", err)
	}
	return d.Receipt(), nil
}

// EnqueueBatch makes a task for each payload a part of the transaction, a hundred
// rows a statement, and yields one pair for each, in order. A payload's error
// stops nothing; an error of the database ends the sequence, and the transaction
// must be rolled back.
func EnqueueBatch[P handoff.Payload](ctx context.Context, o *Outbox, tx Execer, payloads iter.Seq[P], opts ...handoff.Option) iter.Seq2[handoff.Receipt, error] {
	return func(yield func(handoff.Receipt, error) bool) {
		b := outboxBatch{outbox: o, tx: tx}
		for p := range payloads {
			d, err := o.client.Draft(p, opts...)
			if !b.add(ctx, d, err, yield) {
				return
			}
		}
		b.flush(ctx, yield)
	}
}

// outboxBatch is what an EnqueueBatch has taken and not yet yielded.
type outboxBatch struct {
	outbox *Outbox
	tx     Execer
	drafts []handoff.Draft
	errs   []error // by draft; nil for one to be inserted
}

// add takes one draft. It is false if the sequence is over.
func (b *outboxBatch) add(ctx context.Context, d handoff.Draft, err error, yield func(handoff.Receipt, error) bool) bool {
	b.drafts, b.errs = append(b.drafts, d), append(b.errs, err)
	return len(b.drafts) < insertRows || b.flush(ctx, yield)
}

func (b *outboxBatch) flush(ctx context.Context, yield func(handoff.Receipt, error) bool) bool {
	var good []handoff.Draft
	for i, d := range b.drafts {
		if b.errs[i] == nil {
			good = append(good, d)
		}
	}
	err := b.outbox.insert(ctx, b.tx, good)
	for i, d := range b.drafts {
		var receipt handoff.Receipt
		itemErr := b.errs[i]
		switch {
		case itemErr == nil && err != nil:
			itemErr = fmt.Errorf("sqlstore: enqueue: %w", err)
		case itemErr == nil:
			receipt = d.Receipt()
		}
		if !yield(receipt, itemErr) {
			return false
		}
	}
	b.drafts, b.errs = b.drafts[:0], b.errs[:0]
	return err == nil
}

// insertRows is how many rows a statement inserts.
const insertRows = 100

// columns are the parameters of a row.
const columns = 6

// insert writes rows of the outbox. It must not add a lock that other
// transactions wait for, so it notifies nobody.
func (o *Outbox) insert(ctx context.Context, tx Execer, drafts []handoff.Draft) error {
	if err := errors.Join(checkTx(tx), o.db.check(ctx)); err != nil || len(drafts) == 0 {
		return err
	}
	args := make([]any, 0, columns*len(drafts))
	for _, d := range drafts {
		text, err := d.MarshalBinary()
		if err != nil {
			return err
		}
		receipt := d.Receipt()
		args = append(args, receipt.Queue, d.Kind(), sendAt(receipt), microsOf(d.Expires()), len(text), text)
	}
	_, err := tx.ExecContext(ctx, o.db.insertStatement(len(drafts)), args...)
	return o.db.explain(err)
}

// aheadOfService is how far ahead a task is given to the service, which takes 30
// days.
const aheadOfService = 29 * 24 * time.Hour

// sendAt is when a task may be sent; 0 for at once.
func sendAt(receipt handoff.Receipt) int64 {
	if time.Until(receipt.ScheduledAt) <= aheadOfService {
		return 0
	}
	return receipt.ScheduledAt.Add(-aheadOfService).UnixMicro()
}

// microsOf is a time as a column has it; 0 for none.
func microsOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// insertStatement returns the statement that inserts a number of rows.
func (db *DB) insertStatement(rows int) string {
	if rows == 1 {
		return db.sql.enqueue + strings.ReplaceAll(db.sql.enqueueRow, "#", "$")
	}
	var values []string
	for row := range rows {
		value := db.sql.enqueueRow
		for i := columns; i > 0; i-- {
			value = strings.ReplaceAll(value, "#"+strconv.Itoa(i), "$"+strconv.Itoa(columns*row+i))
		}
		values = append(values, value)
	}
	return db.sql.enqueue + strings.Join(values, ",")
}

// Row is a task that waits in an outbox, for operators.
type Row struct {
	ID      int64
	Queue   string
	Kind    string
	Made    time.Time // when it was enqueued
	NextAt  time.Time // when a relay may take it
	Expires time.Time // zero: never
	Tries   int       // sends begun
	Unknown bool      // a send may have created the task
	Parked  string    // why no relay takes it any more; empty: it waits
}

// List returns rows in the order of their IDs, from after an ID on: at most limit,
// and only parked ones if asked for.
func (o *Outbox) List(ctx context.Context, after int64, limit int, parked bool) ([]Row, error) {
	rows, err := o.list(ctx, after, limit, parked)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: list the outbox: %w", o.db.explain(err))
	}
	return rows, nil
}

func (o *Outbox) list(ctx context.Context, after int64, limit int, parked bool) ([]Row, error) {
	if err := o.db.check(ctx); err != nil {
		return nil, err
	}
	found, err := o.db.pool.QueryContext(ctx, o.db.sql.listOutbox, after, limit, parked)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var rows []Row
	for found.Next() {
		var r Row
		var made, next, expires int64
		if err := found.Scan(&r.ID, &r.Queue, &r.Kind, &made, &next, &expires, &r.Tries, &r.Unknown, &r.Parked); err != nil {
			return nil, err
		}
		r.Made, r.NextAt = time.UnixMicro(made), time.UnixMicro(next)
		if expires > 0 {
			r.Expires = time.UnixMicro(expires)
		}
		rows = append(rows, r)
	}
	return rows, found.Err()
}

// Retry has a row sent as soon as possible, also one that is parked. It reports
// whether there is such a row.
func (o *Outbox) Retry(ctx context.Context, id int64) (bool, error) {
	return o.change(ctx, "retry", o.db.sql.retryOutbox, id)
}

// Drop deletes a row: its task is never created, unless it was already. It
// reports whether there is such a row.
func (o *Outbox) Drop(ctx context.Context, id int64) (bool, error) {
	return o.change(ctx, "drop", o.db.sql.dropOutbox, id)
}

func (o *Outbox) change(ctx context.Context, verb, statement string, id int64) (bool, error) {
	err := o.db.check(ctx)
	var n int64
	if err == nil {
		result, eerr := o.db.pool.ExecContext(ctx, statement, id)
		if err = eerr; err == nil {
			n, err = result.RowsAffected()
		}
	}
	if err != nil {
		return false, fmt.Errorf("sqlstore: %s row %d of the outbox: %w", verb, id, o.db.explain(err))
	}
	return n > 0, nil
}

// Stats is what waits in an outbox.
type Stats struct {
	Waiting int       // rows that are not parked
	Parked  int       // rows that no relay takes any more
	Oldest  time.Time // when the oldest waiting row was enqueued; zero without one
}

// Stats counts the rows, for metrics. It reads all of them.
func (o *Outbox) Stats(ctx context.Context) (Stats, error) {
	err := o.db.check(ctx)
	var s Stats
	var oldest int64
	if err == nil {
		err = o.db.pool.QueryRowContext(ctx, o.db.sql.statsOutbox).Scan(&s.Waiting, &s.Parked, &oldest)
	}
	if err != nil {
		return Stats{}, fmt.Errorf("sqlstore: stats of the outbox: %w", o.db.explain(err))
	}
	if oldest > 0 {
		s.Oldest = time.UnixMicro(oldest)
	}
	return s, nil
}
