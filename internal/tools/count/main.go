// Command count prints how large the repository is: lines by area, exported
// names of the root package, and nolint directives. It fails on a function of
// over 60 lines, on a file of over 500, and on more exported names than -names
// allows; tests are free of these.
//
//	go run ./internal/tools/count
package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
)

const (
	functionMax = 60
	fileMax     = 500
)

// areas are matched in turn; what matches none is the library.
var areas = []struct {
	name  string
	paths []string
}{
	{"examples", []string{"examples/"}},
	{"products", []string{"cmd/", "dashboard/", "emulator/"}},
	{"library", nil},
}

var laboratory = []string{
	"internal/bench", "internal/integration/", "internal/simulate/", "internal/mutants/", "internal/tools/", "internal/assert/", "internal/redistest/",
	"internal/oidc/oidctest/", "emulator/conformance/",
}

func main() {
	names := flag.Int("names", 0, "exported names that the root package may have; 0: any number")
	flag.Parse()
	problems, err := run(*names)
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "count:", err)
	}
	if err != nil || len(problems) > 0 {
		os.Exit(1)
	}
}

func run(names int) (problems []string, err error) {
	files, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.go").Output()
	if err != nil {
		return nil, fmt.Errorf("listing the files: %w", err)
	}
	c := counts{lines: make(map[string]int)}
	for name := range strings.Lines(string(files)) {
		name = strings.TrimSpace(name)
		text, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err == nil {
			err = c.add(name, text)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, area := range []string{"library", "products", "examples", "laboratory", "tests"} {
		fmt.Printf("%-11s %6d lines\n", area, c.lines[area])
	}
	slices.Sort(c.exported)
	fmt.Printf("root        %6d exported names\n", len(c.exported))
	fmt.Printf("nolint      %6d directives\n", c.nolint)
	if names > 0 && len(c.exported) > names {
		c.problems = append(c.problems, fmt.Sprintf("the root package exports %d names, %d are allowed: %s", len(c.exported), names, strings.Join(c.exported, " ")))
	}
	return c.problems, nil
}

type counts struct {
	lines    map[string]int
	exported []string // of the root package
	nolint   int
	problems []string
}

// area of a file that is no test.
func area(name string) string {
	if slices.ContainsFunc(laboratory, func(p string) bool { return strings.HasPrefix(name, p) }) {
		return "laboratory"
	}
	for _, a := range areas {
		if len(a.paths) == 0 || slices.ContainsFunc(a.paths, func(p string) bool { return strings.HasPrefix(name, p) }) {
			return a.name
		}
	}
	return ""
}

func (c *counts) add(name string, text []byte) error {
	lines := bytes.Count(text, []byte("\n"))
	c.nolint += bytes.Count(text, []byte("//"+"nolint"))
	if strings.HasSuffix(name, "_test.go") {
		c.lines["tests"] += lines
		return nil
	}
	c.lines[area(name)] += lines
	if lines > fileMax {
		c.problems = append(c.problems, fmt.Sprintf("%s: %d lines, %d are allowed", name, lines, fileMax))
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if f, ok := n.(*ast.FuncDecl); ok {
			if length := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1; length > functionMax {
				c.problems = append(c.problems, fmt.Sprintf("%s: %s has %d lines, %d are allowed", set.Position(f.Pos()), f.Name.Name, length, functionMax))
			}
		}
		return true
	})
	if path.Dir(name) == "." {
		c.exported = append(c.exported, exported(file)...)
	}
	return nil
}

// exported returns the names that a file adds to its package.
func exported(file *ast.File) (names []string) {
	add := func(ids ...*ast.Ident) {
		for _, id := range ids {
			if id.IsExported() {
				names = append(names, id.Name)
			}
		}
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				add(d.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					add(s.Name)
				case *ast.ValueSpec:
					add(s.Names...)
				}
			}
		}
	}
	return names
}
