package main

import (
	"fmt"
	"strings"
	"time"
)

// Report holds all results of a run.
type Report struct {
	Machine   Machine
	Date      time.Time
	Quick     bool // only a check that everything works
	Rounds    int
	Rows      []Row
	Relations []Relation
	Memory    []Memory
}

// Row is one case and its results.
type Row struct {
	Section   string
	Name      string
	Token     string
	InFlight  int
	Error     string // why there are no figures
	Rate      Figure // tasks a second
	CPU       map[string]Figure
	All       Figure // CPU of all processes but the load's, µs a task
	P50, P99  Figure // ms
	Allocated Figure // bytes of the worker, or allocations of the producer
}

func (r Row) title() string {
	parts := []string{r.Section, r.Name}
	if r.Token != "" {
		parts = append(parts, "token "+r.Token)
	}
	if r.InFlight != 0 {
		parts = append(parts, fmt.Sprintf("%d in flight", r.InFlight))
	}
	return strings.Join(parts, ", ")
}

// Relation compares a cost with its baseline in the same run. Limit is the maximum
// it should keep to; 0 for none.
type Relation struct {
	Of    string
	Value float64
	Unit  string
	Limit float64
	Note  string
}

func (r *Report) relate(of string, value float64, unit string, limit float64, note string) {
	r.Relations = append(r.Relations, Relation{of, value, unit, limit, note})
}

// Memory is how much Redis keeps after a number of finished tasks.
type Memory struct {
	Tasks int
	Bytes float64 // per task
}

// row returns the case with 100 requests in flight.
func (r *Report) row(section, name, token string) (Row, bool) {
	for _, row := range r.Rows {
		if row.Section == section && row.Name == name && row.Token == token && row.InFlight == 100 && row.Error == "" {
			return row, true
		}
	}
	return Row{}, false
}

// compare adds the relations of handoff's worker to bare echo and to asynq.
func (r *Report) compare() {
	ours, ok := r.row("worker", withHandoff, seenToken)
	if !ok {
		return
	}
	if bare, ok := r.row("worker", bareEcho, seenToken); ok {
		r.relate("CPU of a delivery, 100 in flight, token seen before", ours.CPU[workerCPU].Median/bare.CPU[workerCPU].Median, "times bare echo with the same decode", 0, "")
	}
	if pull, ok := r.row("asynq", "asynq, tuned", ""); ok {
		r.relate("the same", ours.CPU[workerCPU].Median/pull.CPU[workerCPU].Median, "times asynq, tuned", 0, "")
		r.relate("the same, with Redis on both sides", ours.All.Median/pull.All.Median, "times asynq, tuned", 0, "")
	}
}

// failures returns the titles and errors of the cases that have no figures.
func (r *Report) failures() []string {
	var failed []string
	for _, row := range r.Rows {
		if row.Error != "" {
			failed = append(failed, row.title()+": "+row.Error)
		}
	}
	return failed
}
