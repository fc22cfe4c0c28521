package docs_test

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"regexp"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/internal/assert"
)

// vocabulary returns every exported error, outcome and reason of the root.
// Outcomes and reasons map to their text in logs and metrics.
func vocabulary(t *testing.T) map[string]string {
	t.Helper()
	fset := token.NewFileSet()
	file := parse(t, fset, "vocabulary", "package p\nimport "+`"`+module+`"`)
	root, err := importerOf(t, fset, [][]*ast.File{{file}}).Import(module)
	assert.NoError(t, err)
	words := make(map[string]string)
	for _, name := range root.Scope().Names() {
		object := root.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		kind := types.TypeString(object.Type(), (*types.Package).Name)
		switch object := object.(type) {
		case *types.Var:
			if kind == "error" {
				words[name] = ""
			}
		case *types.Const:
			switch kind {
			case "handoff.Outcome":
				n, _ := constant.Int64Val(object.Val())
				words[name] = handoff.Outcome(n).String()
			case "handoff.Reason":
				words[name] = constant.StringVal(object.Val())
			}
		}
	}
	return words
}

var entry = regexp.MustCompile("^\\| `([A-Z][A-Za-z]+)`(?: `([a-z-]+)`)? \\|")

// TestErrors shows that docs/errors.md lists exactly the errors, outcomes and
// reasons of the code.
func TestErrors(t *testing.T) {
	t.Parallel()
	words := vocabulary(t)
	if len(words) < 40 {
		t.Fatalf("only %d were found: %v", len(words), words)
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(read(t, "docs/errors.md")) {
		m := entry.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		text, ok := words[m[1]]
		switch {
		case !ok:
			t.Errorf("there is no exported error, outcome or reason %s", m[1])
		case seen[m[1]]:
			t.Errorf("%s is there twice", m[1])
		case text != m[2]:
			t.Errorf("%s is shown as %q, not %q", m[1], text, m[2])
		}
		seen[m[1]] = true
	}
	for name := range words {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
}
