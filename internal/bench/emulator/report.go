package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
)

// figure is one number of a row.
type figure struct {
	name  string
	value float64
	unit  string
	aim   aim
}

// text has as many digits as it takes to see whether the aim was met.
func (f figure) text() string {
	if f.aim.how == "±" {
		return fmt.Sprintf("%.2f", f.value)
	}
	return short(f.value)
}

// aim says what a figure should be; the zero aim is none.
type aim struct {
	how   string // "≤", "≥" or "±"
	value float64
	of    float64 // what a "±" is around
}

func atMost(v float64) aim     { return aim{how: "≤", value: v} }
func atLeast(v float64) aim    { return aim{how: "≥", value: v} }
func within(v, of float64) aim { return aim{how: "±", value: v, of: of} }

func (a aim) String() string {
	switch a.how {
	case "":
		return ""
	case "±":
		return fmt.Sprintf("%s ± %s", short(a.of), short(a.value))
	}
	return a.how + " " + short(a.value)
}

func (a aim) met(v float64) bool {
	switch a.how {
	case "≤":
		return v <= a.value
	case "≥":
		return v >= a.value
	case "±":
		return math.Abs(v-a.of) <= a.value
	}
	return true
}

// short prints three digits or so: more would promise too much.
func short(v float64) string {
	switch size := math.Abs(v); {
	case size == math.Trunc(size) && size < 1e6, size >= 100:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	case size >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// line is a figure in JSON. Without an aim it is met.
type line struct {
	Row    string  `json:"row"`
	Figure string  `json:"figure"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Aim    string  `json:"aim,omitempty"`
	Met    bool    `json:"met"`
}

// report prints rows as a table, or as a JSON object a figure.
type report struct {
	out  io.Writer
	json *json.Encoder
}

func newReport(out io.Writer, asJSON bool) *report {
	r := &report{out: out}
	if asJSON {
		r.json = json.NewEncoder(out)
		return r
	}
	r.line("", "", "aim", "")
	return r
}

func (r *report) print(of row, figures []figure) error {
	if r.json == nil {
		_, _ = fmt.Fprintf(r.out, "%s: %s\n", of.name, of.about)
	}
	for _, f := range figures {
		if r.json == nil {
			verdict := ""
			if !f.aim.met(f.value) {
				verdict = "missed"
			}
			r.line("  "+f.name, f.text()+" "+f.unit, f.aim.String(), verdict)
			continue
		}
		if err := r.json.Encode(line{of.name, f.name, f.value, f.unit, f.aim.String(), f.aim.met(f.value)}); err != nil {
			return err // not a number
		}
	}
	return nil
}

func (r *report) line(name, value, aim, verdict string) {
	_, _ = fmt.Fprintf(r.out, "%-52s %16s   %-14s %s\n", name, value, aim, verdict)
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile of the values: the smallest that at least this share of them
// reaches, and between the middle two of an even number for the median.
func quantile(values []float64, q float64) float64 {
	values = slices.Sorted(slices.Values(values))
	at := q * float64(len(values))
	i := min(int(at), len(values)-1)
	if q == 0.5 && len(values)%2 == 0 {
		return (values[i-1] + values[i]) / 2
	}
	return values[i]
}
