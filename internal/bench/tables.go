package main

import (
	"fmt"
	"slices"
	"strconv"
)

// table is one part of the report, for the terminal and for the docs.
type table struct {
	title string
	notes []string // what is compared, and where the comparison is unfair
	head  []string
	rows  [][]string
}

// tables returns the report as tables.
func tables(r *Report) []table {
	all := []table{
		relationTable(r), workerTable(r), pullTable(r), enqueueTable(r), memoryTable(r),
	}
	return slices.DeleteFunc(all, func(t table) bool { return len(t.rows) == 0 })
}

func (f Figure) String() string {
	if f.Median == 0 {
		return "-"
	}
	return fmt.Sprintf("%s (%s–%s)", number(f.Median), number(f.Least), number(f.Most))
}

// number formats v with three significant digits, or with all digits before the
// point, in groups of three.
func number(v float64) string {
	switch a := max(v, -v); {
	case a >= 1000:
		return grouped(int64(v + 0.5))
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func grouped(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

// variantNames are the variants' names in the report.
var variantNames = map[string]string{
	bareEcho:      "bare echo, same decode",
	obviousWay:    "the obvious way",
	withHandoff:   "handoff",
	withTelemetry: "handoff, telemetry on",
}

func workerTable(r *Report) table {
	t := table{
		title: "The worker",
		notes: []string{
			"One delivery over HTTP/1.1, with a token, to an empty handler. The next is sent when the last has its response. CPU in µs a task.",
			"The obvious way is idtoken for each delivery, echo's Bind, SET NX before the work and SET after it: no renewal, no owner of a claim, no attempts, no dead letters. " +
				"handoff has every guarantee on. Telemetry is its Logger (JSON, thrown away), Tracing (nothing sampled) and Metrics.",
		},
		head: []string{"", "token", "in flight", "Go µs", "Redis µs", "tasks/s", "p50 ms", "p99 ms", "bytes/task"},
	}
	for _, row := range r.Rows {
		if row.Section != "worker" {
			continue
		}
		if row.Error != "" {
			t.rows = append(t.rows, []string{variantNames[row.Name], row.Token, strconv.Itoa(row.InFlight), "failed"})
			continue
		}
		redis, token := row.CPU[redisCPU].String(), row.Token
		switch row.Name {
		case bareEcho:
			redis, token = "-", "not looked at"
		case obviousWay:
			token = "checked each time"
		}
		t.rows = append(t.rows, []string{
			variantNames[row.Name], token, strconv.Itoa(row.InFlight), row.CPU[workerCPU].String(), redis,
			number(row.Rate.Median), number(row.P50.Median), number(row.P99.Median), number(row.Allocated.Median),
		})
	}
	return t
}

func pullTable(r *Report) table {
	t := table{
		title: "A library that pulls its tasks",
		notes: []string{
			"The same payload, decoded, and an empty handler, from a queue that was filled before. README is how the library's README sets it up; " +
				"tuned is what asynq's Config says on speed (100 at once, one queue).",
			"Not like for like: in asynq Redis is the durable queue; here Cloud Tasks is, and what it costs is on Google's bill. " +
				"Redis writes nothing to disk in any of these runs, so asynq is measured without the cost of durability.",
		},
		head: []string{"", "at once", "Go µs", "Redis µs", "tasks/s"},
	}
	for _, row := range r.Rows {
		if row.Section != "asynq" {
			continue
		}
		if row.Error != "" {
			t.rows = append(t.rows, []string{row.Name, strconv.Itoa(row.InFlight), "failed"})
			continue
		}
		t.rows = append(t.rows, []string{row.Name, strconv.Itoa(row.InFlight), row.CPU[workerCPU].String(), row.CPU[redisCPU].String(), number(row.Rate.Median)})
	}
	return t
}

func enqueueTable(r *Report) table {
	t := table{
		title: "Enqueue",
		notes: []string{"CPU in µs a task, of the producer. A call to the real service takes 20 to 50 ms, so that the rate of single creates is the callers over that."},
		head:  []string{"", "callers", "producer µs", "allocations"},
	}
	for _, row := range r.Rows {
		if row.Section != "enqueue" {
			continue
		}
		callers := "-"
		if row.InFlight > 0 {
			callers = strconv.Itoa(row.InFlight)
		}
		t.rows = append(t.rows, []string{row.Name, callers, row.CPU[producerCPU].String(), number(row.Allocated.Median)})
	}
	return t
}

func relationTable(r *Report) table {
	t := table{
		title: "Relations",
		notes: []string{"Each is of two sides that were run in turn, or of one process alone."},
		head:  []string{"", "measured", "", "at most", "", "with"},
	}
	for _, rel := range r.Relations {
		limit, verdict := "", ""
		if rel.Limit > 0 {
			limit, verdict = fmt.Sprintf("%g", rel.Limit), "met"
			if rel.Value > rel.Limit {
				verdict = "missed"
			}
		}
		t.rows = append(t.rows, []string{rel.Of, number(rel.Value), rel.Unit, limit, verdict, rel.Note})
	}
	return t
}

func memoryTable(r *Report) table {
	t := table{
		title: "What Redis remembers",
		notes: []string{"Memory of Redis for tasks that are done, each a record that goes when its window is over (an hour past the task's expiry: 25 h by default)."},
		head:  []string{"tasks", "bytes a task"},
	}
	for _, m := range r.Memory {
		t.rows = append(t.rows, []string{grouped(int64(m.Tasks)), number(m.Bytes)})
	}
	return t
}

// about describes the measurement: the date, the machine and the versions.
func about(r *Report) string {
	m := r.Machine
	text := fmt.Sprintf("%s UTC, %s, %d processors, Go %s, redis-server %s. Medians of %d rounds (least–most).",
		r.Date.Format("2006-01-02 15:04"), m.CPU, m.Processors, m.Go, m.Redis, r.Rounds)
	if m.busy() {
		text += fmt.Sprintf(" The machine was busy with other work (load average %.1f at the start): take every figure as too high, and relations as rough.", m.Load)
	}
	return text
}
