// Command mutants breaks the library on purpose and checks that the tests notice.
// Each .mutant file in this folder is one breakage. It is applied to copies of the
// files that it changes, and go test -overlay builds with the copies, so that the
// tree itself is never changed.
//
// A mutant begins with a description, the packages whose tests must notice it, the
// test to run first (to save time), and whether a user would notice. Then come
// edits: a folder, and lines as in a diff. The lines with a space or a minus must
// occur exactly once in the Go and Lua files of the folder, tests excluded. Code
// may move within the folder without a change of the mutant. With "Module: folder",
// the packages belong to that nested module, which must replace this module by this
// tree.
//
//	Accept tokens for every audience.
//
//	Tests: ./internal/oidc .
//	First: ./internal/oidc TestJunkCostsNoFetch
//	User: yes
//
//	In: internal/oidc
//	-	if !allowed {
//	+	if false {
//
// The command fails if a mutant survives, does not build or no longer applies.
//
//	go run ./internal/mutants [name...]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	folder    = "internal/mutants"
	userTests = "./internal/mutants/usertest"

	// Two at a time: while one builds, another waits for its tests.
	atOnce = 2

	// Some mutants make a test hang.
	timeout = "3m"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string, out io.Writer) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	mutants, err := readAll(root, names)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	l := &lab{root: root, scratch: scratch}
	if err := l.healthy(ctx, mutants); err != nil {
		return err
	}
	start := time.Now()
	l.examine(ctx, mutants)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return report(out, mutants, time.Since(start))
}

func moduleRoot(ctx context.Context) (string, error) {
	file, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	return filepath.Dir(strings.TrimSpace(string(file))), err
}

// mutant is one breakage and its result.
type mutant struct {
	name, what string
	module     string   // folder of the module that has the tests
	tests      []string // packages
	first      []string // a package and a test in it; may be empty
	user       bool     // whether a user would notice
	edits      []edit

	killer, userKiller string // the test that noticed; "" if none did
	err                error
}

// edit replaces one text by another, in one file of a folder.
type edit struct{ folder, old, new string }

func readAll(root string, names []string) ([]*mutant, error) {
	paths, err := filepath.Glob(filepath.Join(root, folder, "*.mutant"))
	if err != nil {
		return nil, err
	}
	var all []*mutant
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".mutant")
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		m, err := parse(name, text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, m)
	}
	if len(all) == 0 || len(names) > 0 && len(all) != len(names) {
		return nil, fmt.Errorf("%d mutants found for the names %q", len(all), names)
	}
	return all, nil
}

func parse(name string, text []byte) (*mutant, error) {
	m := &mutant{name: name}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case key == "In":
			m.edits = append(m.edits, edit{folder: value})
		case len(m.edits) > 0:
			m.edits[len(m.edits)-1].add(line)
		case key == "Module":
			m.module = value
		case key == "Tests":
			m.tests = strings.Fields(value)
		case key == "First":
			m.first = strings.Fields(value)
		case key == "User" && (value == "yes" || value == "no"):
			m.user = value == "yes"
		case m.what == "":
			m.what = strings.TrimSuffix(key, ".")
		}
	}
	if m.what == "" || len(m.tests) == 0 || len(m.edits) == 0 {
		return nil, errors.New("needs a first line, Tests and an edit")
	}
	return m, nil
}

func (e *edit) add(line string) {
	switch line[0] {
	case ' ':
		e.old, e.new = e.old+line[1:], e.new+line[1:]
	case '-':
		e.old += line[1:]
	case '+':
		e.new += line[1:]
	}
}

// find returns the only file that has the old text.
func (e *edit) find(root string) (file string, err error) {
	paths, err := filepath.Glob(filepath.Join(root, e.folder, "*.*"))
	if err != nil {
		return "", err
	}
	found := 0
	for _, path := range paths {
		if ext := filepath.Ext(path); strings.HasSuffix(path, "_test.go") || ext != ".go" && ext != ".lua" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if n := strings.Count("\n"+string(text), "\n"+e.old); n > 0 {
			file = path
			found += n
		}
	}
	if found != 1 || e.old == "" {
		return "", fmt.Errorf("no longer applies: want once in %s, found %d times:\n%s", e.folder, found, e.old)
	}
	return file, nil
}

// lab runs tests on copies.
type lab struct{ root, scratch string }

