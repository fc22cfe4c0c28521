package rows

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Outcome is the outcome of a row.
type Outcome string

// The outcomes of a row. NotRun is a row that cannot be run against a server, such as
// one about App Engine without --app-engine.
const (
	Passed Outcome = "passed"
	Failed Outcome = "failed"
	NotRun Outcome = "not run"
)

// Result is a row and its outcome.
type Result struct {
	Row

	Outcome  Outcome
	Findings []string // why it failed, by transport, or was not run

	skipped []string
}

// Section is a section of docs/cloud-tasks.md, with the outcomes of its rows.
type Section struct {
	Number string        `json:"section"`
	Title  string        `json:"title"`
	Passed int           `json:"passed"`
	Failed int           `json:"failed"`
	NotRun int           `json:"notRun"`
	Marks  map[Mark]int  `json:"marks"`
	Rows   []ReportedRow `json:"rows"`
}

// ReportedRow is a row of a report.
type ReportedRow struct {
	Name     string   `json:"name"`
	Mark     Mark     `json:"mark"`
	Outcome  Outcome  `json:"outcome"`
	Findings []string `json:"findings,omitempty"`
}

// Report is the score of a server.
type Report struct {
	Passed   int       `json:"passed"`
	Failed   int       `json:"failed"`
	NotRun   int       `json:"notRun"`
	Sections []Section `json:"sections"`
}

// NewReport counts results.
func NewReport(results []Result) Report {
	var report Report
	for _, s := range sections {
		s.Marks = map[Mark]int{}
		for _, r := range results {
			if r.Section != s.Number {
				continue
			}
			s.Marks[r.Mark]++
			switch r.Outcome {
			case Passed:
				s.Passed++
			case Failed:
				s.Failed++
			case NotRun:
				s.NotRun++
			}
			s.Rows = append(s.Rows, ReportedRow{r.Name, r.Mark, r.Outcome, r.Findings})
		}
		report.Passed += s.Passed
		report.Failed += s.Failed
		report.NotRun += s.NotRun
		report.Sections = append(report.Sections, s)
	}
	return report
}

// Write writes a line for each section, then each row that failed, then each
// that was not run.
func (r Report) Write(w io.Writer) error {
	var text bytes.Buffer
	r.writeTable(&text)
	for _, outcome := range []Outcome{Failed, NotRun} {
		for _, s := range r.Sections {
			s.writeRows(&text, outcome)
		}
	}
	_, err := w.Write(text.Bytes())
	return err
}

func (r Report) writeTable(text *bytes.Buffer) {
	fmt.Fprintf(text, "%-6s%-48s%7s%7s%8s  %s\n", "", "Section of docs/cloud-tasks.md", "passed", "failed", "not run", "evidence")
	for _, s := range r.Sections {
		var marks []string
		for _, m := range []Mark{Documented, Observed, Inferred} {
			if s.Marks[m] > 0 {
				marks = append(marks, fmt.Sprintf("%d %s", s.Marks[m], m))
			}
		}
		fmt.Fprintf(text, "%-6s%-48s%7d%7d%8d  %s\n", s.Number, s.Title, s.Passed, s.Failed, s.NotRun, strings.Join(marks, ", "))
	}
	fmt.Fprintf(text, "%-54s%7d%7d%8d  of %d\n", "", r.Passed, r.Failed, r.NotRun, r.Passed+r.Failed+r.NotRun)
}

// writeRows writes the rows of an outcome, with the reasons.
func (s Section) writeRows(text *bytes.Buffer, outcome Outcome) {
	for _, row := range s.Rows {
		if row.Outcome != outcome {
			continue
		}
		fmt.Fprintf(text, "\n%s: #%s %s (%s)\n", outcome, s.Number, row.Name, row.Mark)
		for _, finding := range row.Findings {
			fmt.Fprintf(text, "\t%s\n", strings.ReplaceAll(finding, "\n", "\n\t"))
		}
	}
}
