package docs_test

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"
)

var testName = regexp.MustCompile("`([a-z/]+\\.Test[A-Za-z0-9]+)`")

// TestThreatsHaveTests checks that every row of the threat model names tests, and
// that each is there.
func TestThreatsHaveTests(t *testing.T) {
	t.Parallel()
	rows, tests := 0, make(sources)
	for line := range strings.Lines(read(t, "SECURITY.md")) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| may not |") {
			continue
		}
		rows++
		named := testName.FindAllStringSubmatch(line, -1)
		if len(named) == 0 {
			t.Errorf("no test is named by %s", line)
		}
		for _, match := range named {
			dir, name := folder(match[1])
			if _, ok := tests.of(t, dir, true)[name].(*ast.FuncDecl); !ok {
				t.Errorf("there is no test %s", match[1])
			}
		}
	}
	if rows < 20 {
		t.Errorf("%d rows were read, want 20 or more", rows)
	}
}
