package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// writeText writes the report for a terminal.
func writeText(w io.Writer, r *Report) {
	if r.Quick {
		fmt.Fprint(w, "QUICK: this shows that everything works. The figures are worth nothing.\n\n")
	}
	fmt.Fprintln(w, about(r))
	for _, t := range append(tables(r), sizeTable(r)) {
		if len(t.rows) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", strings.ToUpper(t.title))
		for _, note := range t.notes {
			fmt.Fprintln(w, note)
		}
		columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, cells := range append([][]string{t.head}, t.rows...) {
			fmt.Fprintln(columns, "  "+strings.Join(cells, "\t"))
		}
		_ = columns.Flush() // to a terminal that may be gone
	}
}
