package sqlstore

import (
	"context"
	"fmt"
	"time"
)

// Row is a task that waits in an outbox, for operators.
type Row struct {
	ID      int64
	Queue   string
	Kind    string
	Made    time.Time // when it was enqueued
	Due     time.Time // when it could first be sent: 29 days before the task is due, or when it was enqueued
	NextAt  time.Time // when a relay may take it
	Expires time.Time // zero: never
	Tries   int       // sends begun
	Unknown bool      // a send may have created the task
	Parked  string    // why no relay takes it any more; empty: it waits
}

// List returns at most limit rows whose ID is over after, in the order of their IDs.
// With parked it returns only parked rows.
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
	found, err := o.db.query(ctx, o.db.sql.listOutbox, after, limit, parked)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var rows []Row
	for found.Next() {
		var r Row
		var made, due, next, expires int64
		if err := found.Scan(&r.ID, &r.Queue, &r.Kind, &made, &due, &next, &expires, &r.Tries, &r.Unknown, &r.Parked); err != nil {
			return nil, err
		}
		r.Made, r.Due, r.NextAt, r.Expires = timeOf(made), timeOf(due), timeOf(next), timeOf(expires)
		rows = append(rows, r)
	}
	return rows, found.Err()
}

// Retry lets a relay take a row at once, even if it is parked. It reports
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
		result, eerr := o.db.exec(ctx, statement, id)
		if err = eerr; err == nil {
			n, err = result.RowsAffected()
		}
	}
	if err != nil {
		return false, fmt.Errorf("sqlstore: %s row %d of the outbox: %w", verb, id, o.db.explain(err))
	}
	return n > 0, nil
}

// Stats is what waits in an outbox, and what this Outbox has done about it.
type Stats struct {
	Queues []QueueStats // those that have rows, in the order of their names

	// What this Outbox relayed since [DB.Outbox] returned it.
	Sent   int64 // tasks that were created, or existed already
	Buried int64 // tasks that expired before they were created: dead letters
	Unsure int64 // tasks that expired and may have been created: the response to a send was lost
}

// QueueStats is what waits in an outbox for one queue.
type QueueStats struct {
	Queue   string
	Waiting int       // rows that are due
	Later   int       // rows whose time has not come: see Row.Due
	Parked  int       // rows that no relay takes any more
	Oldest  time.Time // Row.Due of the longest waiting row; zero without one
}

// Stats counts the rows. It reads all of them, so call it a few times a minute.
// middleware.OutboxMetrics makes metrics of it.
func (o *Outbox) Stats(ctx context.Context) (Stats, error) {
	queues, err := o.stats(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("sqlstore: stats of the outbox: %w", o.db.explain(err))
	}
	r := o.relay
	return Stats{Queues: queues, Sent: r.sent.Load(), Buried: r.buried.Load(), Unsure: r.unsure.Load()}, nil
}

func (o *Outbox) stats(ctx context.Context) ([]QueueStats, error) {
	if err := o.db.check(ctx); err != nil {
		return nil, err
	}
	found, err := o.db.query(ctx, o.db.sql.statsOutbox)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var queues []QueueStats
	for found.Next() {
		var q QueueStats
		var oldest int64
		if err := found.Scan(&q.Queue, &q.Waiting, &q.Later, &q.Parked, &oldest); err != nil {
			return nil, err
		}
		q.Oldest = timeOf(oldest)
		queues = append(queues, q)
	}
	return queues, found.Err()
}
