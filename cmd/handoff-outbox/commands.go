package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/brillconsulting/handoff/sqlstore"
)

// printer writes results as --output says.
type printer struct {
	out, err io.Writer
	cli      *cli
}

// json writes a value as a line, if that is asked for.
func (p *printer) json(value any) (bool, error) {
	if p.cli.Output != "json" {
		return false, nil
	}
	return true, json.NewEncoder(p.out).Encode(value)
}

// rowJSON is a row of the outbox.
type rowJSON struct {
	ID      int64      `json:"id"`
	Queue   string     `json:"queue"`
	Kind    string     `json:"kind,omitempty"`
	MadeAt  time.Time  `json:"made_at"`
	DueAt   time.Time  `json:"due_at"`
	NextAt  *time.Time `json:"next_at,omitempty"` // of a row that is not parked
	Expires *time.Time `json:"expires_at,omitempty"`
	Tries   int        `json:"tries"`
	Unknown bool       `json:"unknown"`
	Parked  string     `json:"parked,omitempty"`
}

func jsonOf(r sqlstore.Row) rowJSON {
	out := rowJSON{ID: r.ID, Queue: r.Queue, Kind: r.Kind, MadeAt: r.Made.UTC(), DueAt: r.Due.UTC(), Tries: r.Tries, Unknown: r.Unknown, Parked: r.Parked}
	if next := r.NextAt.UTC(); r.Parked == "" {
		out.NextAt = &next
	}
	if expires := r.Expires.UTC(); !r.Expires.IsZero() {
		out.Expires = &expires
	}
	return out
}

// rows yields the rows of an outbox, page by page.
func rows(ctx context.Context, outbox *sqlstore.Outbox, parked bool) iter.Seq2[sqlstore.Row, error] {
	const page = 500
	return func(yield func(sqlstore.Row, error) bool) {
		after := int64(0)
		for {
			found, err := outbox.List(ctx, after, page, parked)
			if err != nil {
				yield(sqlstore.Row{}, err)
				return
			}
			for _, row := range found {
				if !yield(row, nil) {
					return
				}
				after = row.ID
			}
			if len(found) < page {
				return
			}
		}
	}
}

type listCmd struct {
	Parked bool   `help:"Only rows that no relay takes any more."`
	Queue  string `help:"Only rows of this queue." placeholder:"ID"`
	Limit  int    `default:"100" help:"List at most this many (${default}); 0 lists all." placeholder:"N"`
}

// Run lists the rows, and then counts what there is.
func (c *listCmd) Run(ctx context.Context, all *cli, p *printer) error {
	return all.open(ctx, func(outbox *sqlstore.Outbox) error {
		table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		if all.Output == "table" {
			fmt.Fprintln(table, "ROW\tQUEUE\tKIND\tENQUEUED\tTRIES\tNEXT TRY\tSTATE")
		}
		listed := 0
		for row, err := range rows(ctx, outbox, c.Parked) {
			if err != nil {
				return err
			}
			if c.Queue != "" && row.Queue != c.Queue {
				continue
			}
			if done, err := p.json(jsonOf(row)); err != nil {
				return err
			} else if !done {
				fmt.Fprintln(table, line(row))
			}
			if listed++; listed == c.Limit {
				break
			}
		}
		if err := table.Flush(); err != nil {
			return err
		}
		return c.sum(ctx, outbox, p)
	})
}

func line(r sqlstore.Row) string {
	next, state := age(r.NextAt), "waits"
	switch {
	case r.Parked != "":
		next, state = "none", "parked: "+r.Parked
	case r.Unknown:
		state = "may exist"
	}
	return strconv.FormatInt(r.ID, 10) + "\t" + printable(r.Queue) + "\t" + printable(r.Kind) + "\t" + age(r.Made) + "\t" + strconv.Itoa(r.Tries) + "\t" + next + "\t" + printable(state)
}

// sum tells people how much there is, of which the list may be a part.
func (*listCmd) sum(ctx context.Context, outbox *sqlstore.Outbox, p *printer) error {
	stats, err := outbox.Stats(ctx)
	if err != nil {
		return err
	}
	for _, q := range stats.Queues {
		oldest := ""
		if !q.Oldest.IsZero() {
			oldest = ", the oldest due " + age(q.Oldest)
		}
		fmt.Fprintf(p.err, "queue %s: %d waiting%s; %d later; %d parked\n", printable(q.Queue), q.Waiting, oldest, q.Later, q.Parked)
	}
	return nil
}

// age is how long before now a time was, or how long after.
func age(t time.Time) string {
	switch d := time.Since(t).Round(time.Second); {
	case t.IsZero():
		return ""
	case d < 0:
		return "in " + (-d).String()
	default:
		return d.String() + " ago"
	}
}

// resultJSON is what became of one of many rows.
type resultJSON struct {
	ID    int64  `json:"id"`
	Done  bool   `json:"done"`
	Error string `json:"error,omitempty"`
}

type retryCmd struct {
	IDs    []int64 `arg:"" help:"IDs of rows." name:"id" optional:""`
	Parked bool    `help:"All parked rows."`
}

// Run makes the rows due.
func (c *retryCmd) Run(ctx context.Context, all *cli, p *printer) error {
	if c.Parked == (len(c.IDs) > 0) {
		return usage("say which rows: their IDs, or --parked for all that are parked")
	}
	return all.open(ctx, func(outbox *sqlstore.Outbox) error {
		if !c.Parked {
			return each(ctx, p, "retried", c.IDs, outbox.Retry)
		}
		var ids []int64
		for row, err := range rows(ctx, outbox, true) {
			if err != nil {
				return err
			}
			ids = append(ids, row.ID)
		}
		return each(ctx, p, "retried", ids, outbox.Retry)
	})
}

type dropCmd struct {
	IDs []int64 `arg:"" help:"IDs of rows." name:"id"`
	Yes bool    `help:"It is meant." short:"y"`
}

// Run deletes the rows.
func (c *dropCmd) Run(ctx context.Context, all *cli, p *printer) error {
	if !c.Yes {
		return usage("this deletes tasks that were never created: add --yes if it is meant; nothing was done")
	}
	return all.open(ctx, func(outbox *sqlstore.Outbox) error {
		return each(ctx, p, "dropped", c.IDs, outbox.Drop)
	})
}

// each does one thing to each row, and tells of each.
func each(ctx context.Context, p *printer, done string, ids []int64, do func(context.Context, int64) (bool, error)) error {
	var failed error
	for _, id := range ids {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		found, err := do(ctx, id)
		if err == nil && !found {
			err = fmt.Errorf("there is no row %d; it may just have been sent", id)
		}
		result := resultJSON{ID: id, Done: err == nil}
		if err != nil {
			failed, result.Error = errTold, err.Error()
			fmt.Fprintf(p.err, "handoff outbox: error: %s\n", printable(err.Error()))
		}
		if wrote, werr := p.json(result); werr != nil {
			return werr
		} else if !wrote && err == nil {
			fmt.Fprintf(p.out, "%s row %d\n", done, id)
		}
	}
	return failed
}
