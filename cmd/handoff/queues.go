package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
)

type queuesCmd struct {
	placeFlags
	outputFlags

	List     queuesList     `cmd:"" help:"List the queues of the location, with what is in them."`
	Describe queuesDescribe `cmd:"" help:"Show everything about a queue."`
	Ensure   queuesEnsure   `cmd:"" help:"Create and update queues to be as in a file."`
	Diff     queuesDiff     `cmd:"" help:"Show what ensure would change, and exit with 3 if there is a difference."`
	Pause    queuesPause    `cmd:"" help:"Stop a queue's dispatching. Tasks can still be created."`
	Resume   queuesResume   `cmd:"" help:"Let a paused queue dispatch again."`
	Purge    queuesPurge    `cmd:"" help:"Delete all tasks of a queue."`
	Delete   queuesDelete   `cmd:"" help:"Delete a queue and all its tasks."`
}

// queueJSON is a queue. MaxDoublings and what follows are as in a queue file;
// http_target is text, in which headers have no values.
type queueJSON struct {
	Name                    string     `json:"name"`
	ID                      string     `json:"id"`
	State                   string     `json:"state"`
	PurgedAt                *time.Time `json:"purged_at,omitempty"`
	MaxBurst                int        `json:"max_burst"`
	MaxDispatchesPerSecond  float64    `json:"max_dispatches_per_second"`
	MaxConcurrentDispatches int        `json:"max_concurrent_dispatches"`
	MaxAttempts             int        `json:"max_attempts"`
	MinBackoff              string     `json:"min_backoff"`
	MaxBackoff              string     `json:"max_backoff"`
	MaxDoublings            int        `json:"max_doublings"`
	MaxRetryDuration        string     `json:"max_retry_duration,omitempty"`
	TaskTTL                 string     `json:"task_ttl,omitempty"`
	TombstoneTTL            string     `json:"tombstone_ttl,omitempty"`
	LoggingSample           float64    `json:"logging_sample"`
	HTTPTarget              string     `json:"http_target,omitempty"`
	AppEngine               string     `json:"app_engine,omitempty"`
	Stats                   *statsJSON `json:"stats,omitempty"`
}

// statsJSON are the service's estimates of what is in a queue.
type statsJSON struct {
	Tasks                int64      `json:"tasks"`
	OldestArrival        *time.Time `json:"oldest_arrival,omitempty"`
	ExecutedLastMinute   int64      `json:"executed_last_minute"`
	ConcurrentDispatches int64      `json:"concurrent_dispatches"`
	EffectiveRate        float64    `json:"effective_rate"`
}

func jsonOfQueue(q admin.Queue) queueJSON {
	c := q.Config
	out := queueJSON{
		Name: q.Name, ID: c.ID, State: string(q.State), PurgedAt: stamp(q.PurgedAt), MaxBurst: q.MaxBurst,
		MaxDispatchesPerSecond: c.MaxDispatchesPerSecond, MaxConcurrentDispatches: c.MaxConcurrentDispatches,
		MaxAttempts: c.MaxAttempts, MinBackoff: c.MinBackoff.String(), MaxBackoff: c.MaxBackoff.String(), MaxDoublings: doublings(c.MaxDoublings),
		MaxRetryDuration: known(c.MaxRetryDuration), TaskTTL: known(c.TaskTTL), TombstoneTTL: known(c.TombstoneTTL),
		LoggingSample: c.LoggingSample,
	}
	if c.HTTPTarget != nil {
		out.HTTPTarget = c.HTTPTarget.String()
	}
	if c.AppEngine != nil {
		out.AppEngine = c.AppEngine.String()
	}
	if s := q.Stats; s != nil {
		out.Stats = &statsJSON{s.Tasks, stamp(s.OldestArrival), s.ExecutedLastMinute, s.ConcurrentDispatches, s.EffectiveRate}
	}
	return out
}

