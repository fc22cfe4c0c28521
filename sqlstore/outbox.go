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
// [handoff.ClientConfig].DraftOnly. List, Retry, Drop and Stats need no client: it
// may be nil where nothing else is called.
func (db *DB) Outbox(client *handoff.Client) *Outbox {
	return &Outbox{db: db, client: client, relay: newRelay()}
}

// Enqueue makes a task that carries p a part of the transaction. Options and
// errors are those of [handoff.Client.Enqueue], but the task may be due further
// ahead than the service's 30 days. The receipt has no Name yet, unless the
// payload has a key. Call [Outbox.Nudge] after the commit to have it sent at once.
func (o *Outbox) Enqueue(ctx context.Context, tx Execer, p handoff.Payload, opts ...handoff.Option) (handoff.Receipt, error) {
	d, err := o.draft(ctx, p, opts)
	if err != nil {
		return handoff.Receipt{}, err
	}
	return o.insertOne(ctx, tx, d)
}

var errNoClient = errors.New("sqlstore: the outbox has no client; pass one to DB.Outbox")

func (o *Outbox) draft(ctx context.Context, p handoff.Payload, opts []handoff.Option) (handoff.Draft, error) {
	if o.client == nil {
		return handoff.Draft{}, errNoClient
	}
	return o.client.Draft(ctx, p, opts...)
}

// EnqueueRequest is [Outbox.Enqueue] for a task that is not typed.
func (o *Outbox) EnqueueRequest(ctx context.Context, tx Execer, r handoff.Request, opts ...handoff.Option) (handoff.Receipt, error) {
	if o.client == nil {
		return handoff.Receipt{}, errNoClient
	}
	d, err := o.client.DraftRequest(ctx, r, opts...)
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
			d, err := o.draft(ctx, p, opts)
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
	if err := checkTx(tx); err != nil || len(drafts) == 0 {
		return err
	}
	if err := o.db.checkIn(ctx, tx); err != nil {
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
	_, err := tx.ExecContext(ctx, o.db.insertStatement(len(drafts)), o.db.args(args...)...)
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

// timeOf is the time of a column; zero for 0.
func timeOf(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros)
}

// insertStatement returns the statement that inserts a number of rows.
func (db *DB) insertStatement(rows int) string {
	var values []string
	before := len(db.args()) // parameters
	for row := range rows {
		value := db.sql.enqueueRow
		for i := columns; i > 0; i-- {
			value = strings.ReplaceAll(value, "#"+strconv.Itoa(i), db.sql.parameter+strconv.Itoa(before+columns*row+i))
		}
		values = append(values, value)
	}
	return db.sql.enqueue + strings.Join(values, ",")
}
