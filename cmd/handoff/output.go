package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
)

// console is where a command reads and writes.
type console struct {
	in       io.Reader
	out, err io.Writer

	asks   bool // in and err are a terminal: questions can be asked
	redraw bool // err is a terminal: a line can be drawn again
	colour bool // out is a terminal that may have colours
}

func newConsole() *console {
	terminal := func(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }
	return &console{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		asks:   terminal(os.Stdin) && terminal(os.Stderr),
		redraw: terminal(os.Stderr) && os.Getenv("TERM") != "dumb",
		colour: terminal(os.Stdout) && os.Getenv("TERM") != "dumb" && os.Getenv("NO_COLOR") == "",
	}
}

// sayf writes a line for people to stderr.
func (c *console) sayf(format string, args ...any) {
	fmt.Fprintln(c.err, printable(fmt.Sprintf(format, args...)))
}

// outputFlags are those of every command that has results.
type outputFlags struct {
	Output string `default:"table" enum:"table,json" help:"How to show results: table, or json for one JSON object a line." placeholder:"table|json" short:"o"`
}

// colour of a cell.
type colour string

const (
	plain  colour = ""
	green  colour = "\x1b[32m"
	yellow colour = "\x1b[33m"
	red    colour = "\x1b[31m"
	reset         = "\x1b[0m"
)

// cell is a field of a table.
type cell struct {
	text   string
	colour colour
}

// count is so many of something.
func count[N int | int64](n N, of string) string {
	if n != 1 {
		of += "s"
	}
	return fmt.Sprintf("%d %s", n, of)
}

func text(s string) cell { return cell{text: s} }

// listing writes results as rows of a table or as JSON.
type listing struct {
	con     *console
	json    *json.Encoder // nil: a table
	out     *bufio.Writer
	columns []string
	rows    [][]cell
}

// tablePage is the number of rows whose columns are aligned to each other. It limits
// the memory of a long list.
const tablePage = 1000

func (c *console) list(as outputFlags, columns ...string) *listing {
	l := &listing{con: c, out: bufio.NewWriter(c.out), columns: columns}
	if as.Output == "json" {
		l.json = json.NewEncoder(l.out)
		l.json.SetEscapeHTML(false)
	}
	return l
}

// add adds one result. Its JSON is written through, its row with its page.
func (l *listing) add(value any, row ...cell) error {
	if l.json != nil {
		if err := l.json.Encode(value); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
		return l.flush()
	}
	l.rows = append(l.rows, row)
	if len(l.rows) == tablePage {
		return l.end()
	}
	return nil
}

// end writes what is left, and the names of the columns if nothing had them yet.
func (l *listing) end() error {
	if l.json == nil {
		l.writeTable()
		l.rows, l.columns = l.rows[:0], nil
	}
	return l.flush()
}

// endWith ends a list that an error, or nil, has cut short.
func (l *listing) endWith(err error) error { return errors.Join(err, l.end()) }

func (l *listing) flush() error {
	if err := l.out.Flush(); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

func (l *listing) writeTable() {
	rows := l.rows
	if l.columns != nil {
		head := make([]cell, len(l.columns))
		for i, name := range l.columns {
			head[i] = text(name)
		}
		rows = append([][]cell{head}, rows...)
	}
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			row[i].text = printable(c.text)
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, c := range row {
			line.WriteString(l.con.paint(c) + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
		}
		_, _ = l.out.WriteString(strings.TrimRight(line.String(), " ") + "\n") // Flush returns the error
	}
}

func (c *console) paint(of cell) string {
	if !c.colour || of.colour == plain || of.text == "" {
		return of.text
	}
	return string(of.colour) + of.text + reset
}

// describe writes one result: its JSON, or a line for each fact that is known.
func (c *console) describe(as outputFlags, value any, facts ...[]cell) error {
	l := c.list(as)
	if l.json != nil {
		return l.add(value)
	}
	for _, fact := range facts {
		if fact[len(fact)-1].text != "" {
			l.rows = append(l.rows, fact)
		}
	}
	return l.end()
}

// fact is a line of describe.
func fact(name string, value any) []cell { return []cell{text(name), text(fmt.Sprint(value))} }

// printable escapes what a terminal would obey. Kinds, errors and payloads are
// other people's words.
func printable(s string) string {
	if !strings.ContainsFunc(s, hostile) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case hostile(r):
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hostile also matches format characters, which can reverse the direction of text.
func hostile(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == utf8.RuneError
}

// age formats how long ago a time was, or how far in the future it is, in one unit.
func age(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	switch d := now.Sub(t); {
	case d.Abs() < time.Second:
		return "now"
	case d < 0:
		return "in " + span(-d)
	default:
		return span(d) + " ago"
	}
}

func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}

// moment formats a time in full, for describe.
func moment(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339) + " (" + age(t, now) + ")"
}

// stamp returns a time for JSON; nil omits the field.
func stamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
