package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

const service = "docs/cloud-tasks.md"

var (
	cited   = regexp.MustCompile(`docs/cloud-tasks\.md#(\d+(?:\.\d+)?)((?:(?:,| to| and) #\d+(?:\.\d+)?)*)`)
	further = regexp.MustCompile(`#(\d+(?:\.\d+)?)`)
	opens   = regexp.MustCompile(`^<a id="([\d.]+)"></a>$`)
	lead    = regexp.MustCompile(`^\*(Documented|Observed|Unknown)\b`)
	mark    = regexp.MustCompile(`\b(documented|observed|inferred|unknown)\b`)
	source  = regexp.MustCompile(`(?i)\b(?:documented|observed): (\S+)`)
	named   = regexp.MustCompile(`\[([^\]\[]+)\](?:[^(\[:]|$)`)
	defined = regexp.MustCompile(`^\[([^\]]+)\]: https://\S+$`)
)

// sections returns the text of each numbered section, without its subsections.
func sections(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	number := ""
	for line := range strings.Lines(read(t, service)) {
		if m := opens.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			number = m[1]
			if _, twice := found[number]; twice {
				t.Errorf("%s: section %s is there twice", service, number)
			}
			found[number] = ""
			continue
		}
		if number != "" && !defined.MatchString(strings.TrimSpace(line)) {
			found[number] += line
		}
	}
	return found
}

// TestCitations shows that each citation of docs/cloud-tasks.md names a section
// that exists.
func TestCitations(t *testing.T) {
	t.Parallel()
	there := sections(t)
	cmd := exec.CommandContext(t.Context(), "git", "grep", "--untracked", "-nI", "cloud-tasks.md#")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("no repository to search: %v", err) // an archive of the source
	}
	count := 0
	for line := range strings.Lines(string(out)) {
		for _, m := range cited.FindAllStringSubmatch(line, -1) {
			for _, section := range append(further.FindAllStringSubmatch(m[2], -1), m) {
				count++
				if _, ok := there[section[1]]; !ok {
					t.Errorf("%s has no section %s, which is cited here: %s", service, section[1], line)
				}
			}
		}
	}
	if count < 50 {
		t.Errorf("only %d citations were found", count)
	}
}

// TestExportedDocumentation shows that exported documentation does not cite the
// docs folder, which pkg.go.dev does not have. It links Google's own pages.
func TestExportedDocumentation(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	assert.NoError(t, err)
	for dir := range strings.FieldsSeq(string(out)) {
		if strings.Contains(dir, "/internal/") || strings.Contains(dir, "/examples") {
			continue
		}
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		assert.NoError(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
			assert.NoError(t, err)
			if !ast.FileExports(file) {
				continue
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if _, body := n.(*ast.BlockStmt); body {
					return false
				}
				if c, ok := n.(*ast.Comment); ok && strings.Contains(c.Text, "cloud-tasks.md") {
					t.Errorf("%s: link Google's page in exported documentation, not %s", fset.Position(c.Pos()), service)
				}
				return true
			})
		}
	}
}

// TestEveryFactIsMarked shows that each fact has its mark, at the head of its
// section or in its own paragraph or item.
func TestEveryFactIsMarked(t *testing.T) {
	t.Parallel()
	for number, text := range sections(t) {
		covered := false
		for _, block := range blocksOf(text) {
			covered = covered || lead.MatchString(block)
			if !covered && !mark.MatchString(block) {
				t.Errorf("section %s: a fact without a mark: %s", number, block)
			}
			for _, m := range source.FindAllStringSubmatch(block, -1) {
				if !strings.HasPrefix(m[1], "[") && m[1] != "the" {
					t.Errorf("section %s: a mark without a link: %s", number, m[0])
				}
			}
		}
	}
}

// blocksOf splits Markdown into paragraphs, tables and items of lists, without
// headings.
func blocksOf(text string) []string {
	var blocks []string
	for part := range strings.SplitSeq(text, "\n\n") {
		for item := range strings.SplitSeq("\n"+strings.TrimSpace(part), "\n- ") {
			item = strings.TrimSpace(item)
			if item != "" && !strings.HasPrefix(item, "#") {
				blocks = append(blocks, item)
			}
		}
	}
	return blocks
}

// TestSourcesAreDefined shows that each named source has a link, and that each
// link is used.
func TestSourcesAreDefined(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, service))
	assert.NoError(t, err)
	links, used := make(map[string]bool), make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		if m := defined.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			links[m[1]] = true
			continue
		}
		for _, m := range named.FindAllStringSubmatch(code.ReplaceAllString(line, "code"), -1) {
			used[m[1]] = true
		}
	}
	for name := range used {
		if !links[name] {
			t.Errorf("[%s] has no link", name)
		}
	}
	for name := range links {
		if !used[name] {
			t.Errorf("[%s] is a link that nothing names", name)
		}
	}
}
