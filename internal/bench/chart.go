package main

import (
	"fmt"
	"strings"
)

// bar is a stacked one: the worker's CPU and its store's.
type bar struct {
	name          string
	worker, store float64
}

// bars are what the chart compares: the same task, 100 at once where it can be
// chosen.
func bars(r *Report) []bar {
	var all []bar
	add := func(name string, row Row, ok bool, store string) {
		if ok {
			all = append(all, bar{name, row.CPU[workerCPU].Median, row.CPU[store].Median})
		}
	}
	row, ok := r.row("worker", bareEcho, seenToken, 100)
	add(variantNames[bareEcho], row, ok, "none")
	row, ok = r.row("worker", withHandoff, seenToken, 100)
	add("handoff", row, ok, redisCPU)
	row, ok = r.row("worker", withTelemetry, seenToken, 100)
	add("handoff, telemetry on", row, ok, redisCPU)
	row, ok = r.row("worker", withHandoff, newTokens, 100)
	add("handoff, every token new", row, ok, redisCPU)
	row, ok = r.row("worker", obviousWay, seenToken, 100)
	add(variantNames[obviousWay], row, ok, redisCPU)
	for _, name := range []string{"asynq, tuned", "asynq, README"} {
		row, ok = r.row("asynq", name, "", 0)
		add(name, row, ok, redisCPU)
	}
	for _, name := range []string{"river, tuned", "river, README"} {
		row, ok = r.row("river", name, "", 0)
		add(name, row, ok, postgresCPU)
	}
	return all
}

// chart draws the bars as SVG. Its colours are told apart on white and on black,
// and without colour by their order.
func chart(r *Report) string {
	const (
		left, width, right = 190, 560, 70
		top, step, thick   = 46, 30, 20
	)
	all := bars(r)
	longest := 1.0
	for _, b := range all {
		longest = max(longest, b.worker+b.store)
	}
	scale := float64(width) / longest
	height := top + step*len(all) + 30
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="CPU to process one task" font-family="sans-serif" font-size="13">`+"\n",
		left+width+right, height)
	s.WriteString("<style>text{fill:#57606a}.w{fill:#2f81f7}.s{fill:#d29922}@media(prefers-color-scheme:dark){text{fill:#adbac7}}</style>\n")
	fmt.Fprintf(&s, `<text x="%d" y="20" font-weight="bold">CPU to process one task, in µs: </text>`+"\n", left)
	fmt.Fprintf(&s, `<rect class="w" x="%d" y="9" width="12" height="12"/><text x="%d" y="20">worker</text>`+"\n", left+240, left+257)
	fmt.Fprintf(&s, `<rect class="s" x="%d" y="9" width="12" height="12"/><text x="%d" y="20">Redis or PostgreSQL</text>`+"\n", left+320, left+337)
	for i, b := range all {
		y := top + step*i
		worker, store := b.worker*scale, b.store*scale
		fmt.Fprintf(&s, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-10, y+15, b.name)
		fmt.Fprintf(&s, `<rect class="w" x="%d" y="%d" width="%.1f" height="%d"/>`+"\n", left, y, worker, thick)
		fmt.Fprintf(&s, `<rect class="s" x="%.1f" y="%d" width="%.1f" height="%d"/>`+"\n", left+worker, y, store, thick)
		fmt.Fprintf(&s, `<text x="%.1f" y="%d">%s</text>`+"\n", left+worker+store+8, y+15, number(b.worker+b.store))
	}
	fmt.Fprintf(&s, `<text x="%d" y="%d" font-size="11">%s, %s, %d processors; medians of %d rounds</text>`+"\n",
		left, height-8, r.Date.Format("2006-01-02"), r.Machine.CPU, r.Machine.Processors, r.Rounds)
	s.WriteString("</svg>\n")
	return s.String()
}
