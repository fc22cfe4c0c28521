package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// table is a part of the report, for the terminal and for the docs.
type table struct {
	title string
	notes []string // what it compares, and what of it is not like for like
	head  []string
	rows  [][]string
}

// tables are the report.
func tables(r *Report) []table {
	all := []table{
		aimTable(r), workerTable(r), pullTable(r), wayTable(r), enqueueTable(r), growthTable(r), memoryTable(r), soakTable(r),
	}
	return slices.DeleteFunc(all, func(t table) bool { return len(t.rows) == 0 })
}

func (f Figure) String() string {
	if f.Median == 0 {
		return "-"
	}
	return fmt.Sprintf("%s (%s–%s)", number(f.Median), number(f.Least), number(f.Most))
}

// number has three digits, or as many as it needs before the point, in groups.
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

func aimTable(r *Report) table {
	t := table{title: "Aims", head: []string{"", "aim", "measured", ""}}
	for _, a := range r.Aims {
		verdict := "met"
		if !a.Met {
			verdict = "missed"
		}
		t.rows = append(t.rows, []string{a.Of, a.Aim, a.Measured, verdict})
	}
	return t
}

// variantNames are how the variants of the worker are called where people read.
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
			"One delivery over HTTP/1.1, token and all, to an empty handler; the next is sent when the last is answered. CPU in µs a task.",
			"The obvious way is idtoken for each delivery, echo's Bind, SET NX before and SET after: no renewal, no owner of a claim, no attempts, no dead letters. " +
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
		title: "Libraries that pull their tasks",
		notes: []string{
			"The same payload, decoded, and an empty handler, from a queue that was filled before. README is how the library's README sets it up; " +
				"tuned is what asynq's Config says on speed (100 at once, one queue), and the settings of river's own benchmark.",
			"Not like for like: in asynq and river the store is the durable queue; here Cloud Tasks is, and what it costs is on Google's bill. " +
				"Redis writes nothing to disk in any of these runs, which spares asynq what its durability would cost; PostgreSQL does, with fsync.",
		},
		head: []string{"", "at once", "Go µs", "store µs", "tasks/s"},
	}
	for _, row := range r.Rows {
		if row.Section != "asynq" && row.Section != "river" {
			continue
		}
		if row.Error != "" {
			t.rows = append(t.rows, []string{row.Name, strconv.Itoa(row.InFlight), "failed"})
			continue
		}
		store := row.CPU[redisCPU]
		if row.Section == "river" {
			store = row.CPU[postgresCPU]
		}
		t.rows = append(t.rows, []string{row.Name, strconv.Itoa(row.InFlight), row.CPU[workerCPU].String(), store.String(), number(row.Rate.Median)})
	}
	return t
}

func wayTable(r *Report) table {
	t := table{
		title: "From enqueue to done, on one machine",
		notes: []string{
			"64 callers enqueue while a worker processes, each in its own process. Latency is from before the enqueue to the handler; as fast as it goes, most of it is waiting in the queue.",
			"Not like for like: the emulator keeps tasks in memory and signs and sends every dispatch over HTTP, as Cloud Tasks does at no cost of ours; it stands in for a service, and nobody would run it in production.",
		},
		head: []string{"", "load", "all µs", "producer", "emulator", "worker", "Redis", "tasks/s", "p50 ms", "p99 ms"},
	}
	for _, row := range r.Rows {
		if row.Section != "end to end" {
			continue
		}
		load := row.Of
		if row.Size > 0 {
			load = fmt.Sprintf("%d %s", row.Size, row.Of)
		}
		if row.Error != "" {
			t.rows = append(t.rows, []string{row.Name, load, "failed"})
			continue
		}
		part := func(whose string) string {
			if f, ok := row.CPU[whose]; ok {
				return number(f.Median)
			}
			return "-"
		}
		t.rows = append(t.rows, []string{
			row.Name, load, row.All.String(), part(producerCPU), part(emulatorCPU), part(workerCPU), part(redisCPU),
			number(row.Rate.Median), row.P50.String(), row.P99.String(),
		})
	}
	return t
}

