package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// figuresMark names the block of performance.md that this command writes.
const figuresMark = "figures"

// writeDocs puts the report into the performance page.
func writeDocs(dir string, r *Report) error {
	page := filepath.Join(dir, "performance.md")
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	text, err := replaceBlock(string(old), figuresMark, figuresBlock(r))
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(page, []byte(text), 0o644)
}

func figuresBlock(r *Report) string {
	var b strings.Builder
	if r.Quick {
		b.WriteString("**A quick run, whose figures are worth nothing.** ")
	}
	fmt.Fprintf(&b, "%s\n", about(r))
	for _, t := range tables(r) {
		fmt.Fprintf(&b, "\n### %s\n\n", t.title)
		for _, note := range t.notes {
			fmt.Fprintf(&b, "%s\n\n", note)
		}
		b.WriteString(markdown(t))
	}
	return b.String()
}

func markdown(t table) string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.head)
	line(strings.Split(strings.Repeat("---,", len(t.head)-1)+"---", ","))
	for _, cells := range t.rows {
		line(append(cells, make([]string, len(t.head)-len(cells))...))
	}
	return b.String()
}

// replaceBlock replaces the text between the begin and end marks of name.
func replaceBlock(text, name, block string) (string, error) {
	begin, end := "<!-- bench:"+name+" -->\n", "<!-- /bench:"+name+" -->"
	before, rest, ok1 := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return "", fmt.Errorf("no %q and %q in this order", strings.TrimSpace(begin), end)
	}
	return before + begin + block + end + after, nil
}
