// Command api writes the exported API of every public package as text, one file per
// package, into the given folder: names, signatures and fields, without comments or
// bodies.
//
// The result is committed, so that a diff shows how a change affects the API.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/doc"
	"go/format"
	"go/parser"
	"go/printer"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: api folder")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

// run replaces the files in folder by those of the module in the working directory.
func run(folder string) error {
	packages, err := publicPackages()
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil {
		return err
	}
	for _, file := range old {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, p := range packages {
		text, err := p.text()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, p.fileName()), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// pkg is go list's description of a package.
type pkg struct {
	ImportPath, Dir, Name string
	GoFiles               []string
	Module                struct{ Path string }
}

func publicPackages() ([]pkg, error) {
	list := exec.Command("go", "list", "-json=ImportPath,Dir,Name,GoFiles,Module", "./...")
	// A fixed platform selects the same files on every machine.
	list.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var public []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return public, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		path := strings.Split(p.ImportPath, "/")
		if p.Name != "main" && len(p.GoFiles) > 0 && !slices.Contains(path, "internal") && !slices.Contains(path, "examples") {
			public = append(public, p)
		}
	}
}

// fileName is the package's path below the module's parent: handoff.txt for the
// root, emulator.txt and such for the others.
func (p pkg) fileName() string {
	name := p.Name
	if below, ok := strings.CutPrefix(p.ImportPath, p.Module.Path+"/"); ok {
		name = strings.ReplaceAll(below, "/", "-")
	}
	return name + ".txt"
}

func (p pkg) text() ([]byte, error) {
	fset := token.NewFileSet()
	files := make([]*ast.File, len(p.GoFiles))
	for i, name := range p.GoFiles {
		var err error
		if files[i], err = parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution); err != nil {
			return nil, err
		}
	}
	// go/doc drops unexported names and function bodies.
	d, err := doc.NewFromFiles(fset, files, p.ImportPath)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.ImportPath, err)
	}
	w := &writer{fset: fset}
	fmt.Fprintf(&w.buf, "package %s // import %q\n", d.Name, d.ImportPath)
	w.values(d.Consts)
	w.values(d.Vars)
	w.funcs(d.Funcs)
	for _, t := range d.Types {
		w.decl(t.Decl)
		w.values(t.Consts)
		w.values(t.Vars)
		w.funcs(t.Funcs)
		w.funcs(t.Methods)
	}
	return w.buf.Bytes(), w.err
}

type writer struct {
	fset *token.FileSet
	buf  bytes.Buffer
	err  error
}

// decl prints d without the blank lines where comments were, because a comment must
// not change the API's text.
func (w *writer) decl(d ast.Decl) {
	var printed bytes.Buffer
	err := printer.Fprint(&printed, w.fset, d)
	dense := blankLines.ReplaceAll(printed.Bytes(), []byte("\n"))
	formatted, formatErr := format.Source(dense)
	w.err = errors.Join(w.err, err, formatErr)
	fmt.Fprintf(&w.buf, "\n%s\n", formatted)
}

var blankLines = regexp.MustCompile(`\n\n+`)

func (w *writer) values(values []*doc.Value) {
	for _, v := range values {
		w.decl(v.Decl)
	}
}

func (w *writer) funcs(funcs []*doc.Func) {
	for _, f := range funcs {
		w.decl(f.Decl)
	}
}
