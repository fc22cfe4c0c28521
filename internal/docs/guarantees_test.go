package docs_test

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var guaranteeTest = regexp.MustCompile("`(?:([a-z]+)\\.)?(Test[A-Za-z0-9]+)`")

// TestGuaranteesHaveTests checks that every promise names tests, and that each
// test of the page is there: in the root, or in the folder before its name.
func TestGuaranteesHaveTests(t *testing.T) {
	t.Parallel()
	promises, tests, table := 0, make(sources), false
	for line := range strings.Lines(read(t, "docs/guarantees.md")) {
		named := guaranteeTest.FindAllStringSubmatch(line, -1)
		for _, match := range named {
			if _, ok := tests.of(t, folderOfTests(match[1]), true)[match[2]].(*ast.FuncDecl); !ok {
				t.Errorf("there is no test %s", match[0])
			}
		}
		switch {
		case strings.HasSuffix(line, "| Shown by |\n"):
			table = true
		case !strings.HasPrefix(line, "|"):
			table = false
		case table && !strings.HasPrefix(line, "|--"):
			if promises++; len(named) == 0 {
				t.Errorf("no test is named by %s", line)
			}
		}
	}
	if promises < 30 {
		t.Errorf("%d promises were read, want 30 or more", promises)
	}
}

func folderOfTests(pkg string) string {
	for _, in := range []string{"internal", "internal/integration"} {
		if pkg != "" {
			if _, err := os.Stat(filepath.Join(root, in, pkg)); err == nil {
				return filepath.Join(in, pkg)
			}
		}
	}
	return filepath.Join(".", pkg)
}