// known is a duration, or nothing.
func known(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// doublings are in the spelling of the service and of queue files.
func doublings(n int) int {
	if n == handoff.NoDoublings {
		return 0
	}
	return n
}

// limit is a number that handoff.Unlimited may stand for.
func limit(n int) string {
	if n == handoff.Unlimited {
		return "unlimited"
	}
	return strconv.Itoa(n)
}

func number[N int | int64](n N) cell { return text(strconv.FormatInt(int64(n), 10)) }

func rate(perSecond float64) string { return strconv.FormatFloat(perSecond, 'g', -1, 64) + "/s" }

func stateCell(s admin.State) cell {
	if s == admin.Running {
		return cell{string(s), green}
	}
	return cell{string(s), yellow}
}

type queuesList struct {
	Filter string `help:"Only queues that fit, in the syntax of Cloud Logging, such as 'state: PAUSED'." placeholder:"EXPR"`
}

// Run lists the queues.
func (c *queuesList) Run(ctx context.Context, con *console, queues *queuesCmd) error {
	return queues.admin(ctx, func(a *admin.Admin) error {
		out := con.list(queues.outputFlags, "QUEUE", "STATE", "TASKS", "NEXT DUE", "LAST MINUTE", "RUNNING", "RATE", "CONCURRENT", "ATTEMPTS")
		now := time.Now()
		for q, err := range a.Queues().List(ctx, admin.ListQueues{Filter: c.Filter, Stats: true}) {
			if err != nil {
				return out.endWith(invalid(ctx, err))
			}
			if err := out.add(jsonOfQueue(q), queueRow(q, now)...); err != nil {
				return err
			}
		}
		return out.end()
	})
}

func queueRow(q admin.Queue, now time.Time) []cell {
	row := []cell{text(q.Config.ID), stateCell(q.State)}
	if s := q.Stats; s != nil {
		row = append(row, number(s.Tasks), text(age(s.OldestArrival, now)), number(s.ExecutedLastMinute), number(s.ConcurrentDispatches))
	} else {
		row = append(row, text("?"), text("?"), text("?"), text("?"))
	}
	return append(row, text(rate(q.Config.MaxDispatchesPerSecond)), number(q.Config.MaxConcurrentDispatches), text(limit(q.Config.MaxAttempts)))
}

type queuesDescribe struct{ queueArg }

// Run shows the queue.
func (c *queuesDescribe) Run(ctx context.Context, con *console, queues *queuesCmd) error {
	if err := c.within(&queues.placeFlags); err != nil {
		return err
	}
	return queues.admin(ctx, func(a *admin.Admin) error {
		q, err := a.Queues().Inspect(ctx, c.Queue)
		if err != nil {
			return err
		}
		return con.describe(queues.outputFlags, jsonOfQueue(q), queueFacts(q, time.Now())...)
	})
}

func queueFacts(q admin.Queue, now time.Time) [][]cell {
	j := jsonOfQueue(q)
	facts := [][]cell{
		fact("queue", q.Name),
		{text("state"), stateCell(q.State)},
		fact("purged", moment(q.PurgedAt, now)),
	}
	if s := q.Stats; s != nil {
		facts = append(facts,
			fact("tasks", s.Tasks),
			fact("next due", moment(s.OldestArrival, now)),
			fact("executed", fmt.Sprintf("%d in the last minute", s.ExecutedLastMinute)),
			fact("running", s.ConcurrentDispatches),
			fact("effective rate", rate(s.EffectiveRate)),
		)
	}
	return append(facts,
		fact("max rate", fmt.Sprintf("%s, bursts of %d", rate(j.MaxDispatchesPerSecond), j.MaxBurst)),
		fact("max concurrent", j.MaxConcurrentDispatches),
		fact("max attempts", limit(j.MaxAttempts)),
		fact("backoff", fmt.Sprintf("%s to %s, %d doublings", j.MinBackoff, j.MaxBackoff, j.MaxDoublings)),
		fact("max retry duration", j.MaxRetryDuration),
		fact("task TTL", j.TaskTTL),
		fact("tombstone TTL", j.TombstoneTTL),
		fact("logging sample", j.LoggingSample),
		fact("HTTP target", j.HTTPTarget),
		fact("App Engine", j.AppEngine),
	)
}

type queuesPause struct{ queueArg }

// Help is shown by --help.
func (*queuesPause) Help() string {
	return "Attempts in progress go on, and tasks run still runs single tasks. A queue that is paused for longer than the TTL of its tasks finds them expired when it is resumed."
}

// Run pauses the queue.
func (c *queuesPause) Run(ctx context.Context, con *console, queues *queuesCmd) error {
	if err := c.within(&queues.placeFlags); err != nil {
		return err
	}
	return queues.change(ctx, con, func(q *admin.Queues) (admin.Queue, error) { return q.Pause(ctx, c.Queue) })
}

type queuesResume struct{ queueArg }

// Run resumes the queue.
func (c *queuesResume) Run(ctx context.Context, con *console, queues *queuesCmd) error {
	if err := c.within(&queues.placeFlags); err != nil {
		return err
	}
	return queues.change(ctx, con, func(q *admin.Queues) (admin.Queue, error) { return q.Resume(ctx, c.Queue) })
}

// change makes a change and shows the queue after it.
func (c *queuesCmd) change(ctx context.Context, con *console, do func(*admin.Queues) (admin.Queue, error)) error {
	return c.admin(ctx, func(a *admin.Admin) error {
		q, err := do(a.Queues())
		if err != nil {
			return err
		}
		out := con.list(c.outputFlags, "QUEUE", "STATE")
		return out.endWith(out.add(jsonOfQueue(q), text(q.Config.ID), stateCell(q.State)))
	})
}

type queuesPurge struct {
	queueArg
	yesFlag

	Wait bool `help:"Wait until the tasks are gone, which may take a minute."`
}

// Help is shown by --help.
func (*queuesPurge) Help() string {
	return "Tasks may still be dispatched for up to a minute, and tasks created in the seconds after may be deleted too. There is no way back."
}

// Run purges the queue.
func (c *queuesPurge) Run(ctx context.Context, con *console, queues *queuesCmd) error {
	if err := c.within(&queues.placeFlags); err != nil {
		return err
	}
	if err := con.mayAsk(c.yesFlag); err != nil {
		return err
	}
	return queues.change(ctx, con, func(q *admin.Queues) (admin.Queue, error) {
		if err := c.confirm(ctx, con, q, c.Queue, "Purge %s? It has %s, to be deleted for good."); err != nil {
			return admin.Queue{}, err
		}
		purged, err := q.Purge(ctx, c.Queue)
		if err != nil || !c.Wait {
			return purged, err
		}
		err = con.during("purging "+c.Queue, func() error { return q.WaitPurged(ctx, c.Queue) })
		if ctx.Err() != nil {
			err = partial{"the purge goes on by itself"}
		}
		return purged, err
	})
}

// confirm asks about a queue, and says how many tasks it is about.
func (y yesFlag) confirm(ctx context.Context, con *console, queues *admin.Queues, id, question string) error {
	if y.Yes {
		return nil
	}
	q, err := queues.Inspect(ctx, id)
	if err != nil {
		return err
	}
	tasks := "an unknown number of tasks"
	if q.Stats != nil {
		tasks = "about " + count(q.Stats.Tasks, "task")
	}
	return con.confirm(ctx, y, question, q.Name, tasks)
}

type queuesDelete struct {
	queueArg
	yesFlag
}

// Run deletes the queue.
func (c *queuesDelete) Run(ctx context.Context, con *console, queues *queuesCmd) error {
	if err := c.within(&queues.placeFlags); err != nil {
		return err
	}
	if err := con.mayAsk(c.yesFlag); err != nil {
		return err
	}
	return queues.admin(ctx, func(a *admin.Admin) error {
		err := c.confirm(ctx, con, a.Queues(), c.Queue, "Delete %s? It has %s, to be deleted with it, and its name cannot be used again for up to 7 days.")
		if err != nil {
			return err
		}
		if err := a.Queues().Delete(ctx, c.Queue); err != nil {
			return err
		}
		return con.describe(queues.outputFlags, resultJSON{ID: c.Queue, Done: true}, fact("deleted", c.Queue))
	})
}