func enqueueTable(r *Report) table {
	t := table{
		title: "Enqueue",
		notes: []string{
			"CPU in µs a task, of the producer and of the server that takes the task in: the emulator, Redis or PostgreSQL. Added is the median of the differences to the bare client, round by round.",
			"Not like for like: the servers differ, and a call to the real service takes 20 to 50 ms, so that the rate of single creates is the callers over that; asynq and river write to a store of ours.",
		},
		head: []string{"", "callers", "producer µs", "server µs", "allocations", "added µs", "added allocations"},
	}
	for _, row := range r.Rows {
		if row.Section != "enqueue" {
			continue
		}
		cells := []string{row.Name, "-", row.CPU[producerCPU].String(), row.CPU["server"].String(), number(row.Allocated.Median), "", ""}
		if row.InFlight > 0 {
			cells[1] = strconv.Itoa(row.InFlight)
		}
		if row.Added != nil {
			cells[5], cells[6] = fmt.Sprintf("%+.2f", row.Added.CPU), fmt.Sprintf("%+.1f", row.Added.Allocs)
		}
		t.rows = append(t.rows, cells)
	}
	if b := r.Batch; b != nil {
		t.notes = append(t.notes, fmt.Sprintf("One EnqueueBatch of %s payloads held %.0f MB of heap at most.", grouped(int64(b.Tasks)), float64(b.Peak)/1e6))
	}
	return t
}

func growthTable(r *Report) table {
	t := table{
		title: "What grows, and what it costs",
		notes: []string{"handoff's worker, tokens seen before. Kinds with 100 in flight, payloads with 16."},
		head:  []string{"", "", "Go µs", "Redis µs", "tasks/s", "bytes/task"},
	}
	for _, row := range r.Rows {
		if row.Section != "growth" {
			continue
		}
		if row.Error != "" {
			t.rows = append(t.rows, []string{row.Of, grouped(int64(row.Size)), "failed"})
			continue
		}
		t.rows = append(t.rows, []string{
			row.Of, grouped(int64(row.Size)), row.CPU[workerCPU].String(), row.CPU[redisCPU].String(), number(row.Rate.Median), number(row.Allocated.Median),
		})
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

func soakTable(r *Report) table {
	s := r.Soak
	if s == nil || s.Error != "" || len(s.Resident) == 0 {
		return table{}
	}
	t := table{
		title: "Memory of the worker",
		notes: []string{fmt.Sprintf("%d in flight for %s, %s tasks; %s bytes allocated a delivery.", s.InFlight, s.Length, grouped(int64(s.Tasks)), number(s.Allocated))},
		head:  []string{"after", "resident MB"},
	}
	for i := range s.Resident {
		if i%(looks/4) == looks/4-1 || i == 0 {
			after := s.Length * time.Duration(i+1) / time.Duration(len(s.Resident))
			t.rows = append(t.rows, []string{after.String(), fmt.Sprintf("%.1f", float64(s.Resident[i])/1e6)})
		}
	}
	return t
}

// about says what was measured, on what, and when.
func about(r *Report) string {
	m := r.Machine
	with := []string{"Go " + m.Go}
	for _, part := range []struct{ name, version string }{
		{"redis-server", m.Redis}, {"PostgreSQL", m.Postgres},
		{"echo", m.Modules["github.com/labstack/echo/v4"]}, {"go-redis", m.Modules["github.com/redis/go-redis/v9"]},
		{"asynq", m.Modules["github.com/hibiken/asynq"]}, {"river", m.Modules["github.com/riverqueue/river"]},
	} {
		if part.version != "" {
			with = append(with, part.name+" "+strings.TrimPrefix(part.version, "v"))
		}
	}
	text := fmt.Sprintf("%s UTC, %s, %d processors, %s, Linux %s. %s. Medians of %d rounds (least–most).",
		r.Date.Format("2006-01-02 15:04"), m.CPU, m.Processors, m.Memory, m.Kernel, strings.Join(with, ", "), r.Rounds)
	if m.busy() {
		text += fmt.Sprintf(" The machine was busy with other work (load average %.1f at the start): take every figure as too high, and relations as rough.", m.Load)
	}
	return text
}
