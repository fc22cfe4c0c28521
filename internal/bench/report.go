package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Report is everything that a run found out.
type Report struct {
	Machine Machine
	Date    time.Time
	Quick   bool `json:",omitempty"` // nothing but a check that everything works
	Rounds  int
	Rows    []Row
	Memory  []Memory `json:",omitempty"`
	Soak    *Soak    `json:",omitempty"`
	Batch   *Batch   `json:",omitempty"`
	Aims    []Aim    `json:",omitempty"`
	Sizes   []Size   `json:",omitempty"`
}

// Row is one case and what it came to.
type Row struct {
	Section   string
	Name      string
	Token     string `json:",omitempty"`
	InFlight  int    `json:",omitempty"`
	Of        string `json:",omitempty"` // what grows
	Size      int    `json:",omitempty"` // how far
	Error     string `json:",omitempty"` // why there are no figures
	Rate      Figure // tasks a second
	CPU       map[string]Figure
	All       Figure // CPU of all processes that count, µs a task
	P50, P99  Figure // ms
	Allocated Figure // bytes of the worker, or allocations of the producer
	Added     *Added `json:",omitempty"`
}

// Added is the median of what a way to enqueue takes beyond the bare client,
// round by round.
type Added struct {
	CPU    float64 // µs
	Allocs float64
}

func (r Row) title() string {
	parts := []string{r.Section, r.Name}
	if r.Token != "" {
		parts = append(parts, "token "+r.Token)
	}
	if r.InFlight != 0 {
		parts = append(parts, fmt.Sprintf("%d in flight", r.InFlight))
	}
	if r.Of != "" {
		parts = append(parts, r.Of)
	}
	if r.Size != 0 {
		parts = append(parts, strconv.Itoa(r.Size))
	}
	return strings.Join(parts, ", ")
}

// Memory is what Redis keeps of so many tasks that are done.
type Memory struct {
	Tasks int
	Bytes float64 // a task
}

// Soak is a worker under load for long.
type Soak struct {
	InFlight  int
	Length    time.Duration
	Tasks     int
	Resident  []int64 // bytes, at even intervals
	Allocated float64 // bytes a delivery
	Error     string  `json:",omitempty"`
}

// Batch is the memory of a large EnqueueBatch.
type Batch struct {
	Tasks int
	Peak  uint64 // bytes of heap
	CPU   float64
}

// row finds one case.
func (r *Report) row(section, name, token string, inFlight int) (Row, bool) {
	for _, row := range r.Rows {
		if row.Section == section && row.Name == name && row.Token == token && (inFlight == 0 || row.InFlight == inFlight) && row.Error == "" {
			return row, true
		}
	}
	return Row{}, false
}

// failures are the titles of the cases that have no figures.
func (r *Report) failures() []string {
	var failed []string
	for _, row := range r.Rows {
		if row.Error != "" {
			failed = append(failed, row.title()+": "+row.Error)
		}
	}
	if r.Soak != nil && r.Soak.Error != "" {
		failed = append(failed, "soak: "+r.Soak.Error)
	}
	return failed
}
