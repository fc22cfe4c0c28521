// Package docs_test checks the documentation against the code.
package docs_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/brillconsulting/handoff/internal/assert"
)

const (
	root     = "../.."
	features = root + "/docs/features.md"
)

// row is a row of the table: a feature, its calls and its tests.
type row struct {
	line  int
	title string
	calls []string // handoff.Client.Enqueue
	tests []string // admin.TestEnsure
}

var quoted = regexp.MustCompile("`([^`]+)`")

// readTable returns the rows of all tables in a page.
func readTable(t *testing.T, page string) []row {
	t.Helper()
	file, err := os.Open(page)
	assert.NoError(t, err)
	defer file.Close()
	var rows []row
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		cells := strings.Split(strings.Trim(lines.Text(), "|"), "|")
		if !strings.HasPrefix(lines.Text(), "|") || strings.HasPrefix(cells[0], "---") || strings.TrimSpace(cells[0]) == "Feature" {
			continue
		}
		if len(cells) != 3 {
			t.Fatalf("line %d has %d cells, want 3", number, len(cells))
		}
		rows = append(rows, row{number, strings.TrimSpace(cells[0]), names(cells[1]), names(cells[2])})
	}
	assert.NoError(t, lines.Err())
	return rows
}

func names(cell string) []string {
	var names []string
	for _, match := range quoted.FindAllStringSubmatch(cell, -1) {
		names = append(names, match[1])
	}
	return names
}

// folder splits admin.Queues.Create into a folder of this module and the rest.
func folder(name string) (dir, rest string) {
	at := strings.LastIndexByte(name, '/') + 1
	pkg, rest, _ := strings.Cut(name[at:], ".")
	if dir = name[:at] + pkg; dir == "handoff" {
		dir = "."
	}
	return dir, rest
}

// sources maps each folder to the declarations of its Go files, such as "Queues"
// and "Queues.Create".
type sources map[string]map[string]ast.Node

// of returns the declarations of a folder's tests, or of its other files.
func (s sources) of(t *testing.T, dir string, tests bool) map[string]ast.Node {
	t.Helper()
	if s[dir] == nil {
		s[dir] = declared(t, dir, tests)
	}
	return s[dir]
}

func declared(t *testing.T, dir string, tests bool) map[string]ast.Node {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	assert.NoError(t, err)
	all := make(map[string]ast.Node)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") != tests {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		assert.NoError(t, err)
		for _, decl := range file.Decls {
			declare(all, decl)
		}
	}
	return all
}

func declare(all map[string]ast.Node, decl ast.Decl) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		name := decl.Name.Name
		if decl.Recv != nil {
			receiver := decl.Recv.List[0].Type
			if star, ok := receiver.(*ast.StarExpr); ok {
				receiver = star.X
			}
			if ident, ok := receiver.(*ast.Ident); ok {
				name = ident.Name + "." + name
			}
		}
		all[name] = decl
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					all[name.Name] = spec
				}
			case *ast.TypeSpec:
				all[spec.Name.Name] = spec
				if fields, ok := spec.Type.(*ast.StructType); ok {
					for _, field := range fields.Fields.List {
						for _, name := range field.Names {
							all[spec.Name.Name+"."+name.Name] = field
						}
					}
				}
			}
		}
	}
}

// TestFeaturesExist shows that every feature names calls and tests, and that
// each exists.
func TestFeaturesExist(t *testing.T) {
	t.Parallel()
	rows := readTable(t, features)
	if len(rows) < 30 {
		t.Fatalf("only %d rows were read", len(rows))
	}
	code, tests := make(sources), make(sources)
	for _, r := range rows {
		if len(r.calls) == 0 || len(r.tests) == 0 {
			t.Errorf("line %d, %s: %d calls and %d tests; at least one of each", r.line, r.title, len(r.calls), len(r.tests))
		}
		for _, call := range r.calls {
			if dir, name := folder(call); code.of(t, dir, false)[name] == nil || !ast.IsExported(name) {
				t.Errorf("line %d, %s: there is no exported %s", r.line, r.title, call)
			}
		}
		for _, test := range r.tests {
			dir, name := folder(test)
			fn, ok := tests.of(t, dir, true)[name].(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(name, "Test") && !strings.HasPrefix(name, "Example") {
				t.Errorf("line %d, %s: there is no test %s", r.line, r.title, test)
				continue
			}
			if skips(fn) {
				t.Errorf("line %d, %s: %s may skip itself, and shows nothing then", r.line, r.title, test)
			}
		}
	}
}

// skips reports whether a test calls Skip in its own body. TestFeaturesPass
// finds one in a helper.
func skips(fn *ast.FuncDecl) bool {
	found := false
	ast.Inspect(fn, func(n ast.Node) bool {
		if call, ok := n.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, call.Sel.Name) {
			found = true
		}
		return !found
	})
	return found
}

// TestFeaturesPass runs every named test. A test that is skipped or not found,
// such as an Example without output, has not passed.
func TestFeaturesPass(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: they run in their own packages")
	}
	var dirs, named []string
	rows := readTable(t, features)
	for _, r := range rows {
		for _, test := range r.tests {
			dir, name := folder(test)
			dirs, named = append(dirs, "./"+dir), append(named, name)
		}
	}
	slices.Sort(dirs)
	slices.Sort(named)
	passed, output := run(t, slices.Compact(dirs), slices.Compact(named))
	for _, r := range rows {
		for _, test := range r.tests {
			if !passed[test] {
				t.Errorf("line %d, %s: %s did not pass", r.line, r.title, test)
			}
		}
	}
	if t.Failed() {
		t.Log(output)
	}
}

const module = "github.com/brillconsulting/handoff"

// run runs the named tests and returns those that passed, as the table names
// them, and their output. Vet is off: it runs with the folders' own tests.
func run(t *testing.T, dirs, named []string) (passed map[string]bool, output string) {
	t.Helper()
	args := append([]string{"test", "-json", "-vet=off", "-run", "^(" + strings.Join(named, "|") + ")$"}, dirs...)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	var stdout, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &text
	_ = cmd.Run() // what failed is in its output
	passed = make(map[string]bool)
	for decoder := json.NewDecoder(&stdout); ; {
		var event struct{ Action, Package, Test, Output string }
		if decoder.Decode(&event) != nil {
			return passed, text.String()
		}
		if event.Action == "pass" {
			dir := strings.TrimPrefix(strings.TrimPrefix(event.Package, module), "/")
			passed[cmp.Or(dir, "handoff")+"."+event.Test] = true
		}
		text.WriteString(event.Output)
	}
}
