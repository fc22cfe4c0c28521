package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

// block is a fenced block of a page.
type block struct {
	page string // README.md
	line int    // of its first line, as an editor counts
	lang string // go, sh, …; empty: none
	note string // the HTML comment on the line above it, if there is one
	text string
}

// pages returns the Markdown files of this repository.
func pages(t *testing.T) []string {
	t.Helper()
	found := tracked(t, "*.md")
	if len(found) < 5 {
		t.Fatalf("only %v were found", found)
	}
	return found
}

// tracked returns the files of this repository with these names or patterns.
func tracked(t *testing.T, patterns ...string) []string {
	t.Helper()
	args := append([]string{"ls-files", "--cached", "--others", "--exclude-standard", "--"}, patterns...)
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("no repository to list the files of: %v", err) // an archive of the source
	}
	var found []string
	for name := range strings.FieldsSeq(string(out)) {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil { // else deleted, and not yet committed
			found = append(found, name)
		}
	}
	return found
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	assert.NoError(t, err)
	return string(text)
}

var note = regexp.MustCompile(`^<!-- (.*) -->$`)

// split returns the fenced blocks of a page, and all its lines, of which those
// in blocks are empty.
func split(t *testing.T, page string) (blocks []block, prose []string) {
	t.Helper()
	prose = strings.Split(read(t, page), "\n")
	var open *block
	for i, line := range prose {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case open == nil && isFence:
			open = &block{page: page, line: i + 2, lang: fence}
			if i > 0 {
				if m := note.FindStringSubmatch(prose[i-1]); m != nil {
					open.note = m[1]
				}
			}
		case open != nil && isFence:
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		default:
			continue
		}
		if i > 0 && !isFence || open == nil {
			prose[i] = ""
		}
	}
	if open != nil {
		t.Errorf("%s:%d: the block has no end", page, open.line)
	}
	return blocks, prose
}

// shown matches the note of a block that shows a file of this repository, or whole
// lines of it.
var shown = regexp.MustCompile(`^(part of )?([a-z0-9_.-]+/[a-z0-9_./-]+\.[a-z]+)$`)

// TestExamplesAreShownVerbatim shows that a block with the name of a file is
// that file, or a part of it, which has tests.
func TestExamplesAreShownVerbatim(t *testing.T) {
	t.Parallel()
	found := 0
	for _, page := range pages(t) {
		blocks, _ := split(t, page)
		for _, b := range blocks {
			note := shown.FindStringSubmatch(b.note)
			if note == nil {
				continue
			}
			found++
			file := read(t, note[2])
			if same := b.text == file; !same && (note[1] == "" || !strings.Contains("\n"+file, "\n"+b.text)) {
				t.Errorf("%s:%d: the block is another %s than there is", b.page, b.line, note[2])
			}
		}
	}
	if found < 5 { // docs/testing.md alone has these
		t.Errorf("%d files are shown, want 5 or more", found)
	}
}
