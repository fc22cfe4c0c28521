// Command mutants breaks the library on purpose and sees whether the tests
// notice. Each patch beside this file is one breakage; it is applied to a copy
// of the files that it touches, and go test -overlay builds with that copy, so
// that the tree itself is never changed.
//
// A patch begins with what it breaks, the packages whose tests must notice, the
// test that is asked before the others, to save time, and whether a user would
// notice:
//
//	Let tokens for every audience in.
//
//	Tests: ./internal/oidc .
//	First: ./internal/oidc TestJunkCostsNoFetch
//	User: yes
//
// It fails when a mutant survives, does not build, or no longer applies.
//
//	go run ./internal/mutants [name...]
package main

import (
	"bufio"
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
	"regexp"
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

	// A breakage may also show in a test that never ends.
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

// mutant is one patch and what became of it.
type mutant struct {
	name, what string
	tests      []string // packages
	first      []string // a package and a test in it; may be empty
	user       bool     // whether a user would notice
	patch      []byte
	files      []string // that it touches

	killer, userKiller string // the test that noticed; "" if none did
	err                error
}

func readAll(root string, names []string) ([]*mutant, error) {
	paths, err := filepath.Glob(filepath.Join(root, folder, "*.patch"))
	if err != nil {
		return nil, err
	}
	var all []*mutant
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".patch")
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
		return nil, fmt.Errorf("%d patches found of %q", len(all), names)
	}
	return all, nil
}

var touched = regexp.MustCompile(`(?m)^\+\+\+ b/(\S+)$`)

func parse(name string, text []byte) (*mutant, error) {
	m := &mutant{name: name, patch: text}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "--- ") {
		key, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case key == "Tests":
			m.tests = strings.Fields(value)
		case key == "First":
			m.first = strings.Fields(value)
		case key == "User" && (value == "yes" || value == "no"):
			m.user = value == "yes"
		case m.what == "":
			m.what = strings.TrimSuffix(lines.Text(), ".")
		}
	}
	for _, file := range touched.FindAllSubmatch(text, -1) {
		m.files = append(m.files, string(file[1]))
	}
	if m.what == "" || len(m.tests) == 0 || len(m.files) == 0 {
		return nil, errors.New("it needs a first line, Tests and a patch")
	}
	return m, lines.Err()
}

// lab runs tests on copies.
type lab struct{ root, scratch string }

// healthy sees that what is to fail passes while nothing is broken.
func (l *lab) healthy(ctx context.Context, mutants []*mutant) error {
	packages := []string{userTests}
	for _, m := range mutants {
		packages = append(packages, m.tests...)
	}
	slices.Sort(packages)
	killer, err := l.test(ctx, "", slices.Compact(packages)...)
	if err != nil {
		return err
	}
	if killer != "" {
		return fmt.Errorf("%s fails with nothing broken", killer)
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
	overlay, err := l.apply(ctx, m)
	if err != nil {
		return err
	}
	if len(m.first) == 2 {
		m.killer, err = l.test(ctx, overlay, "-run=^"+m.first[1]+"$", m.first[0])
	}
	if m.killer == "" && err == nil {
		m.killer, err = l.test(ctx, overlay, m.tests...)
	}
	if m.user && err == nil {
		m.userKiller, err = l.test(ctx, overlay, userTests)
	}
	return err
}

// apply patches copies of the files and returns the overlay that has them in
// the place of the originals.
func (l *lab) apply(ctx context.Context, m *mutant) (string, error) {
	dir := filepath.Join(l.scratch, m.name)
	replace := make(map[string]string)
	for _, file := range m.files {
		original, broken := filepath.Join(l.root, file), filepath.Join(dir, file)
		text, err := os.ReadFile(original)
		if err != nil {
			return "", err
		}
		if err := os.MkdirAll(filepath.Dir(broken), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(broken, text, 0o600); err != nil {
			return "", err
		}
		replace[original] = broken
	}
	// Outside of any repository, git apply is a patch that allows no fuzz.
	cmd := exec.CommandContext(ctx, "git", "apply", "-")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(m.patch)
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+l.scratch)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the patch no longer applies: %s", bytes.TrimSpace(text))
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

// test returns the first test that failed, "" if all passed. What does not
// build is an error: it is no mutant.
func (l *lab) test(ctx context.Context, overlay string, args ...string) (killer string, err error) {
	flags := []string{"test", "-json", "-vet=off", "-short", "-failfast", "-count=1", "-ldflags=-s -w", "-timeout=" + timeout}
	if overlay != "" {
		flags = append(flags, "-overlay="+overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(flags, args...)...)
	cmd.Dir = l.root
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
			return "", fmt.Errorf("it does not build:\n%s", said.String())
		case e.Action == "fail" && e.Test != "":
			return filepath.Base(e.Package) + "." + e.Test, nil
		case e.Action == "build-output", e.Test == "":
			said.WriteString(e.Output)
		}
	}
	return "", fmt.Errorf("go test failed, and no test did: %w\n%s", err, said.String())
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