// healthy checks that the tests pass without a mutant.
func (l *lab) healthy(ctx context.Context, mutants []*mutant) error {
	packages := map[string][]string{"": {userTests}} // by module
	for _, m := range mutants {
		packages[m.module] = append(packages[m.module], m.tests...)
	}
	for module, names := range packages {
		slices.Sort(names)
		killer, err := l.test(ctx, module, "", slices.Compact(names)...)
		if err != nil {
			return err
		}
		if killer != "" {
			return fmt.Errorf("%s fails with nothing broken", killer)
		}
	}
	return nil
}

func (l *lab) examine(ctx context.Context, mutants []*mutant) {
	queue := make(chan *mutant)
	var examiners sync.WaitGroup
	for range atOnce {
		examiners.Go(func() {
			for m := range queue {
				m.err = l.kill(ctx, m)
				fmt.Fprintf(os.Stderr, "%s: %s\n", m.name, m.fate())
			}
		})
	}
	for _, m := range mutants {
		queue <- m
	}
	close(queue)
	examiners.Wait()
}

func (m *mutant) fate() string {
	switch {
	case m.err != nil:
		return m.err.Error()
	case m.killer == "" || m.user && m.userKiller == "":
		return "survived"
	}
	return "killed"
}

func (l *lab) kill(ctx context.Context, m *mutant) error {
	overlay, err := l.apply(m)
	if err != nil {
		return err
	}
	if len(m.first) == 2 {
		m.killer, err = l.test(ctx, m.module, overlay, "-run=^"+m.first[1]+"$", m.first[0])
	}
	if m.killer == "" && err == nil {
		m.killer, err = l.test(ctx, m.module, overlay, m.tests...)
	}
	if m.user && err == nil {
		m.userKiller, err = l.test(ctx, "", overlay, userTests)
	}
	return err
}

// apply edits copies of the files, and returns the overlay that replaces the
// originals with them.
func (l *lab) apply(m *mutant) (string, error) {
	dir := filepath.Join(l.scratch, m.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	replace, edited := make(map[string]string), make(map[string]string)
	for i, e := range m.edits {
		original, err := e.find(l.root)
		if err != nil {
			return "", err
		}
		text, ok := edited[original]
		if !ok {
			whole, err := os.ReadFile(original)
			if err != nil {
				return "", err
			}
			text = string(whole)
			replace[original] = filepath.Join(dir, fmt.Sprint(i, "-", filepath.Base(original)))
		}
		text = strings.TrimPrefix(strings.Replace("\n"+text, "\n"+e.old, "\n"+e.new, 1), "\n")
		edited[original] = text
		if err := os.WriteFile(replace[original], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	overlay := filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// event is a line of go test -json.
type event struct {
	Action, Package, Test, Output string
}

// test returns the first test that failed, or "" if all passed. A failed build is
// an error.
func (l *lab) test(ctx context.Context, module, overlay string, args ...string) (killer string, err error) {
	flags := []string{"test", "-json", "-vet=off", "-short", "-failfast", "-count=1", "-ldflags=-s -w", "-timeout=" + timeout}
	if overlay != "" {
		flags = append(flags, "-overlay="+overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(flags, args...)...)
	cmd.Dir = filepath.Join(l.root, module)
	text, err := cmd.Output()
	if err == nil {
		return "", nil
	}
	var said strings.Builder
	lines := json.NewDecoder(bytes.NewReader(text))
	for {
		var e event
		if lines.Decode(&e) != nil {
			break
		}
		switch {
		case e.Action == "build-fail":
			return "", fmt.Errorf("does not build:\n%s", said.String())
		case e.Action == "fail" && e.Test != "":
			return filepath.Base(e.Package) + "." + e.Test, nil
		case e.Action == "build-output", e.Test == "":
			said.WriteString(e.Output)
		}
	}
	return "", fmt.Errorf("go test failed, but no test did: %w\n%s", err, said.String())
}

// report prints a line for each mutant, and fails if one survived.
func report(out io.Writer, mutants []*mutant, took time.Duration) error {
	var errs []error
	fmt.Fprintln(out, "| Mutant | Killed by | And, of a user's tests, by |")
	fmt.Fprintln(out, "|---|---|---|")
	for _, m := range mutants {
		byUser := m.userKiller
		switch {
		case m.err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", m.name, m.err))
			continue
		case m.killer == "":
			errs = append(errs, fmt.Errorf("%s survived the tests of the project", m.name))
		case m.user && byUser == "":
			errs = append(errs, fmt.Errorf("%s survived the tests of a user", m.name))
		case !m.user:
			byUser = "(not to be seen)"
		}
		fmt.Fprintf(out, "| %s | %s | %s |\n", m.what, m.killer, byUser)
	}
	fmt.Fprintf(out, "\n%d mutants in %s\n", len(mutants), took.Round(time.Second))
	return errors.Join(errs...)
}
